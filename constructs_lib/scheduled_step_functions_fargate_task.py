"""A Fargate task on a schedule: launched again where that helps, and told of where it does not."""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from aws_cdk import Duration, RemovalPolicy, Token
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .parts.alert_function import AlertFunction
from .parts.dead_letters import DeadLetters
from .parts.fargate_job import DEFAULT_RETRY, DEFAULT_TIMEOUT, Capacity, FargateJob
from .parts.guard import GuardedJob, Terms
from .parts.handlers import Handler, as_handlers
from .parts.job import LONGEST_EXECUTION, PERMITS, RESERVED_KEYS, TICK, Job
from .parts.missed_run_alarm import missed_run_alarm
from .parts.once_per_tick import JobOncePerTick, Ticks
from .parts.retry import LaunchRetry, RetryPolicy
from .parts.schedule_trigger import ScheduleLike, ScheduleTrigger
from .parts.semaphore import Semaphore, SharedSemaphore
from .parts.validation import (
    invalid,
    leads_somewhere,
    require_duration,
    require_free_id,
    require_type,
    require_unreserved_keys,
)
from .parts.workflow import Workflow

if TYPE_CHECKING:
    # Slow to import, and only named in an annotation.
    from aws_cdk import aws_stepfunctions_tasks as tasks


class Overlap(Enum):
    """What becomes of a run that comes round while the one before it is not over."""

    ALLOW = "allow"
    """It runs beside it."""

    SKIP = "skip"
    """It is left out: the execution ends SUCCEEDED, with ``{"granted": false}`` at ``$.permits.turn``."""

    WAIT = "wait"
    """It waits for its turn, at no cost: first come, first served."""


class ScheduledStepFunctionsFargateTask(Construct):
    """Runs a Fargate task on a schedule, through Step Functions, so that it cannot fail in silence.

    schedule -> state machine -> Fargate task, launched again where that helps -> SUCCEEDED
                                 -> failure handlers (alert) -> FAILED

    The cluster and the task definition stay the caller's. Creates the trigger, the state machine with its
    role, log group and alarms, a dead-letter queue, and an `AlertFunction` unless other handlers are given.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        schedule: An ``events.Schedule`` (becomes an EventBridge rule) or a ``scheduler.ScheduleExpression``
            (becomes a schedule of EventBridge Scheduler, with a time zone).
        cluster: The cluster that the task runs in.
        task_definition: What to run, pinned to the revision of this deployment.
        rule_name: The name of the rule or schedule; the state machine is then ``{rule_name}-state-machine``.
            Default: names that CloudFormation makes up.
        enabled: Whether the schedule is active. Default True.
        time_window: Lets EventBridge Scheduler start the run at any time within a window.
        input: The execution's input, for example ``{"commands": ["php", "artisan", "report"]}``. Default ``{}``.
        container_overrides: Command, environment, CPU or memory of containers. A value may come from the input:
            ``command=sfn.JsonPath.list_at("$.commands")``.
        cpu: CPU units of the task instead of the task definition's.
        memory_limit_mib: Memory of the task in MiB instead of the task definition's.
        task_role: The role of the application instead of the task definition's.
        subnets: Default: the private subnets with egress, or the public ones with ``assign_public_ip``.
        security_groups: Default: a new one that lets nothing in.
        assign_public_ip: Default False.
        platform_version: Default ``LATEST``.
        capacity: On demand (default), or Spot with on demand behind it.
        propagated_tag_source: Where the task's tags come from. Default: the task definition.
        timeout: How long one run of the task may take; then it is stopped. Default 1 hour.
        heartbeat: The run fails when no heartbeat arrived for so long; shorter than ``timeout``. Default: none.
        retry: Which failures are launched again, and how often. Default ``LaunchRetry()``.
        execution_timeout: How long the whole execution may take, pauses included. Default: what ``timeout`` and
            ``retry`` add up to, and 15 minutes for the handlers; a year where it may wait for a permit.
        overlap: What becomes of a run while the one before it is not over: ``Overlap.ALLOW`` (default), ``SKIP`` or
            ``WAIT``. The latter two make a `Semaphore` of one permit.
        once_per_tick: Whether a tick that EventBridge delivers twice is run once: the second execution ends SUCCEEDED,
            with ``{"duplicate": true}`` at ``$.tick``. ``Overlap.SKIP`` and ``WAIT`` always do so. Makes a table, and
            sets ``{"time": <the scheduled time>}`` at ``tick`` in the input. A run that is started by hand has no
            ``tick``. Default False.
        semaphore: Shares out permits among jobs: the task runs with one of them only. Default: none.
        alert_lambda: A function to tell of a failure instead of the library's own. It gets
            ``{"Response": <the input, with the error beside it>, "Execution": <the context object>}``.
        failure_handlers: Who is told of a failure, in this order: functions, topics, `AlertFunction`. Default: a
            new `AlertFunction`, or only ``alert_lambda`` where that is given.
        success_handlers: Who is told of a success. Default: nobody.
        fail_execution: Whether an execution whose task failed ends FAILED. Default True.
        expected_every: An alarm rings when no run succeeded for so long; at most 7 days. Default: no such alarm.
        retry_attempts: How often EventBridge tries to start a run, at most 185 (default).
        max_event_age: How late a run may still be started, from 1 minute to 24 hours. Default 1 hour.
        log_execution_data: Whether inputs and outputs are logged. Default True.
        log_retention: How long the state machine's log is kept. Default 3 months.
        alarm_actions: What the alarms do. Default: nothing; they are still visible in the console.

    Raises:
        ConfigurationError: an argument cannot work; the message says which, why, and what to write instead.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        schedule: ScheduleLike,
        cluster: ecs.ICluster,
        task_definition: ecs.TaskDefinition,
        rule_name: str | None = None,
        enabled: bool = True,
        time_window: scheduler.TimeWindow | None = None,
        input: Mapping[str, Any] | None = None,
        container_overrides: "Sequence[tasks.ContainerOverride]" = (),
        cpu: int | None = None,
        memory_limit_mib: int | None = None,
        task_role: iam.IRole | None = None,
        subnets: ec2.SubnetSelection | None = None,
        security_groups: Sequence[ec2.ISecurityGroup] | None = None,
        assign_public_ip: bool = False,
        platform_version: ecs.FargatePlatformVersion = ecs.FargatePlatformVersion.LATEST,
        capacity: Capacity = Capacity.ON_DEMAND,
        propagated_tag_source: ecs.PropagatedTagSource = ecs.PropagatedTagSource.TASK_DEFINITION,
        timeout: Duration = DEFAULT_TIMEOUT,
        heartbeat: Duration | None = None,
        retry: LaunchRetry | RetryPolicy | None = None,
        execution_timeout: Duration | None = None,
        overlap: Overlap = Overlap.ALLOW,
        once_per_tick: bool = False,
        semaphore: SharedSemaphore | None = None,
        alert_lambda: lambda_.IFunction | None = None,
        failure_handlers: Sequence[lambda_.IFunction | sns.ITopic | Handler] | None = None,
        success_handlers: Sequence[lambda_.IFunction | sns.ITopic | Handler] = (),
        fail_execution: bool = True,
        expected_every: Duration | None = None,
        retry_attempts: int = 185,
        max_event_age: Duration = Duration.hours(1),
        log_execution_data: bool = True,
        log_retention: logs.RetentionDays = logs.RetentionDays.THREE_MONTHS,
        alarm_actions: Sequence[cloudwatch.IAlarmAction] = (),
    ) -> None:
        require_free_id(scope, id_)
        super().__init__(scope, id_)
        job = FargateJob(
            cluster=cluster,
            task_definition=task_definition,
            container_overrides=container_overrides,
            cpu=cpu,
            memory_limit_mib=memory_limit_mib,
            task_role=task_role,
            subnets=subnets,
            security_groups=security_groups,
            assign_public_ip=assign_public_ip,
            platform_version=platform_version,
            capacity=capacity,
            propagated_tag_source=propagated_tag_source,
            timeout=timeout,
            heartbeat=heartbeat,
            retry=retry or DEFAULT_RETRY,
        )
        run_input = input or {}
        self._check_name(rule_name)
        require_type(self, "overlap", overlap, Overlap, "Pass for example Overlap.SKIP.")
        once_per_tick = once_per_tick or overlap is not Overlap.ALLOW
        set_beside_input = [
            *RESERVED_KEYS,
            *([PERMITS] if overlap is not Overlap.ALLOW or semaphore is not None else []),
            *([TICK] if once_per_tick else []),
        ]
        self._check_input(run_input, job, reserved=set_beside_input)
        self._check_time(job, execution_timeout)

        self.dead_letters = DeadLetters(self, "DeadLetters", alarm_actions=alarm_actions)
        self.alert: AlertFunction | None = None
        if alert_lambda is None and failure_handlers is None:
            self.alert = AlertFunction(self, "Alert", alarm_actions=alarm_actions, log_retention=log_retention)
            failure_handlers = [self.alert]

        guarded: Job = job
        if semaphore is not None:
            require_type(
                self, "semaphore", semaphore, SharedSemaphore, "Pass for example Semaphore(self, 'Quota', limit=5)."
            )
            guarded = GuardedJob(job=guarded, semaphore=semaphore, id="quota")
        self.turns: Semaphore | None = None
        if overlap is not Overlap.ALLOW:
            self.turns = self._make_turns(overlap, log_retention, alarm_actions)
            terms = Terms(on_busy="skip" if overlap is Overlap.SKIP else "wait")
            # Outside the quota: a run that is skipped, or that waits for its turn, takes nothing from others.
            guarded = GuardedJob(job=guarded, semaphore=self.turns, id="turn", terms=terms)
        self.ticks: Ticks | None = None
        if once_per_tick:
            self.ticks = Ticks(self, "Ticks")
            # Outermost: what was delivered twice neither waits for a turn nor counts as skipped.
            guarded = JobOncePerTick(job=guarded, ticks=self.ticks)

        self.workflow = Workflow(
            self,
            "Workflow",
            job=guarded,
            name=rule_name or self.node.path,
            dead_letters=self.dead_letters.queue,
            on_failure=[
                *as_handlers(self, "alert_lambda", [alert_lambda] if alert_lambda else []),
                *as_handlers(self, "failure_handlers", failure_handlers or []),
            ],
            on_success=as_handlers(self, "success_handlers", success_handlers),
            state_machine_name=f"{rule_name}-state-machine" if rule_name else None,
            timeout=execution_timeout,
            fail_execution=fail_execution,
            log_execution_data=log_execution_data,
            log_retention=log_retention,
            alarm_actions=alarm_actions,
        )
        self.trigger = ScheduleTrigger(
            self,
            "Trigger",
            schedule=schedule,
            state_machine=self.state_machine,
            input=run_input,
            tells_tick=once_per_tick,
            dead_letters=self.dead_letters.queue,
            name=rule_name,
            enabled=enabled,
            time_window=time_window,
            retry_attempts=retry_attempts,
            max_event_age=max_event_age,
        )
        self.missed_run_alarm = expected_every and missed_run_alarm(
            self, self.state_machine, expected_every=expected_every, actions=alarm_actions
        )

    @property
    def state_machine(self) -> sfn.StateMachine:
        """The state machine that runs the task."""
        return self.workflow.state_machine

    @property
    def rule(self) -> events.Rule | None:
        """The rule that starts it, if ``schedule`` is an ``events.Schedule``."""
        return self.trigger.rule

    @property
    def schedule(self) -> scheduler.Schedule | None:
        """The schedule that starts it, if ``schedule`` is a ``scheduler.ScheduleExpression``."""
        return self.trigger.schedule

    @property
    def alarms(self) -> Sequence[cloudwatch.Alarm]:
        """All alarms of this construct."""
        of_alert = [self.alert.alarm, self.alert.dead_letters.alarm] if self.alert else []
        missed = [self.missed_run_alarm] if self.missed_run_alarm else []
        of_turns = [*self.turns.alarms.values(), self.turns.dead_letters.alarm] if self.turns else []
        return [*self.workflow.alarms.values(), self.dead_letters.alarm, *of_alert, *missed, *of_turns]

    @property
    def security_groups(self) -> Sequence[ec2.ISecurityGroup]:
        """The security groups of the task."""
        return self.workflow.job.security_groups

    def _make_turns(
        self, overlap: Overlap, log_retention: logs.RetentionDays, alarm_actions: Sequence[cloudwatch.IAlarmAction]
    ) -> Semaphore:
        return Semaphore(
            self,
            "Turns",
            limit=1,
            # Nobody else holds its permit: it may go with the state machine.
            removal_policy=RemovalPolicy.DESTROY,
            oldest_waiter_alarm=Duration.hours(1) if overlap is Overlap.WAIT else None,
            log_retention=log_retention,
            alarm_actions=alarm_actions,
        )

    def _check_name(self, rule_name: str | None) -> None:
        # The state machine's name is the longer one, and may have 80 characters:
        # https://docs.aws.amazon.com/step-functions/latest/apireference/API_CreateStateMachine.html
        if rule_name is None or Token.is_unresolved(rule_name):
            return
        longest = 80 - len("-state-machine")
        if not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{longest}}}", rule_name):
            raise invalid(
                self,
                "rule_name",
                f"must have 1 to {longest} letters, digits, - or _",
                rule_name,
                "Shorten it, or leave it out.",
            )

    def _check_input(self, run_input: Mapping[str, Any], job: FargateJob, *, reserved: Sequence[str]) -> None:
        require_type(self, "input", run_input, Mapping, "Pass for example input={'day': 'monday'}.")
        require_unreserved_keys(self, "input", run_input, reserved)
        for path in job.input_paths():
            if not leads_somewhere(path, run_input):
                raise invalid(
                    self,
                    "input",
                    f"must have {path}, which container_overrides takes from it",
                    dict(run_input),
                    "Add it to input, or correct the path.",
                )

    def _check_time(self, job: FargateJob, execution_timeout: Duration | None) -> None:
        """What is waited for a start, and what a run may take, must fit into the time that there is."""
        require_duration(self, "timeout", job.timeout)
        require_type(self, "retry", job.retry, (LaunchRetry, RetryPolicy), "Pass for example LaunchRetry().")
        if execution_timeout is None:
            self._check_budgets(job)
            return
        require_duration(self, "execution_timeout", execution_timeout, at_most=LONGEST_EXECUTION)
        needed = job.timeout.plus(job.retry.longest_pause)
        if execution_timeout.to_seconds() < needed.to_seconds():
            raise invalid(
                self,
                "execution_timeout",
                f"must not be shorter than timeout and the pauses of retry together ({needed.to_human_string()})",
                execution_timeout,
                "Lengthen it, or shorten timeout or the retry budget.",
            )

    def _check_budgets(self, job: FargateJob) -> None:
        # Hours for minutes is soon written. Who means to wait longer for a start than the run may take says how
        # long the whole may take.
        if isinstance(job.retry, RetryPolicy):
            budgets = {"retry": job.retry}
        else:
            ours = DEFAULT_RETRY.budgets
            budgets = {f"retry.{name}": own for name, own in job.retry.budgets.items() if own != ours[name]}
        for name, policy in budgets.items():
            if policy.longest_pause.to_seconds() > job.timeout.to_seconds():
                raise invalid(
                    self,
                    name,
                    f"must not wait longer than timeout ({job.timeout.to_human_string()}) in all",
                    policy.longest_pause,
                    "Shorten it, or pass execution_timeout=Duration.… for the whole execution.",
                )
