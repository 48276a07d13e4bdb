"""One cold process: synthesizes the same scheduled Fargate task with the library, or in plain CDK.

``python -m benchmarks.synth_app (library|plain) OUTDIR`` prints how long each part took, in seconds, as JSON.
"""

import json
import sys
import time
from importlib import import_module
from pathlib import Path

FLAGS = Path(__file__).parent.parent / "cdk.json"


def main(variant: str, outdir: str) -> None:
    seconds: dict[str, float] = {}
    last = time.perf_counter()

    def lap(part: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[part], last = now - last, now

    # The first package made with jsii starts Node.
    import_module("constructs")
    lap("kernel start")

    import aws_cdk as cdk
    from aws_cdk import aws_ec2 as ec2
    from aws_cdk import aws_ecs as ecs
    from aws_cdk import aws_logs as logs

    add_nightly_report = import_module(f"benchmarks.synth_{variant}").add_nightly_report
    lap("import")

    app = cdk.App(outdir=outdir, context=json.loads(FLAGS.read_text())["context"], analytics_reporting=False)
    stack = cdk.Stack(app, "Stack")
    cluster = ecs.Cluster(stack, "Cluster", vpc=ec2.Vpc(stack, "Vpc", max_azs=2))
    task_log = logs.LogGroup(stack, "TaskLog")
    task_definition = ecs.FargateTaskDefinition(stack, "Task")
    task_definition.add_container(
        "report",
        image=ecs.ContainerImage.from_registry("public.ecr.aws/docker/library/python:3.13-alpine"),
        logging=ecs.LogDriver.aws_logs(stream_prefix="nightly", log_group=task_log),
    )
    lap("surroundings")

    add_nightly_report(stack, cluster, task_definition, task_log)
    lap("constructs")

    app.synth()
    lap("synth")
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
