"""A job for each new object of a bucket: none is lost, none is run twice, and no more than so many at once."""

import math
from collections.abc import Sequence

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_events as events
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .parts.alert_function import AlertFunction
from .parts.backfill import Backfill
from .parts.dead_letters import DeadLetters
from .parts.fargate_job import FargateJob
from .parts.guard import GuardedJob, Terms
from .parts.handlers import Handler, as_handlers
from .parts.job import LONGEST_EXECUTION, Job
from .parts.launch_quota import warn_of_launch_rate, warn_of_vcpu_quota
from .parts.metrics import deployed_name, graphs
from .parts.object_buffer import LONGEST_RETENTION, ObjectBuffer
from .parts.object_filter import ObjectFilter
from .parts.object_job import OBJECT, as_job
from .parts.recursion import check_output, is_same_bucket, warn_if_role_may_write
from .parts.semaphore import Semaphore, SharedSemaphore
from .parts.starter import STARTER_TIMEOUT, Starter
from .parts.validation import invalid, require_duration, require_free_id, require_type
from .parts.valve import Valve
from .parts.work import AnyWork
from .parts.workflow import Workflow

_NAMESPACE = "ConstructsLib/Pipeline"
_MINUTE = Duration.minutes(1)


class S3TriggeredThrottledPipeline(Construct):
    """Runs a job for each new object of a bucket, and never more of them at once than allowed.

    bucket -> EventBridge -> buffer (SQS) -> starter -> state machine: permit -> job -> SUCCEEDED
                                                                             -> failure handlers -> FAILED

    However many objects come at once, each waits for its permit, first come, first served. An execution is named after
    its object, so an event that is delivered twice starts it once. The job gets the execution's input,
    ``{"object": {"bucket", "key", "versionId", "size", "etag", "sequencer", "time", "reason"}}``: a function and a
    chain as it is; the default container of a `FargateJob` in the environment, as ``OBJECT_BUCKET``, ``OBJECT_KEY``,
    ``OBJECT_VERSION_ID``, ``OBJECT_SIZE``, ``OBJECT_ETAG`` and ``OBJECT_SEQUENCER``. Who may read the bucket stays
    the caller's to say.

    Creates the rule, the buffer, the starter and its valve, the `Semaphore` unless one is given, the state machine
    with its role, log group and alarms, a state machine that fills the buffer with objects that were there before,
    dead-letter queues, and an `AlertFunction` unless other handlers are given.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        bucket: In the account and region of the stack. It is set to send its events to EventBridge.
        job: What to do with an object: a `FargateJob`, a function (its result is at ``$.result.Payload``) or a chain
            of states in JSONPath (its output is at ``$.result.output``). Time limits and retries are those of the
            job; a call of a function that Lambda throttled or failed itself is made again.
        max_concurrency: How many jobs may run at once, from 1 to 1,000,000. Either this or ``semaphore``.
        semaphore: Shares out permits among several pipelines and other state machines.
        max_starts_per_second: The pace at which jobs are started, with ``max_concurrency``. Default: none.
        prefixes: What keys begin with: with one of these. Default: anything.
        suffixes: What keys end with: with one of these. Default: anything.
        wildcards: What keys look like, ``*`` for any characters: these count beside those of ``prefixes`` and
            ``suffixes``. ``\\*`` is a ``*`` itself.
        min_size: In bytes. Smaller objects come to the buffer, and start nothing. Default: 0.
        max_size: In bytes, at most 5,000,000,000, as EventBridge compares no greater numbers. Default: any size.
        one_at_a_time_per_key: Whether two events of the same key are never worked on at once: the later one waits.
        drop_stale_events: Whether an event is dropped where a newer one of the same key was started before. Makes a
            table with one item for each key.
        output_bucket: Where the job writes to. Default: ``bucket`` if ``output_prefix`` is given; else not known.
        output_prefix: Where in that bucket. Objects under it never start anything if it is the same bucket.
        paused: Whether new objects stay in the buffer, where they are kept for 14 days.
        max_waiting: When so many executions wait for a permit, further objects wait in the buffer.
        vcpu_quota: The vCPU that the account may use on Fargate; synthesis warns if the tasks may need more.
        starter_concurrency: How many calls of the starter may run at once, from 2 to 1,000.
        execution_timeout: How long an execution may take, waiting for its permit included. Default: a year, the
            longest that Step Functions allows.
        alert_lambda: A function to tell of a failure instead of the library's own. It gets
            ``{"Response": <the input, with the error beside it>, "Execution": <the context object>}``.
        failure_handlers: Who is told of a failure, in this order: functions, topics, `AlertFunction`. Default: a
            new `AlertFunction`, or only ``alert_lambda`` where that is given.
        success_handlers: Who is told of a success. Default: nobody.
        fail_execution: Whether an execution whose job failed ends FAILED. Default True.
        oldest_object_alarm: An alarm rings when an object waits for so long, in the buffer or for a permit.
        log_execution_data: Whether inputs and outputs are logged. Default True.
        log_retention: How long logs are kept. Default 3 months.
        alarm_actions: What the alarms do. Default: nothing; they are still visible in the console.

    Raises:
        ConfigurationError: an argument cannot work; the message says which, why, and what to write instead. One of
            them: the declared output of the job would start it again.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        bucket: s3.IBucket,
        job: FargateJob | lambda_.IFunction | sfn.IChainable,
        max_concurrency: int | None = None,
        semaphore: SharedSemaphore | None = None,
        max_starts_per_second: float | None = None,
        prefixes: Sequence[str] = (),
        suffixes: Sequence[str] = (),
        wildcards: Sequence[str] = (),
        min_size: int | None = None,
        max_size: int | None = None,
        one_at_a_time_per_key: bool = False,
        drop_stale_events: bool = False,
        output_bucket: s3.IBucket | None = None,
        output_prefix: str | None = None,
        paused: bool = False,
        max_waiting: int = 10_000,
        vcpu_quota: float | None = None,
        starter_concurrency: int = 5,
        execution_timeout: Duration | None = None,
        alert_lambda: lambda_.IFunction | None = None,
        failure_handlers: Sequence[lambda_.IFunction | sns.ITopic | Handler] | None = None,
        success_handlers: Sequence[lambda_.IFunction | sns.ITopic | Handler] = (),
        fail_execution: bool = True,
        oldest_object_alarm: Duration = Duration.hours(1),
        log_execution_data: bool = True,
        log_retention: logs.RetentionDays = logs.RetentionDays.THREE_MONTHS,
        alarm_actions: Sequence[cloudwatch.IAlarmAction] = (),
    ) -> None:
        require_free_id(scope, id_)
        super().__init__(scope, id_)
        self.name = deployed_name(self)
        """What its metrics are told apart by."""

        if not hasattr(bucket, "bucket_arn"):
            raise invalid(self, "bucket", "must be a bucket", bucket, "Pass for example s3.Bucket(self, 'Incoming').")
        objects = ObjectFilter(
            prefixes=prefixes, suffixes=suffixes, wildcards=wildcards, min_size=min_size, max_size=max_size
        )
        objects.check(self)
        work = as_job(self, "job", job)
        self._check_limit(max_concurrency, semaphore, max_starts_per_second)
        if execution_timeout is not None:
            require_duration(self, "execution_timeout", execution_timeout, at_most=LONGEST_EXECUTION)
        require_duration(self, "oldest_object_alarm", oldest_object_alarm, at_least=_MINUTE, at_most=LONGEST_RETENTION)
        ignored = self._check_recursion(work, bucket, objects, output_bucket, output_prefix)

        self.undelivered = DeadLetters(self, "Undelivered", alarm_actions=alarm_actions)
        self.alert: AlertFunction | None = None
        if alert_lambda is None and failure_handlers is None:
            self.alert = AlertFunction(self, "Alert", alarm_actions=alarm_actions, log_retention=log_retention)
            failure_handlers = [self.alert]

        def make_semaphore(id_: str, limit: int, pace: float | None) -> Semaphore:
            return Semaphore(
                self,
                id_,
                limit=limit,
                max_starts_per_second=pace,
                grace=work.longest_stop,
                # Nobody else holds its permits: it may go with the state machine.
                removal_policy=RemovalPolicy.DESTROY,
                oldest_waiter_alarm=oldest_object_alarm,
                log_retention=log_retention,
                alarm_actions=alarm_actions,
            )

        own = None if max_concurrency is None else make_semaphore("Quota", max_concurrency, max_starts_per_second)
        # One of the two there is: the other case was refused above.
        self.semaphore: SharedSemaphore = own or semaphore  # type: ignore[assignment]
        self._warn_of_quotas(work, vcpu_quota, max_starts_per_second)
        self.turns = make_semaphore("Turns", 1, None) if one_at_a_time_per_key else None
        self._own_semaphores = [one for one in (own, self.turns) if one is not None]

        self.buffer = ObjectBuffer(
            self,
            "Buffer",
            bucket=bucket,
            objects=objects,
            reader_timeout=STARTER_TIMEOUT,
            oldest_object_alarm=oldest_object_alarm,
            alarm_actions=alarm_actions,
        )
        self.workflow = Workflow(
            self,
            "Workflow",
            job=self._guarded(work),
            name=self.node.path,
            dead_letters=self.undelivered.queue,
            on_failure=[
                *as_handlers(self, "alert_lambda", [alert_lambda] if alert_lambda else []),
                *as_handlers(self, "failure_handlers", failure_handlers or []),
            ],
            on_success=as_handlers(self, "success_handlers", success_handlers),
            timeout=execution_timeout,
            fail_execution=fail_execution,
            log_execution_data=log_execution_data,
            log_retention=log_retention,
            alarm_actions=alarm_actions,
        )
        self.starter = Starter(
            self,
            "Starter",
            name=self.name,
            bucket=bucket,
            buffer=self.buffer,
            state_machine=self.state_machine,
            concurrency=starter_concurrency,
            ignored_prefixes=ignored,
            min_size=objects.min_size or 0,
            drop_stale_events=drop_stale_events,
            paused=paused,
            log_retention=log_retention,
            alarm_actions=alarm_actions,
        )
        self.valve = Valve(
            self,
            "Valve",
            name=self.name,
            mapping=self.starter.mapping,
            semaphore=self.semaphore,
            max_waiting=max_waiting,
            paused=paused,
            log_retention=log_retention,
            alarm_actions=alarm_actions,
        )
        self.backfill = Backfill(
            self,
            "Backfill",
            bucket=bucket,
            objects=objects,
            buffer=self.buffer,
            log_retention=log_retention,
            alarm_actions=alarm_actions,
        )

    @property
    def state_machine(self) -> sfn.StateMachine:
        """The state machine that runs the job."""
        return self.workflow.state_machine

    @property
    def queue(self) -> sqs.Queue:
        """Where objects wait before they are started."""
        return self.buffer.queue

    @property
    def dead_letters(self) -> DeadLetters:
        """Keeps the events that could not be read or delivered. What is mended may be sent to `queue` again."""
        return self.buffer.dead_letters

    @property
    def rule(self) -> events.Rule:
        """The rule for the bucket's events."""
        return self.buffer.rule

    @property
    def alarms(self) -> Sequence[cloudwatch.Alarm]:
        """All alarms of this construct."""
        of_alert = [self.alert.alarm, self.alert.dead_letters.alarm] if self.alert else []
        of_semaphores = [
            alarm for one in self._own_semaphores for alarm in (*one.alarms.values(), one.dead_letters.alarm)
        ]
        return [
            *self.workflow.alarms.values(),
            self.undelivered.alarm,
            self.buffer.alarm,
            self.dead_letters.alarm,
            self.starter.alarm,
            self.valve.alarm,
            self.backfill.alarm,
            *of_alert,
            *of_semaphores,
        ]

    @property
    def security_groups(self) -> Sequence[ec2.ISecurityGroup]:
        """The security groups of the task; none without a `FargateJob`."""
        return self.workflow.job.security_groups

    # --- metrics ----------------------------------------------------------------------------------------

    def metric_waiting(self, *, period: Duration = _MINUTE, statistic: str = "Maximum") -> cloudwatch.Metric:
        """How many objects wait in the buffer. Those that wait for a permit: ``semaphore.metric_waiting()``."""
        return self.buffer.metric_waiting(period=period, statistic=statistic)

    def metric_oldest_object_seconds(
        self, *, period: Duration = _MINUTE, statistic: str = "Maximum"
    ) -> cloudwatch.Metric:
        """For how many seconds the oldest object in the buffer has been there."""
        return self.buffer.metric_oldest_object(period=period, statistic=statistic)

    def metric_started(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many executions were started."""
        return self._metric("Started", period, statistic)

    def metric_duplicates(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many events were delivered again, and started nothing."""
        return self._metric("Duplicates", period, statistic)

    def metric_stale(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many events were dropped, as a newer one of the same key was there before."""
        return self._metric("Stale", period, statistic)

    def metric_ignored(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many events were of folder markers, of objects under ``output_prefix``, or below ``min_size``."""
        return self._metric("Ignored", period, statistic)

    def metric_rejected(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many messages could not be read, and are in the dead-letter queue."""
        return self._metric("Rejected", period, statistic)

    def metric_delayed(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many objects could not be started, and are tried again."""
        return self._metric("Delayed", period, statistic)

    def metric_valve_open(self, *, period: Duration = _MINUTE, statistic: str = "Minimum") -> cloudwatch.Metric:
        """Whether the buffer is read: 1 for yes, 0 for no."""
        return self._metric("ValveOpen", period, statistic)

    def dashboard_widgets(self) -> list[cloudwatch.IWidget]:
        """What to look at, as a section of a dashboard: ``dashboard.add_widgets(*pipeline.dashboard_widgets())``."""
        waiting, oldest, running = [self.metric_waiting()], [self.metric_oldest_object_seconds()], []
        # One that was imported without its name has no metrics.
        if self.semaphore.name is not None:
            waiting.append(self.semaphore.metric_waiting())
            oldest.append(self.semaphore.metric_oldest_waiter_seconds())
            running.append(self.semaphore.metric_in_use())
        machine = self.state_machine
        ended = [
            metric(period=_MINUTE)
            for metric in (machine.metric_started, machine.metric_succeeded, machine.metric_failed)
        ]
        dead = [
            one.queue.metric_approximate_number_of_messages_visible(period=_MINUTE, statistic="Maximum")
            for one in (self.dead_letters, self.undelivered)
        ]
        started = [self.metric_started(), self.metric_duplicates(), self.metric_delayed(), self.metric_rejected()]
        drawn = {
            "waiting": waiting,
            "oldest, in seconds": oldest,
            "at work": [*running, self.metric_valve_open()],
            "objects": started,
            "executions": ended,
            "dead letters": dead,
        }
        return graphs(self.name, drawn)

    def _metric(self, metric: str, period: Duration, statistic: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=_NAMESPACE,
            metric_name=metric,
            dimensions_map={"Pipeline": self.name},
            period=period,
            statistic=statistic,
        )

    # --- checks and choices -----------------------------------------------------------------------------

    def _guarded(self, work: Job) -> Job:
        guarded = GuardedJob(job=work, semaphore=self.semaphore, id="quota")
        if self.turns is None:
            return guarded
        # Outside the quota: who waits for another one of its key takes nothing from the others.
        return GuardedJob(job=guarded, semaphore=self.turns, id="turn", terms=Terms(key=f"$.{OBJECT}.key"))

    def _check_limit(
        self, max_concurrency: int | None, semaphore: SharedSemaphore | None, max_starts_per_second: float | None
    ) -> None:
        if semaphore is not None:
            remedy = "Pass for example Semaphore(self, 'Quota', limit=5)."
            require_type(self, "semaphore", semaphore, SharedSemaphore, remedy)
        if (max_concurrency is None) == (semaphore is None):
            raise invalid(
                self,
                "max_concurrency",
                "must be given, or semaphore in its place, and not both",
                max_concurrency,
                "Pass for example max_concurrency=50.",
            )
        if semaphore is not None and max_starts_per_second is not None:
            raise invalid(
                self,
                "max_starts_per_second",
                "must not be given beside semaphore, which has a pace of its own",
                max_starts_per_second,
                "Pass it to the Semaphore.",
            )

    def _check_recursion(
        self,
        work: AnyWork,
        bucket: s3.IBucket,
        objects: ObjectFilter,
        output_bucket: s3.IBucket | None,
        output_prefix: str | None,
    ) -> Sequence[str]:
        """The prefixes under which no object starts anything."""
        if output_bucket is None and output_prefix is None:
            warn_if_role_may_write(self, bucket, objects, work.roles)
            return []
        if output_bucket is not None and not is_same_bucket(bucket, output_bucket):
            return []
        return [check_output(self, objects, output_prefix)]

    def _warn_of_quotas(self, work: AnyWork, vcpu_quota: float | None, pace: float | None) -> None:
        if vcpu_quota is not None:
            remedy = "Pass for example vcpu_quota=100."
            require_type(self, "vcpu_quota", vcpu_quota, (int, float), remedy)
            if not 0 < vcpu_quota < math.inf:
                raise invalid(self, "vcpu_quota", "must be finite, and more than 0", vcpu_quota, remedy)
            if not isinstance(work, FargateJob):
                rule = "is of use with a FargateJob only"
                raise invalid(self, "vcpu_quota", rule, vcpu_quota, "Leave it out.")
        limit = self.semaphore.limit
        if limit is None or not isinstance(work, FargateJob):
            return
        if vcpu_quota is not None:
            warn_of_vcpu_quota(self, work, limit=limit, quota=vcpu_quota)
        # The pace of a semaphore that was made elsewhere is for those to choose who made it.
        if pace is not None or not self.semaphore.paced:
            warn_of_launch_rate(self, limit=limit, pace=pace)
