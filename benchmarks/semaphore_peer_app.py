"""Synthesizes the peer: the PyPI package `state-machine-semaphore`, as its README shows it.

``python -m benchmarks.semaphore_peer_app OUTDIR LIMIT JOB_SECONDS SIZE…`` runs with the packages of
peer-requirements.txt, which the library does not depend on. A lock has one name for good, so that every size has a
state machine of its own.
"""

import sys

import aws_cdk as cdk
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct
from state_machine_semaphore import Semaphore  # type: ignore[import-not-found]


def main(outdir: str, limit: int, job_seconds: int, sizes: list[int]) -> None:
    app = cdk.App(outdir=outdir, analytics_reporting=False)
    stack = cdk.Stack(app, "Bench")
    for size in sizes:
        scope = Construct(stack, f"Size{size}")
        # In the order of semaphore_designs.py; the state after the job is one that the package asks for.
        job = sfn.Wait(scope, "Job", time=sfn.WaitTime.duration(cdk.Duration.seconds(job_seconds)))
        limited = Semaphore(
            scope, "Limited", lock_name=f"size-{size}", limit=limit, job=job, next_state=sfn.Succeed(scope, "Done")
        )
        machine = sfn.StateMachine(scope, "Machine", definition_body=sfn.DefinitionBody.from_chainable(limited))
        cdk.CfnOutput(stack, f"Size{size}Output", value=machine.state_machine_arn)
    app.synth()


if __name__ == "__main__":
    _, folder, most, seconds, *wanted = sys.argv
    main(folder, int(most), int(seconds), [int(size) for size in wanted])
