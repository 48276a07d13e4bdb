"""A job for each of many items, and an honest account of the ones that failed."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aws_cdk import Duration, TimeZone, Token
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .parts.alarms import alarm_on
from .parts.alert_function import AlertFunction
from .parts.batch import Batch, check_batch
from .parts.dead_letters import DeadLetters
from .parts.failure_tolerance import FailureTolerance
from .parts.fargate_job import FargateJob
from .parts.handlers import Handler, as_handlers
from .parts.item_job import as_item_job, check_express, must_begin_anew
from .parts.item_map import ItemMap
from .parts.item_source import InputItems, ItemSource
from .parts.job import LONGEST_EXECUTION
from .parts.map_functions import MapFunctions, MapOperator
from .parts.map_report import MapReport, notices_message
from .parts.metrics import deployed_name, graphs
from .parts.results_bucket import make_results_bucket
from .parts.schedule_trigger import ScheduleLike, ScheduleTrigger
from .parts.semaphore import SharedSemaphore
from .parts.telling import THIS_EXECUTION, Telling
from .parts.validation import invalid, require_duration, require_free_id, require_type, require_whole_number
from .parts.workflow import Workflow

_NAMESPACE = "ConstructsLib/DistributedMap"
_MINUTE = Duration.minutes(1)
_RETENTION = Duration.days(90)

# https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html
_MOST_CHILDREN = 10_000

# Fewer characters than a label may have: a label is part of ARNs, and of names of metrics.
# https://docs.aws.amazon.com/step-functions/latest/dg/state-map-distributed.html
_LABEL = re.compile(r"[A-Za-z0-9_-]{1,40}")

# Further back nobody means.
_LONGEST_BACK = 3_650


class DistributedMapProcessor(Construct):
    """Runs a job for each of many items, side by side, and accounts for every one of them.

    trigger -> Plan -> Process items (a distributed Map) -> Account -> SUCCEEDED
                                                                    -> failure handlers -> FAILED

    One alert tells how many items failed, grouped by what went wrong, with some of their names and where to find all.
    What failed can be run again without the rest: the failed execution is redriven, or a new one gets the file of
    failed items; invoke `operate` with ``{"action": "rerun"}``, and it does the one or the other. With
    ``{"action": "update", "maxConcurrency": 10}`` it changes a run while it is under way.

    The job gets ``{"item": …, "run": …, "constants": …}``, or in batches ``{"Items": […], "BatchInput": {"run": …,
    "constants": …}}``: a function and a chain as it is; the default container of a `FargateJob` in the environment, as
    ``ITEM`` or ``ITEMS``, ``RUN`` and ``CONSTANTS``, in JSON. ``run`` has ``execution``, ``date``, ``bucket``,
    ``prefix`` and ``key``. It may answer for an item ``{"notice": […]}``, which is told without failing the run,
    ``{"error": "Name", "cause": "text"}``, which is a failure of this item, or anything else; for a batch
    ``{"items": [<an answer for each>]}``, or ``{"batchItemFailures": [{"itemIdentifier": <index>}]}``. An item may be
    processed again when its run is redriven: a job should be idempotent.

    The input of an execution may have ``runDate`` ("2026-11-21"), ``dryRun`` (true: the items are counted, and that is
    all), and ``rerun`` (``{"execution": <ARN of a run>}``: what failed in that run). The output is the account.

    Creates the state machine with its role, log group and alarms, a second one that tells of runs that failed as a
    whole, three functions, a bucket with the items, results and accounts of all runs unless one is given, a dead-letter
    queue, and an `AlertFunction` unless other handlers are given.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        source: Where the items come from: `S3Objects`, `CsvItems`, `JsonItems`, `JsonLinesItems`, `ParquetItems`,
            `InventoryItems` or `InputItems`.
        processor: What to do with an item: a `FargateJob`, a function or a chain of states in JSONPath. A call of a
            function that Lambda throttled or failed itself is made again. A chain is used as it is, with no state
            around it; its output is the answer.
        batch: How many items are processed at once: ``Batch(max_items=100)``. Default: one.
        constants: What each item or batch gets beside it, as JSON: no None, no key that ends with ``.$``.
        execution_type: ``sfn.ProcessorType.STANDARD`` (default), or ``EXPRESS``: cheaper children of up to 5 minutes,
            which can wait neither for a task nor for a permit.
        max_concurrency: How many children run at once, from 1 to 10,000. Default 100.
        tolerance: How many items may fail: ``FailureTolerance.none()`` (default), ``.count(…)``, ``.percentage(…)`` or
            ``.collect()``, which processes every item, and judges in the end.
        semaphore: Each child takes a permit of it, which it shares with others. Default: none.
        on_empty: What becomes of a run without items: ``"succeed"`` (default), or ``"fail"`` with ``NoItems``.
        label: Names the Map in the ARNs of its runs and children: 1 to 40 letters, digits, - or _. Default ``"items"``.
        time_zone: In which a run has its date. Default UTC.
        days_back: The date of a run is so many days before its start: 1 for yesterday. Default 0.
        schedule: When it runs: an ``events.Schedule`` (becomes an EventBridge rule) or a
            ``scheduler.ScheduleExpression`` (becomes a schedule of EventBridge Scheduler, with a time zone). Default:
            when it is started.
        event_pattern: It runs for each event that matches. The event is its input. Default: none.
        results_bucket: Where items, results and accounts are written, below ``runs/``, in the account and region of the
            stack. Default: a new bucket, which stays when the stack is deleted.
        results_retention: How long the new bucket keeps them. Default 90 days.
        execution_timeout: How long a run may take. Default: a year, the longest that Step Functions allows.
        alert_lambda: A function to tell of a failure instead of the library's own. It gets
            ``{"Response": <the account, with the error in it>, "Execution": <the context object>}``.
        failure_handlers: Who is told of a failure, in this order: functions, topics, `AlertFunction`, `ErrorSpool`.
            Default: a new `AlertFunction`, or only ``alert_lambda`` where that is given. A restart from an error spool
            runs what failed; of a run that failed as a whole, only its redrive does (``mode="redrive"``).
        success_handlers: Who is told of a success. Default: nobody.
        notice_handlers: Who is told of notices. Default: the failure handlers, without error spools.
        fail_execution: Whether a run in which too many items failed ends FAILED. Default True.
        log_execution_data: Whether inputs and outputs are logged. Default True.
        log_retention: How long logs are kept. Default 3 months.
        alarm_actions: What the alarms do. Default: nothing; they are still visible in the console.

    Raises:
        ConfigurationError: an argument cannot work; the message says which, why, and what to write instead.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        source: ItemSource,
        processor: FargateJob | lambda_.IFunction | sfn.IChainable,
        batch: Batch | None = None,
        constants: Mapping[str, Any] | None = None,
        execution_type: sfn.ProcessorType = sfn.ProcessorType.STANDARD,
        max_concurrency: int = 100,
        tolerance: FailureTolerance = FailureTolerance.none(),  # noqa: B008 # frozen
        semaphore: SharedSemaphore | None = None,
        on_empty: Literal["succeed", "fail"] = "succeed",
        label: str = "items",
        time_zone: TimeZone = TimeZone.ETC_UTC,
        days_back: int = 0,
        schedule: ScheduleLike | None = None,
        event_pattern: events.EventPattern | None = None,
        results_bucket: s3.IBucket | None = None,
        results_retention: Duration | None = None,
        execution_timeout: Duration | None = None,
        alert_lambda: lambda_.IFunction | None = None,
        failure_handlers: Sequence[lambda_.IFunction | sns.ITopic | Handler] | None = None,
        success_handlers: Sequence[lambda_.IFunction | sns.ITopic | Handler] = (),
        notice_handlers: Sequence[lambda_.IFunction | sns.ITopic | Handler] | None = None,
        fail_execution: bool = True,
        log_execution_data: bool = True,
        log_retention: logs.RetentionDays = logs.RetentionDays.THREE_MONTHS,
        alarm_actions: Sequence[cloudwatch.IAlarmAction] = (),
    ) -> None:
        require_free_id(scope, id_)
        super().__init__(scope, id_)
        self.name = deployed_name(self)
        """What its metrics are told apart by."""
        self.label = label

        require_type(self, "source", source, ItemSource, "Pass for example S3Objects(bucket=incoming).")
        source.check(self)
        check_batch(self, batch)
        work = as_item_job(self, "processor", processor, batch)
        self._check_constants(constants or {})
        self._check_execution_type(execution_type, semaphore)
        express = execution_type is sfn.ProcessorType.EXPRESS
        if express:
            check_express(self, "processor", work)
        require_whole_number(self, "max_concurrency", max_concurrency, at_least=1, at_most=_MOST_CHILDREN)
        require_type(self, "tolerance", tolerance, FailureTolerance, "Pass for example FailureTolerance.percentage(5).")
        tolerance.check(self)
        self._check_day(on_empty, time_zone, days_back)
        self._check_label(label)
        self._check_triggers(source, schedule, event_pattern)
        self._check_results(results_bucket, results_retention)
        if execution_timeout is not None:
            require_duration(self, "execution_timeout", execution_timeout, at_most=LONGEST_EXECUTION)

        self.dead_letters = DeadLetters(self, "DeadLetters", alarm_actions=alarm_actions)
        self.alert: AlertFunction | None = None
        if alert_lambda is None and failure_handlers is None:
            self.alert = AlertFunction(self, "Alert", alarm_actions=alarm_actions, log_retention=log_retention)
            failure_handlers = [self.alert]
        on_failure = [
            *as_handlers(self, "alert_lambda", [alert_lambda] if alert_lambda else []),
            *as_handlers(self, "failure_handlers", failure_handlers or []),
        ]
        spools = [one for one in on_failure if getattr(one, "for_failures_only", False)]
        told_directly = [one for one in on_failure if one not in spools]
        on_notice = told_directly if notice_handlers is None else as_handlers(self, "notice_handlers", notice_handlers)

        self.results_bucket: s3.IBucket = results_bucket or make_results_bucket(
            self, "Results", retention=results_retention or _RETENTION
        )
        settings = {
            "name": self.name,
            "results": {"bucket": self.results_bucket.bucket_name},
            "source": {
                **source.as_json(),
                "results": {"bucket": self.results_bucket.bucket_name},
                "timeZone": time_zone.timezone_name,
                "daysBack": days_back,
                "emptyFails": on_empty == "fail",
            },
            "tolerance": tolerance.as_json(),
            "emptyFails": on_empty == "fail",
            "batched": batch is not None,
        }
        self.functions = MapFunctions(
            self,
            "Functions",
            source=source,
            results=self.results_bucket,
            log_retention=log_retention,
        )
        description = {"name": self.node.path, "kind": "map", "work": work.description()}
        self.report = (
            MapReport(
                self,
                "Report",
                account=self.functions.account,
                settings=settings,
                handlers=told_directly,
                notices=on_notice,
                description=description,
                dead_letters=self.dead_letters.queue,
                log_execution_data=log_execution_data,
                log_retention=log_retention,
                alarm_actions=alarm_actions,
            )
            if told_directly or on_notice
            else None
        )
        self.workflow = Workflow(
            self,
            "Workflow",
            job=ItemMap(
                source=source,
                work=work,
                plan=self.functions.plan,
                account=self.functions.account,
                results=self.results_bucket,
                settings=settings,
                tolerance=tolerance,
                batch=batch,
                constants=constants or {},
                express=express,
                max_concurrency=max_concurrency,
                label=label,
                semaphore=semaphore,
                notices=Telling(
                    occasion="Notices",
                    handlers=on_notice,
                    description=description,
                    dead_letters=self.dead_letters.queue,
                    message=notices_message(THIS_EXECUTION),
                ),
            ),
            name=self.node.path,
            dead_letters=self.dead_letters.queue,
            on_failure=on_failure,
            on_success=as_handlers(self, "success_handlers", success_handlers),
            # A spool asks Step Functions for what it keeps: it needs the event itself.
            on_unseen_ending=[*([self.report] if self.report else []), *spools],
            timeout=execution_timeout,
            fail_execution=fail_execution,
            log_execution_data=log_execution_data,
            log_retention=log_retention,
            alarm_actions=alarm_actions,
        )
        self.functions.ask(self.state_machine, label)
        self.operator = MapOperator(
            self,
            "Operator",
            state_machine=self.state_machine,
            label=label,
            children_begin_anew=must_begin_anew(work, guarded=semaphore is not None),
            results=self.results_bucket,
            log_retention=log_retention,
        )
        self.trigger: ScheduleTrigger | None = None
        if schedule is not None:
            self.trigger = self._make_trigger(schedule)
        self.event_rule: events.Rule | None = None
        """The rule for ``event_pattern``."""
        if event_pattern is not None:
            self.event_rule = events.Rule(
                self,
                "OnEvent",
                description=f"Starts {self.node.path}.",
                event_pattern=event_pattern,
                targets=[targets.SfnStateMachine(self.state_machine, dead_letter_queue=self.dead_letters.queue)],
            )
        self._alarms = self._make_alarms(alarm_actions)

    @property
    def state_machine(self) -> sfn.StateMachine:
        """The state machine that processes the items."""
        return self.workflow.state_machine

    @property
    def plan(self) -> lambda_.Function:
        """The function that finds the items."""
        return self.functions.plan

    @property
    def account(self) -> lambda_.Function:
        """The function that accounts for the items."""
        return self.functions.account

    @property
    def operate(self) -> lambda_.Function:
        """The function for operators: ``{"action": "rerun"}``, ``{"action": "update"}`` or ``{"action": "status"}``."""
        return self.operator.function

    @property
    def rule(self) -> events.Rule | None:
        """The rule that starts it, if ``schedule`` is an ``events.Schedule``."""
        return self.trigger.rule if self.trigger else None

    @property
    def schedule(self) -> scheduler.Schedule | None:
        """The schedule that starts it, if ``schedule`` is a ``scheduler.ScheduleExpression``."""
        return self.trigger.schedule if self.trigger else None

    @property
    def alarms(self) -> Sequence[cloudwatch.Alarm]:
        """All alarms of this construct."""
        of_alert = [self.alert.alarm, self.alert.dead_letters.alarm] if self.alert else []
        of_report = [self.report.alarm] if self.report else []
        return [
            *self.workflow.alarms.values(),
            self.dead_letters.alarm,
            *self._alarms,
            *of_report,
            *of_alert,
        ]

    @property
    def security_groups(self) -> Sequence[ec2.ISecurityGroup]:
        """The security groups of the tasks; none without a `FargateJob`."""
        return self.workflow.job.security_groups

    # --- metrics ----------------------------------------------------------------------------------------

    def metric_items(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many items there were, whatever became of them."""
        return self._metric("Items", period, statistic)

    def metric_succeeded(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many items were processed."""
        return self._metric("Succeeded", period, statistic)

    def metric_failed(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many items failed."""
        return self._metric("Failed", period, statistic)

    def metric_not_run(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many items were not begun, as their run failed or was stopped before."""
        return self._metric("NotRun", period, statistic)

    def metric_notices(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many notices items left."""
        return self._metric("Notices", period, statistic)

    def dashboard_widgets(self) -> list[cloudwatch.IWidget]:
        """What to look at, as a section of a dashboard: ``dashboard.add_widgets(*processor.dashboard_widgets())``."""
        machine = self.state_machine
        ended = (machine.metric_started, machine.metric_succeeded, machine.metric_failed, machine.metric_aborted)
        # As AWS names the children in their metrics:
        # https://docs.aws.amazon.com/step-functions/latest/dg/concepts-examine-map-run.html
        of_children = {"StateMachineArn": f"{machine.state_machine_arn}/{self.label}"}
        children = ("ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut")
        functions = {"plan": self.plan, "account": self.account, "operate": self.operate}
        drawn: dict[str, list[cloudwatch.IMetric]] = {
            "items": [self.metric_items(), self.metric_succeeded(), self.metric_failed(), self.metric_not_run()],
            "notices": [self.metric_notices()],
            "runs": [metric(period=_MINUTE) for metric in ended],
            "children": [
                cloudwatch.Metric(
                    namespace="AWS/States",
                    metric_name=name,
                    dimensions_map=of_children,
                    period=_MINUTE,
                    statistic="Sum",
                )
                for name in children
            ],
            "function errors": [one.metric_errors(period=_MINUTE, label=name) for name, one in functions.items()],
            "dead letters": [
                self.dead_letters.queue.metric_approximate_number_of_messages_visible(
                    period=_MINUTE, statistic="Maximum"
                )
            ],
        }
        return graphs(self.name, drawn)

    def _metric(self, metric: str, period: Duration, statistic: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=_NAMESPACE,
            metric_name=metric,
            dimensions_map={"Processor": self.name},
            period=period,
            statistic=statistic,
        )

    # --- resources --------------------------------------------------------------------------------------

    def _make_trigger(self, schedule: ScheduleLike) -> ScheduleTrigger:
        return ScheduleTrigger(
            self,
            "Trigger",
            schedule=schedule,
            state_machine=self.state_machine,
            input={},
            tells_tick=False,
            dead_letters=self.dead_letters.queue,
            name=None,
            enabled=True,
            time_window=None,
            retry_attempts=185,
            max_event_age=Duration.hours(1),
        )

    def _make_alarms(self, actions: Sequence[cloudwatch.IAlarmAction]) -> Sequence[cloudwatch.Alarm]:
        # That the planner fails, the execution tells.
        return [
            alarm_on(
                self,
                f"{id_}FailingAlarm",
                function.metric_errors(),
                description=f"{self.node.path}: the function that {what} fails.",
                actions=actions,
            )
            for id_, function, what in (
                ("Account", self.account, "accounts for the items"),
                ("Operate", self.operate, "operators invoke"),
            )
        ]

    # --- checks -----------------------------------------------------------------------------------------

    def _check_constants(self, constants: Mapping[str, Any]) -> None:
        remedy = "Pass for example constants={'target': 'archive'}."
        require_type(self, "constants", constants, Mapping, remedy)
        problem = _not_json(constants)
        if problem:
            raise invalid(self, "constants", f"must be JSON: {problem}", dict(constants), remedy)

    def _check_execution_type(self, execution_type: sfn.ProcessorType, semaphore: SharedSemaphore | None) -> None:
        remedy = "Pass for example sfn.ProcessorType.STANDARD."
        require_type(self, "execution_type", execution_type, sfn.ProcessorType, remedy)
        if semaphore is None:
            return
        require_type(
            self, "semaphore", semaphore, SharedSemaphore, "Pass for example Semaphore(self, 'Quota', limit=5)."
        )
        if execution_type is sfn.ProcessorType.EXPRESS:
            raise invalid(
                self,
                "semaphore",
                "must not be given with Express children, which cannot wait for a permit",
                semaphore.node.path,
                "Leave out execution_type, or limit them with max_concurrency.",
            )

    def _check_day(self, on_empty: str, time_zone: TimeZone, days_back: int) -> None:
        if on_empty not in ("succeed", "fail"):
            raise invalid(self, "on_empty", "must be 'succeed' or 'fail'", on_empty, "Leave it out to succeed.")
        require_type(self, "time_zone", time_zone, TimeZone, "Pass for example TimeZone.EUROPE_BERLIN.")
        require_whole_number(self, "days_back", days_back, at_least=0, at_most=_LONGEST_BACK, known_at_synthesis=True)

    def _check_label(self, label: str) -> None:
        remedy = "Pass for example 'orders', or leave it out."
        require_type(self, "label", label, str, remedy)
        if Token.is_unresolved(label) or not _LABEL.fullmatch(label):
            raise invalid(self, "label", "must have 1 to 40 letters, digits, - or _", label, remedy)

    def _check_triggers(
        self, source: ItemSource, schedule: ScheduleLike | None, event_pattern: events.EventPattern | None
    ) -> None:
        if event_pattern is not None:
            remedy = "Pass for example events.EventPattern(source=['my.orders'])."
            require_type(self, "event_pattern", event_pattern, events.EventPattern, remedy)
        if schedule is not None and isinstance(source, InputItems):
            raise invalid(
                self,
                "schedule",
                "is of no use with InputItems: a schedule starts runs without any",
                schedule.expression_string if hasattr(schedule, "expression_string") else schedule,
                "Leave it out, or take the items from S3.",
            )

    def _check_results(self, bucket: s3.IBucket | None, retention: Duration | None) -> None:
        if bucket is not None and not hasattr(bucket, "bucket_arn"):
            raise invalid(
                self, "results_bucket", "must be a bucket", bucket, "Pass for example s3.Bucket(self, 'Results')."
            )
        if retention is None:
            return
        if bucket is not None:
            raise invalid(
                self,
                "results_retention",
                "must not be given beside results_bucket, which has lifecycle rules of its own",
                retention,
                "Leave it out.",
            )
        seconds = require_duration(self, "results_retention", retention, at_least=Duration.days(1))
        if seconds % 86_400:
            raise invalid(
                self, "results_retention", "must be in whole days", retention, "Pass for example Duration.days(30)."
            )


def _not_json(value: object) -> str | None:
    """What is not JSON in a value, or would be lost or read as a path on its way into a state machine."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                return f"the key {key!r} is no text"
            if key.endswith(".$"):
                return f"the key {key!r} would be taken for a path"
            if problem := _not_json(inner):
                return problem
        return None
    if isinstance(value, list | tuple):
        return next(filter(None, map(_not_json, value)), None)
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no number in JSON"
    # What only the deployment tells, it tells as JSON.
    if isinstance(value, str | int | float) or hasattr(value, "resolve"):
        return None
    return "None is left out" if value is None else f"{value!r} is none"
