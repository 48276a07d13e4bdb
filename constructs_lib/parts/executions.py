"""The executions of a state machine, also of one that was made elsewhere: their ARN, and rules on how they end."""

from collections.abc import Sequence

from aws_cdk import ArnFormat, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct, IConstruct

from .validation import invalid
from .wildcard_acknowledgement import acknowledge_wildcard


def require_standard(where: Construct, argument: str, state_machine: sfn.IStateMachine) -> None:
    """Refuses what is no state machine, or one whose executions end unseen.

    Of an imported one, the type is not known.
    """
    if not hasattr(state_machine, "state_machine_arn"):
        raise invalid(where, argument, "must be a state machine", state_machine, "Pass the sfn.StateMachine itself.")
    type_ = getattr(state_machine, "state_machine_type", None)
    if type_ == sfn.StateMachineType.EXPRESS:
        # https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
        raise invalid(
            where,
            argument,
            "must be a Standard workflow: nobody is told how an Express one ends",
            state_machine.node.path,
            "Leave out state_machine_type.",
        )


def executions_of(state_machine: sfn.IStateMachine, *, label: str | None = None) -> str:
    """The ARN of all executions of a state machine, which is in the account and region of its stack.

    With `label`, that of all children of its distributed Map of this label instead.
    """
    return _arn_of_all(state_machine, "execution", label)


def map_runs_of(state_machine: sfn.IStateMachine, label: str) -> str:
    """The ARN of all map runs of a distributed Map."""
    return _arn_of_all(state_machine, "mapRun", label)


def _arn_of_all(state_machine: sfn.IStateMachine, resource: str, label: str | None) -> str:
    """https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsstepfunctions.html"""
    stack = Stack.of(state_machine)
    if isinstance(state_machine, sfn.StateMachine):
        name = state_machine.state_machine_name
    else:
        # Of an ARN there always is one.
        name = stack.split_arn(state_machine.state_machine_arn, ArnFormat.COLON_RESOURCE_NAME).resource_name or ""
    return stack.format_arn(
        service="states",
        resource=resource,
        resource_name=f"{name if label is None else f'{name}/{label}'}:*",
        arn_format=ArnFormat.COLON_RESOURCE_NAME,
    )


def acknowledge_executions(policy: IConstruct, state_machine: sfn.IStateMachine, *, label: str | None = None) -> None:
    """Says why a policy is for all executions of a state machine (`executions_of`)."""
    reason = "The name of an execution is not known before it is started; all are of this one state machine."
    acknowledge_wildcard(policy, executions_of(state_machine, label=label), reason)


def acknowledge_map_runs(policy: IConstruct, state_machine: sfn.IStateMachine, label: str) -> None:
    """Says why a policy is for all map runs of a distributed Map (`map_runs_of`)."""
    reason = "The name of a map run is not known before it is started; all are of this one Map."
    acknowledge_wildcard(policy, map_runs_of(state_machine, label), reason)


def beside(state_machine: sfn.IStateMachine, id_: str) -> Construct:
    """A new place for what belongs to a state machine, in its stack."""
    scope: IConstruct | None = state_machine
    own_id = id_
    if not isinstance(state_machine, Construct):
        # To Python, an imported one is no construct that could be a parent.
        scope, own_id = state_machine.node.scope, f"{state_machine.node.id}{id_}"
    assert isinstance(scope, Construct)
    return Construct(scope, own_id)


def endings(state_machine: sfn.IStateMachine, statuses: Sequence[str]) -> events.EventPattern:
    """The executions of `state_machine` that ended with one of `statuses`.

    https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
    """
    return events.EventPattern(
        source=["aws.states"],
        detail_type=["Step Functions Execution Status Change"],
        detail={"stateMachineArn": [state_machine.state_machine_arn], "status": list(statuses)},
    )
