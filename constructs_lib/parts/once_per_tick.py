"""The states that run a job once for each tick of its schedule, however often that tick is delivered.

Every tick is an item of its own, with the scheduled time as its key, and stays: one item for "the last tick that ran"
would lose a tick that is delivered late, after the one that follows it. States in JSONPath cannot reckon with times,
so there is no time to live. An item takes about 300 bytes: a schedule that ticks each minute adds 160 MB in a year.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .handlers import task_state
from .job import TICK, BoundJob, Job
from .retry import RetryPolicy

_TIME = f"$.{TICK}.time"

# The optimized integration's name of the answer that the tick has run, as in the sample of AWS:
# https://github.com/aws-samples/aws-stepfunctions-examples/tree/main/sam/app-control-concurrency-with-dynamodb
_HAS_RUN = "DynamoDB.ConditionalCheckFailedException"

# The table is away: up to 4 minutes of asking again.
_RETRY = RetryPolicy(max_attempts=9, interval=Duration.seconds(1))


class Ticks(Construct):
    """The ticks of one schedule that have run, and which execution ran each. Creates a table.

    Args:
        scope: The parent.
        id_: Unique within the scope.
    """

    def __init__(self, scope: Construct, id_: str) -> None:
        super().__init__(scope, id_)
        self.table = dynamodb.Table(
            self,
            "Table",
            partition_key=dynamodb.Attribute(name="tick", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            # Without its schedule it is of no use.
            removal_policy=RemovalPolicy.DESTROY,
        )


@dataclass(frozen=True, kw_only=True)
class JobOncePerTick:
    """A job that is run once for each tick: a second delivery ends at once, SUCCEEDED, and tells nobody.

    Is there a tick? -> Note the tick -> the job
                                      -> (noted by another execution) Delivered twice
                     -> (started by hand) the job

    The tick is the scheduled time at ``$.tick.time``. A second delivery ends with ``{"duplicate": true}`` beside it,
    also while the first run is at work, and also if that failed. Who notes first is decided by a conditional write; a
    write that is tried again because its answer was lost finds its own execution in the table, and runs the job. When
    the table cannot be reached for 4 minutes the job is run: a run twice is better than none.

    Args:
        job: What to run.
        ticks: Where the ticks that have run are kept: those of this job's schedule only.
    """

    job: Job
    ticks: Ticks

    def bind(self, scope: Construct, *, on_failure: sfn.IChainable) -> BoundJob:
        """See `Job.bind`."""
        job = self.job.bind(scope, on_failure=on_failure)
        note = task_state(scope, "Note the tick", "dynamodb:putItem", self._item())
        # Before the wildcard: to ask again would not change this answer.
        note.add_retry(errors=[_HAS_RUN], max_attempts=0)
        _RETRY.apply_to(note, errors=["States.ALL"])
        twice = sfn.Pass(
            scope, "Delivered twice", result=sfn.Result.from_boolean(True), result_path=f"$.{TICK}.duplicate"
        )
        note.add_catch(twice, errors=[_HAS_RUN], result_path=sfn.JsonPath.DISCARD)
        note.add_catch(job.chain, errors=["States.ALL"], result_path=sfn.JsonPath.DISCARD)
        note.next(job.chain)

        start = (
            sfn.Choice(scope, "Is there a tick?")
            .when(sfn.Condition.is_present(_TIME), note, comment="tick")
            .otherwise(job.chain)
        )
        statement = iam.PolicyStatement(actions=["dynamodb:PutItem"], resources=[self.ticks.table.table_arn])
        return replace(
            job,
            chain=sfn.Chain.custom(start, job.chain.end_states, job.chain),
            statements=[*job.statements, statement],
            longest_run=job.longest_run.plus(_RETRY.longest_pause),
        )

    def description(self) -> Mapping[str, Any]:
        """See `Job.description`."""
        return self.job.description()

    def log_group_arns(self) -> Sequence[str]:
        """See `Job.log_group_arns`."""
        return self.job.log_group_arns()

    def input_paths(self) -> Sequence[str]:
        """See `Job.input_paths`. The tick need not exist."""
        return self.job.input_paths()

    def _item(self) -> Mapping[str, Any]:
        this_execution = {"S.$": "$$.Execution.Id"}
        return {
            "TableName": self.ticks.table.table_name,
            "Item": {"tick": {"S.$": _TIME}, "execution": this_execution},
            "ConditionExpression": "attribute_not_exists(tick) OR execution = :execution",
            "ExpressionAttributeValues": {":execution": this_execution},
        }
