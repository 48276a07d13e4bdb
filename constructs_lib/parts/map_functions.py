"""The functions of a map: one plans, one accounts, one is for operators."""

from aws_cdk import Duration
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .executions import acknowledge_executions, acknowledge_map_runs, executions_of, map_runs_of
from .functions import make_function
from .item_map import FUNCTION_TIMEOUT
from .item_source import ItemSource
from .results_bucket import reading_runs, writing_runs

# They read files of any length in little of it. With the memory comes the processor:
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
_MEMORY = 1024

# An operator waits for the answer.
_OPERATOR_TIMEOUT = Duration.minutes(5)


class MapFunctions(Construct):
    """The functions that a state machine with an `ItemMap` calls.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        source: What the planner reads.
        results: Where both write.
        log_retention: How long their logs are kept.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        source: ItemSource,
        results: s3.IBucket,
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, id_)

        def make(id_: str, what: str) -> lambda_.Function:
            return make_function(
                self,
                id_,
                handler=f"distributed_map.{id_.lower()}.handle",
                description=f"{what} {scope.node.path}",
                # What they must know is in what they are called with.
                environment={},
                # The state machine calls it, and again where it fails.
                dead_letter_queue=None,
                log_retention=log_retention,
                timeout=FUNCTION_TIMEOUT,
                memory_size=_MEMORY,
            )

        self.plan = make("Plan", "Finds the items of")
        self.account = make("Account", "Accounts for the items of")
        for access in source.planning:
            access.allow(self.plan.role)
        for function in (self.plan, self.account):
            writing_runs(results, listing=True).allow(function.role)

    def ask(self, state_machine: sfn.StateMachine, label: str) -> None:
        """Lets them ask what became of the executions of the state machine that calls them, and of its Map."""
        _allow_questions(self, state_machine, label, self.plan, self.account)


class MapOperator(Construct):
    """The function for operators: runs again what failed, changes a map while it runs, and tells how it stands.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        state_machine: What it operates.
        label: Of the Map in it.
        children_begin_anew: Whether a child that did not succeed is not to be redriven (`must_begin_anew`).
        results: Where the accounts are.
        log_retention: How long its log is kept.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        state_machine: sfn.StateMachine,
        label: str,
        children_begin_anew: bool,
        results: s3.IBucket,
        log_retention: logs.RetentionDays,
    ) -> None:
        super().__init__(scope, id_)
        self.function = make_function(
            self,
            "Function",
            handler="distributed_map.operate.handle",
            description=f"Operates {scope.node.path}",
            environment={
                "STATE_MACHINE_ARN": state_machine.state_machine_arn,
                "RESULTS_BUCKET": results.bucket_name,
                **({"CHILDREN_BEGIN_ANEW": "yes"} if children_begin_anew else {}),
            },
            # Who invokes it sees what came of it.
            dead_letter_queue=None,
            log_retention=log_retention,
            timeout=_OPERATOR_TIMEOUT,
        )
        reading_runs(results).allow(self.function.role)
        _allow_questions(self, state_machine, label, self.function)
        assert self.function.role is not None
        policy = iam.Policy(
            self,
            "Operate",
            roles=[self.function.role],
            statements=[
                iam.PolicyStatement(
                    actions=["states:ListExecutions", "states:StartExecution"],
                    resources=[state_machine.state_machine_arn],
                ),
                iam.PolicyStatement(actions=["states:RedriveExecution"], resources=[executions_of(state_machine)]),
                iam.PolicyStatement(actions=["states:UpdateMapRun"], resources=[map_runs_of(state_machine, label)]),
            ],
        )
        acknowledge_executions(policy, state_machine)
        acknowledge_map_runs(policy, state_machine, label)


def _allow_questions(
    scope: Construct, state_machine: sfn.StateMachine, label: str, *functions: lambda_.Function
) -> None:
    # A policy of its own: the state machine needs the functions, and these the policies of their roles.
    policy = iam.Policy(
        scope,
        "Ask",
        roles=[function.role for function in functions if function.role is not None],
        statements=[
            iam.PolicyStatement(
                actions=["states:DescribeExecution", "states:ListMapRuns"], resources=[executions_of(state_machine)]
            ),
            iam.PolicyStatement(actions=["states:DescribeMapRun"], resources=[map_runs_of(state_machine, label)]),
        ],
    )
    acknowledge_executions(policy, state_machine)
    acknowledge_map_runs(policy, state_machine, label)
