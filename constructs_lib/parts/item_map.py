"""A job for each of many items, and the account of what became of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws_cdk import ArnFormat, Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .batch import Batch
from .chain_job import ChainJob
from .failure_tolerance import FailureTolerance
from .guard import GuardedJob
from .item_job import CONSTANTS, ITEM, RUN
from .item_source import ItemSource
from .job import ERROR, LONGEST_EXECUTION, RESULT, BoundJob
from .lambda_job import LambdaJob
from .results_bucket import RUNS, writing_runs
from .retry import RetryPolicy
from .semaphore import SharedSemaphore
from .telling import Telling
from .wildcard_acknowledgement import acknowledge_wildcard
from .work import AnyWork

FUNCTION_TIMEOUT = Duration.minutes(15)
"""How long the functions may take that plan and account, the longest that Lambda allows."""

AGAIN = "again"
"""The key of the input that a new execution takes to do again what failed."""

NOTICES = "notices"

# What the functions answer on purpose. To ask again would not change the answer.
_ANSWERS = [
    "BadInput",
    "ItemsNotFound",
    "ItemsNotReadable",
    "NoItems",
    "RerunByRedrive",
    "RunNotEnded",
    # Nor would there be more time.
    "TimeIsOverError",
]

# The function, or what it asks, is away: up to 2 minutes of asking again.
_RETRY = RetryPolicy(max_attempts=5, interval=Duration.seconds(2))

# The errors of the Map, which are not caught so that it can be redriven, and those that no state can catch.
# https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
_UNCAUGHT = {"prefix": "States."}

# Without it, CDK leaves the ResultWriter out, and its permissions with it, and says nothing.
# https://github.com/aws/aws-cdk/blob/main/packages/aws-cdk-lib/cx-api/FEATURE_FLAGS.md
_WRITES_RESULTS = "@aws-cdk/aws-stepfunctions:useDistributedMapResultWriterV2"


@dataclass(frozen=True, kw_only=True)
class ItemMap:
    """Plans which items there are, has each processed by an execution of its own, and accounts for all of them.

    Plan -> (nothing to do, or only counted) SUCCEEDED
         -> (there is more to list) Go on planning -> …
         -> Process items (a distributed Map) -> Account -> (too many failed) on_failure
                                                         -> (else) the end, with the account as output

    The Map is not caught: a redrive resumes an execution at the state that failed, and would find the work done if
    that were a Fail state. What fails with the Map's own error is in ``uncaught``, and told from outside.

    Args:
        source: Where the items come from.
        work: What is done with each item, or batch of them.
        plan: The function that finds the items, and writes those down that are not in a file.
        account: The function that says what became of them.
        results: Where the functions and the Map write.
        settings: What the functions know of all this.
        tolerance: How many items may fail.
        batch: How many items are processed at once. Default: one.
        constants: What each item or batch gets beside it.
        express: Whether the children are Express workflows.
        max_concurrency: How many children at once.
        label: Names the Map in the ARNs of its runs and children.
        semaphore: Each child takes a permit of it. Default: none.
        notices: Tells of the notices that items left.
    """

    source: ItemSource
    work: AnyWork
    plan: lambda_.IFunction
    account: lambda_.IFunction
    results: s3.IBucket
    settings: Mapping[str, Any]
    tolerance: FailureTolerance
    batch: Batch | None
    constants: Mapping[str, Any]
    express: bool
    max_concurrency: int
    label: str
    semaphore: SharedSemaphore | None
    notices: Telling

    def bind(self, scope: Construct, *, on_failure: sfn.IChainable) -> BoundJob:
        """See `Job.bind`."""
        child = self._child(scope)
        end = sfn.Pass(scope, "All items are accounted for")
        judge = (
            sfn.Choice(scope, "Did too many items fail?")
            .when(sfn.Condition.boolean_equals("$.failed", True), on_failure, comment="yes")
            .otherwise(end)
        )
        account = account_state(
            scope,
            self.account,
            {
                "execution": {**_EXECUTION, "stateMachine.$": "$$.StateMachine.Id"},
                "plan.$": "$.plan",
                "map.$": "$.map",
                "settings": self.settings,
            },
        )
        # The planner of the next execution makes the account that is missing.
        resume = sfn.Pass(
            scope,
            "Run again what failed",
            parameters={"rerun": {"execution.$": "$$.Execution.Id"}},
            result_path=f"$.{AGAIN}",
        )
        account.add_catch(resume.next(on_failure), errors=["States.ALL"], result_path=f"$.{ERROR}")
        account.next(tell_notices(scope, self.notices, then=judge))
        process = self._map(scope, child.chain).next(account)

        plan, go_on = (
            self._plan(scope, "Plan", {"state": {}}),
            self._plan(scope, "Go on planning", {"state.$": "$.plan"}),
        )
        restart = sfn.Pass(scope, "Run all again", input_path="$$.Execution.Input", result_path=f"$.{AGAIN}")
        restart.next(on_failure)
        planned = (
            sfn.Choice(scope, "What is to be done?")
            .when(sfn.Condition.string_equals("$.plan.next", "map"), process, comment="items")
            .when(sfn.Condition.string_equals("$.plan.next", "more"), go_on, comment="more to list")
            .otherwise(sfn.Succeed(scope, "Nothing is to be done"))
        )
        for state in (plan, go_on):
            state.add_catch(restart, errors=["States.ALL"], result_path=f"$.{ERROR}")
            state.next(planned)
        functions = [self.plan.function_arn, self.account.function_arn]
        return BoundJob(
            chain=sfn.Chain.custom(plan, [end], end),
            statements=[
                iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=functions),
                *child.statements,
            ],
            # How many items there are, nobody knows.
            longest_run=LONGEST_EXECUTION,
            security_groups=child.security_groups,
            connections=[
                *([] if self.semaphore is None else [_OfChildren(self.semaphore, self.label)]),
                *self.source.reading,
                writing_runs(self.results, listing=False),
                self.notices,
                _MapRuns(self.label),
            ],
            uncaught=[_UNCAUGHT],
            acknowledgements=child.acknowledgements,
        )

    def description(self) -> Mapping[str, Any]:
        """See `Job.description`."""
        return {"kind": "map", "again": f"$.{AGAIN}", "work": self.work.description()}

    def log_group_arns(self) -> Sequence[str]:
        """See `Job.log_group_arns`. None: an alert is about many items."""
        return []

    def input_paths(self) -> Sequence[str]:
        """See `Job.input_paths`. None: the planner says what it misses."""
        return []

    # --- states -----------------------------------------------------------------------------------------

    def _plan(self, scope: Construct, name: str, state: Mapping[str, Any]) -> sfn.CustomState:
        payload = {
            "input.$": "$$.Execution.Input",
            "execution": _EXECUTION,
            "source": self.settings["source"],
            **state,
        }
        # In place of the input, which may take all of the 256 KiB that a state may hand on.
        return _call(scope, name, self.plan, payload, {"ResultSelector": {"plan.$": "$.Payload"}}, {})

    def _map(self, scope: Construct, child: sfn.Chain) -> sfn.DistributedMap:
        added = {f"{RUN}.$": "$.plan.run", CONSTANTS: dict(self.constants)}
        if self.batch is None:
            each: Mapping[str, Any] = {"item_selector": {f"{ITEM}.$": "$$.Map.Item.Value", **added}}
        else:
            each = {
                "item_batcher": sfn.ItemBatcher(
                    max_items_per_batch=self.batch.max_items,
                    max_input_bytes_per_batch=self.batch.max_bytes,
                    batch_input=added,
                )
            }
        kind = sfn.StateMachineType.EXPRESS if self.express else sfn.StateMachineType.STANDARD
        items = sfn.DistributedMap(
            scope,
            "Process items",
            label=self.label,
            item_reader=_Reader(self.source.reader_config()),
            map_execution_type=kind,
            max_concurrency=self.max_concurrency,
            tolerated_failure_count=self.tolerance.failure_count,
            tolerated_failure_percentage=self.tolerance.failure_percentage,
            result_writer_v2=_Writer(
                bucket=self.results,
                prefix=sfn.JsonPath.format(f"{RUNS}{{}}/map", sfn.JsonPath.execution_name),
            ),
            result_path="$.map",
            **each,
        )
        # Its own, whatever the app says.
        items.node.set_context(_WRITES_RESULTS, True)
        return items.item_processor(child)

    def _child(self, scope: Construct) -> BoundJob:
        """As few states as can be: each is paid for with each item."""
        if self.semaphore is None and isinstance(self.work, LambdaJob):
            return self.work.bind(scope, on_failure=None)
        if self.semaphore is None and isinstance(self.work, ChainJob):
            return BoundJob(chain=sfn.Chain.start(self.work.chain), statements=[], longest_run=LONGEST_EXECUTION)
        failed = sfn.Fail(scope, "Item failed", error_path=f"$.{ERROR}.Error", cause_path=f"$.{ERROR}.Cause")
        if self.semaphore is None:
            return self.work.bind(scope, on_failure=failed)
        # The answer alone, as without a permit.
        outputs: Mapping[type, str] = {LambdaJob: f"$.{RESULT}.Payload", ChainJob: f"$.{RESULT}.output"}
        guarded = GuardedJob(
            job=self.work, semaphore=self.semaphore, id="quota", output_path=outputs.get(type(self.work))
        )
        return guarded.bind(scope, on_failure=failed)


_EXECUTION = {"id.$": "$$.Execution.Id", "name.$": "$$.Execution.Name", "startTime.$": "$$.Execution.StartTime"}


def account_state(
    scope: Construct,
    function: lambda_.IFunction,
    payload: Mapping[str, Any],
    *,
    patience: Mapping[str, RetryPolicy] | None = None,
) -> sfn.CustomState:
    """The state that accounts for all items of a run. Its output is the account.

    `patience` has the retries of errors that are to be expected.
    """
    return _call(scope, "Account for all items", function, payload, {"OutputPath": "$.Payload"}, patience or {})


def tell_notices(scope: Construct, notices: Telling, *, then: sfn.IChainable) -> sfn.IChainable:
    """Tells of the notices that an account has, if there are any, and goes on to `then`."""
    if not notices.handlers:
        return then
    return (
        sfn.Choice(scope, "Are there notices?")
        .when(sfn.Condition.is_present(f"$.{NOTICES}.count"), notices.states(scope, then=then), comment="notices")
        .otherwise(then)
    )


def _call(
    scope: Construct,
    name: str,
    function: lambda_.IFunction,
    payload: Mapping[str, Any],
    result: Mapping[str, Any],
    patience: Mapping[str, RetryPolicy],
) -> sfn.CustomState:
    state = sfn.CustomState(
        scope,
        name,
        state_json={
            "Type": "Task",
            "Resource": f"arn:{Stack.of(scope).partition}:states:::lambda:invoke",
            "Parameters": {"FunctionName": function.function_arn, "Payload": payload},
            **result,
            "TimeoutSeconds": int(FUNCTION_TIMEOUT.plus(Duration.minutes(1)).to_seconds()),
        },
    )
    # Before the wildcard: the first that matches decides.
    for error, policy in patience.items():
        policy.apply_to(state, errors=[error])
    state.add_retry(errors=_ANSWERS, max_attempts=0)
    _RETRY.apply_to(state, errors=["States.ALL"])
    return state


class _Reader(sfn.S3JsonItemReader):
    """Reads the file that the planner named, of any format: CDK has no reader for Parquet."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(
            bucket_name_path=sfn.JsonPath.string_at("$.plan.items.bucket"),
            key=sfn.JsonPath.string_at("$.plan.items.key"),
        )
        self._config = dict(config)

    def render(self, query_language: sfn.QueryLanguage | None = None) -> Any:
        """As the Map has it."""
        return {**super().render(query_language), "ReaderConfig": self._config}


class _Writer(sfn.ResultWriterV2):
    """Writes the results. CDK's own would allow all of the bucket."""

    def provide_policy_statements(self) -> list[iam.PolicyStatement]:
        """None here: see `writing_runs`."""
        return []


@dataclass(frozen=True)
class _OfChildren:
    """Connects a semaphore to the children of the Map, which are executions of their own."""

    semaphore: SharedSemaphore
    label: str

    def connect(self, state_machine: sfn.StateMachine) -> None:
        """See `Connection.connect`."""
        self.semaphore.connect(state_machine, map_label=self.label)


@dataclass(frozen=True)
class _MapRuns:
    """Explains what CDK allows a state machine with a distributed Map: what AWS says it needs.

    https://docs.aws.amazon.com/step-functions/latest/dg/iam-policies-eg-dist-map.html
    """

    label: str

    def connect(self, state_machine: sfn.StateMachine) -> None:
        """See `Connection.connect`."""
        policy = state_machine.node.find_child("DistributedMapPolicy")
        # As CDK writes it, not as `executions_of` does.
        stack = Stack.of(state_machine)
        name = stack.split_arn(state_machine.state_machine_arn, ArnFormat.COLON_RESOURCE_NAME).resource_name
        for executions, reason in (
            (name, "The name of an execution is not known before it is started; all are of this one state machine."),
            (
                f"{name}/{self.label}",
                "The name of a child is not known before it is started; all are of this one Map.",
            ),
        ):
            arn = stack.format_arn(
                service="states",
                resource="execution",
                resource_name=f"{executions}:*",
                arn_format=ArnFormat.COLON_RESOURCE_NAME,
            )
            acknowledge_wildcard(policy, arn, reason)
