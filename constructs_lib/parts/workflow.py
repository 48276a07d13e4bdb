"""The one place that builds a state machine around a job."""

from collections.abc import Mapping, Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .acknowledgements import acknowledge
from .alarms import alarm_on
from .execution_log import execution_log
from .handlers import Handler, Message, Watcher
from .job import ERROR, LONGEST_EXECUTION, TIME_FOR_HANDLERS, Job
from .telling import Telling

# Endings that the state machine itself cannot see.
_UNSEEN_ERRORS = ("States.Runtime", "States.DataLimitExceeded")


class Workflow(Construct):
    """Runs a job, tells the handlers in order when it failed, and then fails with the job's own error.

    job -> (on success) handlers -> SUCCEEDED
        -> (on failure) handlers -> FAILED

    Handlers are called one after the other; one that cannot be reached never keeps the next from being told,
    and what it should have been told waits in the dead-letter queue. Endings that no Catch can see (execution
    timeout, abort, runtime errors) are told to the same handlers by an EventBridge rule.

    Creates the state machine with its role, a log group (``/aws/vendedlogs/states/…``, level ALL), X-Ray traces,
    the rule, and alarms on failed, timed out, aborted and throttled executions.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        job: What to run.
        name: What people call this job; it heads every alert.
        dead_letters: Keeps what could not be told.
        on_failure: Who is told of a failure.
        on_success: Who is told of a success.
        on_unseen_ending: Who is told of endings that no Catch can see. Default: ``on_failure``.
        state_machine_name: Default: a name that CloudFormation makes up.
        timeout: When the execution is timed out. Default: what the job can take at most, and 15 minutes for the
            handlers.
        fail_execution: Whether an execution whose job failed ends FAILED (default) or, after the handlers,
            SUCCEEDED.
        log_execution_data: Whether inputs and outputs are logged. Default True.
        log_retention: How long the log is kept. Default 3 months.
        alarm_actions: What the alarms do. Default: nothing; they are still visible in the console.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        job: Job,
        name: str,
        dead_letters: sqs.IQueue,
        on_failure: Sequence[Handler],
        on_success: Sequence[Handler] = (),
        on_unseen_ending: Sequence[Watcher] | None = None,
        state_machine_name: str | None = None,
        timeout: Duration | None = None,
        fail_execution: bool = True,
        log_execution_data: bool = True,
        log_retention: logs.RetentionDays = logs.RetentionDays.THREE_MONTHS,
        alarm_actions: Sequence[cloudwatch.IAlarmAction] = (),
    ) -> None:
        super().__init__(scope, id_)
        self._dead_letters = dead_letters
        self._description = {"name": name, **job.description()}

        failed = self._ending("Failed", fail_execution=fail_execution)
        failure, success = self._telling("Failure", on_failure), self._telling("Success", on_success)
        self.job = job.bind(self, on_failure=failure.states(self, then=failed, job=job))
        definition = self.job.chain
        if on_success:
            told = sfn.Succeed(self, "Success told")
            definition = definition.next(success.states(self, then=told, job=job))

        self.log_group = execution_log(self, "Log", retention=log_retention)
        self.state_machine = sfn.StateMachine(
            self,
            "Resource",
            state_machine_name=state_machine_name,
            definition_body=sfn.DefinitionBody.from_chainable(definition),
            query_language=sfn.QueryLanguage.JSON_PATH,
            timeout=timeout or self._longest_execution(),
            logs=sfn.LogOptions(
                destination=self.log_group,
                level=sfn.LogLevel.ALL,
                include_execution_data=log_execution_data,
            ),
            tracing_enabled=True,
        )
        self._grant()
        for other in (failure, success, *self.job.connections):
            other.connect(self.state_machine)
        self.unseen_endings = self._watch(on_failure if on_unseen_ending is None else on_unseen_ending)
        self.alarms = self._make_alarms(name, alarm_actions)

    # --- states -----------------------------------------------------------------------------------------

    def _ending(self, state: str, *, fail_execution: bool) -> sfn.IChainable:
        if not fail_execution:
            return sfn.Succeed(self, f"{state}, and told")
        return sfn.Fail(self, state, error_path=f"$.{ERROR}.Error", cause_path=f"$.{ERROR}.Cause")

    def _telling(self, occasion: str, handlers: Sequence[Handler]) -> Telling:
        return Telling(
            occasion=occasion, handlers=handlers, description=self._description, dead_letters=self._dead_letters
        )

    def _longest_execution(self) -> Duration:
        needed = self.job.longest_run.plus(TIME_FOR_HANDLERS)
        return min(needed, LONGEST_EXECUTION, key=lambda duration: duration.to_seconds())

    # --- around the state machine -----------------------------------------------------------------------

    def _grant(self) -> None:
        for statement in self.job.statements:
            self.state_machine.add_to_role_policy(statement)
        acknowledge(
            self.state_machine.role,
            {
                "AwsSolutions-IAM5[Resource::*]": "The log delivery and X-Ray actions of Step Functions "
                "have no resource level.",
                **self.job.acknowledgements,
            },
        )

    def _watch(self, watchers: Sequence[Watcher]) -> events.Rule | None:
        """Tells them of the endings that no Catch can see."""
        if not watchers:
            return None
        message: Message = {
            "Response": {"StatusChange": events.EventField.from_path("$.detail")},
            "Execution": {
                "Execution": {
                    "Id": events.EventField.from_path("$.detail.executionArn"),
                    "Name": events.EventField.from_path("$.detail.name"),
                    "StartTime": events.EventField.from_path("$.detail.startDate"),
                },
                "StateMachine": {"Id": events.EventField.from_path("$.detail.stateMachineArn")},
            },
        }
        return events.Rule(
            self,
            "UnseenEndings",
            description="Endings of executions that the state machine itself cannot tell of.",
            # https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
            event_pattern=events.EventPattern(
                source=["aws.states"],
                detail_type=["Step Functions Execution Status Change"],
                detail={
                    "stateMachineArn": [self.state_machine.state_machine_arn],
                    "$or": [
                        {"status": ["TIMED_OUT", "ABORTED"]},
                        # Told twice is better than never: also when the event does not say what the error was.
                        {"status": ["FAILED"], "error": [*_UNSEEN_ERRORS, *self.job.uncaught, {"exists": False}]},
                    ],
                },
            ),
            targets=[watcher.rule_target(message, self._description, self._dead_letters) for watcher in watchers],
        )

    def _make_alarms(self, name: str, actions: Sequence[cloudwatch.IAlarmAction]) -> Mapping[str, cloudwatch.Alarm]:
        machine = self.state_machine
        endings: dict[str, tuple[cloudwatch.Metric, str]] = {
            "Failed": (machine.metric_failed(), "failed"),
            "TimedOut": (machine.metric_timed_out(), "timed out"),
            "Aborted": (machine.metric_aborted(), "was aborted"),
            "Throttled": (machine.metric_throttled(), "was throttled by Step Functions"),
        }
        return {
            id_: alarm_on(self, id_ + "Alarm", metric, description=f"{name}: an execution {what}.", actions=actions)
            for id_, (metric, what) in endings.items()
        }
