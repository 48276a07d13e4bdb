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


def executions_of(state_machine: sfn.IStateMachine) -> str:
    """The ARN of all executions of a state machine, which is in the account and region of its stack."""
    stack = Stack.of(state_machine)
    if isinstance(state_machine, sfn.StateMachine):
        name = state_machine.state_machine_name
    else:
        # Of an ARN there always is one.
        name = stack.split_arn(state_machine.state_machine_arn, ArnFormat.COLON_RESOURCE_NAME).resource_name or ""
    return stack.format_arn(
        service="states",
        resource="execution",
        resource_name=f"{name}:*",
        arn_format=ArnFormat.COLON_RESOURCE_NAME,
    )


def acknowledge_executions(policy: IConstruct, state_machine: sfn.IStateMachine) -> None:
    """Says why a policy is for all executions of a state machine (`executions_of`)."""
    reason = "The name of an execution is not known before it is started; all are of this one state machine."
    acknowledge_wildcard(policy, executions_of(state_machine), reason)


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
