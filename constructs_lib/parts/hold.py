"""Holds new work back while what it depends on is down: by hand, by a schedule, or by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .alarms import alarm_on
from .dead_letters import DeadLetters
from .executions import beside, endings, require_standard
from .function_schedule import FunctionSchedule
from .functions import make_function
from .metrics import deployed_name
from .schedule_trigger import check_expression
from .semaphore import SharedSemaphore
from .validation import invalid, require_duration, require_free_id, require_type, require_whole_number

_MINUTE = Duration.minutes(1)


@dataclass(frozen=True, kw_only=True)
class MaintenanceWindow:
    """A time in which work is held, as schedules of EventBridge Scheduler, which know time zones.

    Args:
        start: When it begins.
        end: When it ends.
    """

    start: scheduler.ScheduleExpression
    end: scheduler.ScheduleExpression


class Hold(Construct):
    """Pauses a semaphore while the neighbour is down: what arrives does not come to the costly step.

    It waits there, which costs nothing, or it fails at once, and so goes straight to an `ErrorSpool` (`new_work`).
    What is let in already goes on, and what waits already stays in line.

    By hand, as ever, by invoking the semaphore's function with ``{"action": "pause"}`` and ``{"action": "resume"}``;
    by `windows`; or by itself, after so many failures in a row (a circuit breaker). Then, every so often, one run is
    let through to see: if it succeeds, all are. All of it is one switch: the end of a window also ends a pause by hand.

    Creates, for `failures_in_a_row`, the breaker with its role and log group, a table with its one counter, a rule
    that has it probe, and alarms; for each window two schedules; for either a dead-letter queue. Beside each state
    machine that it watches: a rule.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        semaphore: What guards the costly step (`Semaphore.guard`). All that it guards is held.
        failures_in_a_row: The breaker pauses after so many failed executions without a success between, from 2 to
            1,000. Default: no breaker.
        probe_every: How often the breaker lets one run through while it holds the rest, in whole minutes. Default 5
            minutes.
        windows: When work is held by schedule. Default: never.
        new_work: What becomes of what arrives meanwhile. ``"wait"`` (default): it waits at the guard until it is let
            in. ``"fail"``: its execution fails with ``Semaphore.Paused``, for the spool to keep.
        log_retention: How long the breaker's log is kept. Default 3 months.
        alarm_actions: What the alarms do. Default: nothing; they are still visible in the console.

    Raises:
        ConfigurationError: an argument cannot work; the message says which, why, and what to write instead.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        semaphore: SharedSemaphore,
        failures_in_a_row: int | None = None,
        probe_every: Duration = Duration.minutes(5),
        windows: Sequence[MaintenanceWindow] = (),
        new_work: Literal["wait", "fail"] = "wait",
        log_retention: logs.RetentionDays = logs.RetentionDays.THREE_MONTHS,
        alarm_actions: Sequence[cloudwatch.IAlarmAction] = (),
    ) -> None:
        require_free_id(scope, id_)
        super().__init__(scope, id_)
        require_type(
            self, "semaphore", semaphore, SharedSemaphore, "Pass for example Semaphore(self, 'Neighbour', limit=5)."
        )
        if failures_in_a_row is not None:
            require_whole_number(
                self, "failures_in_a_row", failures_in_a_row, at_least=2, at_most=1000, known_at_synthesis=True
            )
        if require_duration(self, "probe_every", probe_every, at_least=_MINUTE) % 60:
            raise invalid(
                self, "probe_every", "must be in whole minutes", probe_every, "Pass for example Duration.minutes(5)."
            )
        if new_work not in ("wait", "fail"):
            raise invalid(self, "new_work", "must be 'wait' or 'fail'", new_work, "Leave it out to have it wait.")
        self.name = deployed_name(self)
        """What its metrics are told apart by."""
        self.semaphore = semaphore
        self.windows = windows
        self.pause: Mapping[str, str] = {"action": "pause", "newWork": new_work}
        """The event with which the semaphore's function begins to hold."""
        self.dead_letters: DeadLetters | None = None
        if windows or failures_in_a_row is not None:
            self.dead_letters = DeadLetters(self, "DeadLetters", alarm_actions=alarm_actions)
        self.table: dynamodb.Table | None = None
        self.breaker: lambda_.Function | None = None
        self.alarms: Mapping[str, cloudwatch.Alarm] = {}
        self._drained_by: str | None = None
        self._watched: set[str] = set()

        for number, window in enumerate(windows, start=1):
            self._make_window(number, window)
        if failures_in_a_row is not None:
            self.table = self._make_table()
            self.breaker = self._make_breaker(self.table, failures_in_a_row, log_retention)
            events.Rule(
                self,
                "Probe",
                description=f"Has {self.node.path} let one run through while it holds the rest.",
                schedule=events.Schedule.rate(probe_every),
                targets=[
                    targets.LambdaFunction(self.breaker, event=events.RuleTargetInput.from_object({"action": "probe"}))
                ],
            )
            self.alarms = self._make_alarms(self.breaker, alarm_actions)

    def watch(self, state_machine: sfn.IStateMachine, *, scope: Construct | None = None) -> None:
        """Has the breaker count how executions of a state machine end, which may be in another stack.

        Without a breaker, and for a second call for the same state machine, nothing changes. An `ErrorSpoolReprocessor`
        with this hold has its targets watched by itself.

        Args:
            state_machine: A Standard one. It may be imported.
            scope: Where the rule is made. Default: beside the state machine.

        Raises:
            ConfigurationError: it is an Express workflow.
        """
        require_standard(self, "state_machine", state_machine)
        path = state_machine.node.path
        if self.breaker is None or path in self._watched:
            return
        self._watched.add(path)
        place = beside(state_machine, f"HeldBy{self.node.path}") if scope is None else Construct(scope, f"Of{path}")
        events.Rule(
            place,
            "Ended",
            description=f"How executions end, for {self.node.path}.",
            event_pattern=endings(state_machine, ["SUCCEEDED", "FAILED", "TIMED_OUT"]),
            targets=[targets.LambdaFunction(self.breaker)],
        )

    def drain_by(self, function: lambda_.Function) -> None:
        """Has the breaker call `function`, a reprocessor of the same stack, when the neighbour is back.

        Raises:
            ConfigurationError: there is another one already.
        """
        if self._drained_by is not None:
            raise invalid(
                self,
                "hold",
                "must belong to one reprocessor only",
                function.node.path,
                f"Make another Hold; this one belongs to {self._drained_by}.",
            )
        self._drained_by = function.node.path
        if self.breaker is not None:
            self.breaker.add_environment("REPROCESSOR_FUNCTION", function.function_arn)
            self._allow_invoking(self.breaker, function.function_arn)

    def metric_opened(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How often the breaker began to hold work back, or went on after a probe."""
        return cloudwatch.Metric(
            namespace="ConstructsLib/Hold",
            metric_name="Opened",
            dimensions_map={"Hold": self.name},
            period=period,
            statistic=statistic,
        )

    # --- resources --------------------------------------------------------------------------------------

    def _make_window(self, number: int, window: MaintenanceWindow) -> None:
        remedy = "Pass MaintenanceWindow(start=scheduler.ScheduleExpression.cron(…), end=…)."
        require_type(self, "windows", window, MaintenanceWindow, remedy)
        assert self.dead_letters is not None
        turns: Sequence[tuple[Mapping[str, str], str, scheduler.ScheduleExpression]] = (
            (self.pause, "begins", window.start),
            ({"action": "resume"}, "ends", window.end),
        )
        for event, what, schedule in turns:
            require_type(self, "windows", schedule, scheduler.ScheduleExpression, remedy)
            check_expression(self, schedule, argument="windows")
            FunctionSchedule(
                self,
                f"Window{number}{event['action'].capitalize()}",
                schedule=schedule,
                function=self.semaphore.function,
                event=event,
                description=f"A maintenance window {what}: {self.node.path}.",
                # Lost, it would hold everything until somebody looks.
                dead_letters=self.dead_letters.queue,
            )

    def _make_table(self) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            "Counter",
            partition_key=dynamodb.Attribute(name="id", type=dynamodb.AttributeType.STRING),
            time_to_live_attribute="expires",
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            # It counts from zero again.
            removal_policy=RemovalPolicy.DESTROY,
        )

    def _make_breaker(
        self, table: dynamodb.Table, failures: int, log_retention: logs.RetentionDays
    ) -> lambda_.Function:
        assert self.dead_letters is not None
        breaker = make_function(
            self,
            "Breaker",
            handler="spool.breaker.handle",
            description=f"Holds work back after failures in a row: {self.node.path}",
            environment={
                "SEMAPHORE_FUNCTION": self.semaphore.function_arn,
                "TABLE_NAME": table.table_name,
                "FAILURES": str(failures),
                "NEW_WORK": self.pause["newWork"],
                "REPROCESSOR_FUNCTION": "",
                "HOLD": self.name,
            },
            dead_letter_queue=self.dead_letters.queue,
            log_retention=log_retention,
        )
        breaker.add_to_role_policy(
            iam.PolicyStatement(
                actions=["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"], resources=[table.table_arn]
            )
        )
        self._allow_invoking(breaker, self.semaphore.function_arn)
        return breaker

    def _allow_invoking(self, breaker: lambda_.Function, function_arn: str) -> None:
        breaker.add_to_role_policy(iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[function_arn]))

    def _make_alarms(
        self, breaker: lambda_.Function, actions: Sequence[cloudwatch.IAlarmAction]
    ) -> Mapping[str, cloudwatch.Alarm]:
        return {
            "Opened": alarm_on(
                self,
                "OpenedAlarm",
                self.metric_opened(),
                description=f"{self.node.path}: too many failures in a row; new work is held back.",
                actions=actions,
            ),
            "BreakerFailing": alarm_on(
                self,
                "BreakerFailingAlarm",
                breaker.metric_errors(),
                description=f"{self.node.path}: the function that holds work back fails.",
                actions=actions,
            ),
        }
