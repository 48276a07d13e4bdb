"""Runs again what an error spool keeps: by hand, on a schedule, or when an alarm says that the trouble is over."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Literal

from aws_cdk import Aws, Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets_
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .parts.alarms import alarm_on
from .parts.error_spool import REPROCESSOR_TIMEOUT, ErrorSpool, acknowledge_inputs
from .parts.executions import acknowledge_executions, executions_of, require_standard
from .parts.function_schedule import FunctionSchedule
from .parts.functions import make_function
from .parts.hold import Hold
from .parts.metrics import graphs
from .parts.runbook import Entry, command, runbook
from .parts.schedule_trigger import ScheduleLike, check_expression
from .parts.validation import invalid, require_duration, require_free_id, require_type, require_whole_number

_MINUTE = Duration.minutes(1)
_REPROCESS = {"action": "reprocess"}

# Often enough for the alarm on what expires, seldom enough not to be what a message is received most for.
_LOOK_EVERY = Duration.hours(6)


class ErrorSpoolReprocessor(Construct):
    """Runs again what an `ErrorSpool` keeps, some at a time, oldest first, and nothing twice.

    spool -> reprocessor -> the state machine that had failed -> (it fails again) spool -> … -> quarantine

    No message is deleted before its restart is accepted, and a message that is seen twice starts one execution. What
    fails again comes back with its attempt counted; after `max_attempts` it is parked in the spool's quarantine. The
    first restarts of a call are watched: if one of them fails again, the rest stays where it is.

    It acts when it is told to: by invoking `function` with ``{"action": "reprocess"}``, by a button on a dashboard
    (`dashboard_widgets`), on a schedule, or when an alarm is OK again. `runbook` says what to do when an alarm rings.

    Creates the function and the dashboard's widget function with their roles and log groups, rules, and alarms.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        spool: What it empties.
        targets: The state machines that it may start. What failed elsewhere stays in the spool, and is told.
        mode: ``"restart"`` (default) starts a new execution with the kept input; ``"redrive"`` has the failed one go on
            at the step that failed, and restarts where AWS does not allow that, or where the failure was caught.
        max_reprocess: How many are run again in one call, from 1 to 10,000. Default 10.
        starts_per_second: The pace, more than 0. Default 1.
        max_attempts: An input that failed so often is parked in quarantine, from 1 to 100. Default 3.
        schedule: When it runs by itself. Default: never.
        when_alarm_ok: It runs whenever this alarm, or composite alarm, becomes OK. Default: none.
        ramp: How many of the first restarts of a call are watched, from 0 to 100. Default 2.
        ramp_wait: How long they are watched at the most, up to 10 minutes. Default 1 minute.
        hold: What holds new work back meanwhile; it watches the targets, and has this drain the spool when it ends.
            In the same stack. Default: none.
        log_retention: How long the functions' logs are kept. Default 3 months.
        alarm_actions: What the alarms do. Default: nothing; they are still visible in the console.

    Raises:
        ConfigurationError: an argument cannot work; the message says which, why, and what to write instead.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        spool: ErrorSpool,
        targets: Sequence[sfn.IStateMachine],
        mode: Literal["restart", "redrive"] = "restart",
        max_reprocess: int = 10,
        starts_per_second: float = 1.0,
        max_attempts: int = 3,
        schedule: ScheduleLike | None = None,
        when_alarm_ok: cloudwatch.IAlarm | None = None,
        ramp: int = 2,
        ramp_wait: Duration = _MINUTE,
        hold: Hold | None = None,
        log_retention: logs.RetentionDays = logs.RetentionDays.THREE_MONTHS,
        alarm_actions: Sequence[cloudwatch.IAlarmAction] = (),
    ) -> None:
        require_free_id(scope, id_)
        super().__init__(scope, id_)
        require_type(self, "spool", spool, ErrorSpool, "Pass for example ErrorSpool(self, 'Spool').")
        self.spool = spool
        self._check_targets(targets)
        if mode not in ("restart", "redrive"):
            raise invalid(self, "mode", "must be 'restart' or 'redrive'", mode, "Leave it out to restart.")
        require_whole_number(self, "max_reprocess", max_reprocess, at_least=1, at_most=10_000)
        self._check_pace(starts_per_second)
        require_whole_number(self, "max_attempts", max_attempts, at_least=1, at_most=100)
        require_whole_number(self, "ramp", ramp, at_least=0, at_most=100)
        require_duration(self, "ramp_wait", ramp_wait, at_most=Duration.minutes(10))
        if schedule is not None:
            check_expression(self, schedule)
        self._check_when_alarm_ok(when_alarm_ok)
        self._check_hold(hold)
        self._hold = hold
        self._most = max_reprocess

        self.function = make_function(
            self,
            "Function",
            handler="spool.reprocessor.handle",
            description=f"Runs again what is in {spool.node.path}",
            environment={
                "QUEUE_URL": spool.queue.queue_url,
                "QUARANTINE_URL": spool.quarantine.queue_url,
                "TABLE_NAME": spool.table.table_name,
                "BUCKET": spool.bucket.bucket_name,
                "TARGETS": Stack.of(self).to_json_string([one.state_machine_arn for one in targets]),
                "MODE": mode,
                "MOST": str(max_reprocess),
                "STARTS_PER_SECOND": str(starts_per_second),
                "MOST_ATTEMPTS": str(max_attempts),
                "RAMP": str(ramp),
                "RAMP_SECONDS": str(int(ramp_wait.to_seconds())),
                "KEY_PATH": spool.key or "",
                "SPOOL": spool.name,
            },
            # What a call does not come to, stays in the spool.
            dead_letter_queue=None,
            log_retention=log_retention,
            timeout=REPROCESSOR_TIMEOUT,
            memory_size=512,
        )
        self._allow_spool()
        for number, target in enumerate(targets, start=1):
            self._allow_target(number, target)
        self.widget = self._make_widget(log_retention)
        self._make_triggers(schedule, when_alarm_ok, hold)
        if hold is not None:
            hold.drain_by(self.function)
            for target in targets:
                # Here, as this stack needs those of the targets: beside them, each would need the other.
                hold.watch(target, scope=self)
        self.alarms: Mapping[str, cloudwatch.Alarm] = self._make_alarms(alarm_actions)

    # --- to look at -------------------------------------------------------------------------------------

    @property
    def runbook(self) -> str:
        """What to do when an alarm rings, in Markdown, with the names of this deployment."""
        name = self.function.function_name
        spool = self.spool
        entries = [
            Entry(
                spool.alarms["Expiring"].alarm_name,
                f"a failure has been kept for {spool.expiry_alarm.to_human_string()} and will be lost",
                "see what is there; run it again, or drop it",
            ),
            Entry(self.alarms["Expiring"].alarm_name, "the same, as the reprocessor saw it", "the same"),
            *(
                [
                    Entry(
                        spool.alarms["Waiting"].alarm_name,
                        "a failure waits for somebody to run it again",
                        "see what is there; when the trouble is over, run 2 again, then all",
                    )
                ]
                if "Waiting" in spool.alarms
                else []
            ),
            Entry(
                spool.alarms["Quarantined"].alarm_name,
                "an input failed too often, or a message could not be read",
                "mend what it fails of and release it, or drop it",
            ),
            Entry(
                spool.dead_letters.alarm.alarm_name,
                "a message was received very often, or an event could not be handled",
                "move it back to the spool; events were made good by the reconciler",
            ),
            Entry(
                spool.alarms["InletFailing"].alarm_name,
                "failures do not reach the spool at once",
                "read the log; the reconciler adds what is missing",
            ),
            Entry(
                spool.alarms["ReconcilerFailing"].alarm_name,
                "nobody looks for failures that no event told of",
                "read the log, soon",
            ),
            Entry(self.alarms["Failing"].alarm_name, "the reprocessor fails", "read the log; nothing was lost"),
        ]
        commands = {
            "See what is there": command(name, '{"action":"list"}'),
            "Try, and change nothing": command(name, '{"action":"reprocess","dryRun":true}'),
            "Run the 2 oldest again": command(name, '{"action":"reprocess","max":2}'),
            f"Run up to {self._most} again": command(name, '{"action":"reprocess"}'),
            "Run all again": command(name, '{"action":"reprocess","max":"all"}'),
            "Put one kind of error aside": command(name, '{"action":"park","error":"Neighbour.Broken"}'),
            "Release all from quarantine": command(name, '{"action":"release","all":true}'),
            "Drop one of the quarantine for good": command(name, '{"action":"drop","id":"…","confirm":true}'),
            "Read the log": f"aws logs tail {self.function.log_group.log_group_name} --since 1h --region {Aws.REGION}",
            "Move dead letters back": "aws sqs start-message-move-task --source-arn "
            f"{spool.dead_letters.queue.queue_arn} --destination-arn {spool.queue.queue_arn} --region {Aws.REGION}",
        }
        if self._hold is not None:
            gate = self._hold.semaphore.function.function_name
            commands["Hold new work back"] = command(gate, json.dumps(self._hold.pause, separators=(",", ":")))
            commands["Let it go on"] = command(gate, '{"action":"resume"}')
            if "Opened" in self._hold.alarms:
                entries.append(
                    Entry(
                        self._hold.alarms["Opened"].alarm_name,
                        "too many failures in a row: new work is held back",
                        "see to the neighbour; one run at a time probes it, and all goes on when one succeeds",
                    )
                )
                entries.append(
                    Entry(
                        self._hold.alarms["BreakerFailing"].alarm_name,
                        "failures are not counted",
                        "hold new work back by hand while the neighbour is down",
                    )
                )
        return runbook(f"When an alarm of {spool.name} rings", entries, commands)

    def dashboard_widgets(self) -> list[cloudwatch.IWidget]:
        """What to look at, as a section of a dashboard: ``dashboard.add_widgets(*reprocessor.dashboard_widgets())``.

        The first one lists the spool by error and has the buttons. Who presses them must be allowed to invoke `widget`
        (``lambda:InvokeFunction``), and nothing else.
        """
        name = self.spool.name
        drawn = {
            "waiting and parked": [self.spool.metric_waiting(), self.spool.metric_quarantined()],
            "run again": [self.metric_restarted(), self.metric_redriven(), self.metric_quarantined()],
            "spooled": [self.spool.metric_spooled(), self.spool.metric_recovered()],
        }
        return [
            cloudwatch.CustomWidget(
                title=f"{name}: failures",
                function_arn=self.widget.function_arn,
                # To be shown is to be received, which SQS counts: so it is for whoever asks.
                update_on_refresh=False,
                update_on_resize=False,
                update_on_time_range_change=False,
                width=24,
                height=8,
            ),
            *graphs(name, drawn),
            cloudwatch.TextWidget(markdown=self.runbook, width=24, height=12),
        ]

    def metric_restarted(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many new executions were started with a kept input."""
        return self.spool.metric("Restarted", period=period, statistic=statistic)

    def metric_redriven(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many failed executions went on at the step that failed."""
        return self.spool.metric("Redriven", period=period, statistic=statistic)

    def metric_quarantined(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many were put in quarantine."""
        return self.spool.metric("Quarantined", period=period, statistic=statistic)

    # --- resources --------------------------------------------------------------------------------------

    def _allow_spool(self) -> None:
        spool = self.spool
        reading = [
            f"sqs:{action}"
            for action in (
                "ChangeMessageVisibility",
                "DeleteMessage",
                "GetQueueAttributes",
                "ReceiveMessage",
                "SendMessage",
            )
        ]
        for resource, actions in {
            spool.queue.queue_arn: reading,
            spool.quarantine.queue_arn: reading,
            spool.table.table_arn: ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"],
            spool.bucket.arn_for_objects("*"): ["s3:GetObject"],
        }.items():
            self.function.add_to_role_policy(iam.PolicyStatement(actions=actions, resources=[resource]))
        assert self.function.role is not None
        acknowledge_inputs(self.function.role, spool.bucket)

    def _allow_target(self, number: int, target: sfn.IStateMachine) -> None:
        role = self.function.role
        assert role is not None
        # In both modes: what was to be redriven before the mode was changed must not be restarted beside it.
        on_executions = ["states:DescribeExecution", "states:RedriveExecution"]
        policy = iam.Policy(
            self,
            f"Target{number}",
            roles=[role],
            statements=[
                iam.PolicyStatement(actions=["states:StartExecution"], resources=[target.state_machine_arn]),
                iam.PolicyStatement(actions=on_executions, resources=[executions_of(target)]),
            ],
        )
        acknowledge_executions(policy, target)

    def _make_widget(self, log_retention: logs.RetentionDays) -> lambda_.Function:
        widget = make_function(
            self,
            "Widget",
            handler="spool.widget.handle",
            description=f"Shows what is in {self.spool.node.path}",
            environment={"REPROCESSOR_FUNCTION": self.function.function_arn, "SPOOL": self.spool.name},
            # Who presses a button sees whether it worked.
            dead_letter_queue=None,
            log_retention=log_retention,
            timeout=_MINUTE,
        )
        widget.add_to_role_policy(
            iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[self.function.function_arn])
        )
        return widget

    def _make_triggers(self, schedule: ScheduleLike | None, alarm: cloudwatch.IAlarm | None, hold: Hold | None) -> None:
        FunctionSchedule(
            self,
            "Look",
            schedule=events.Schedule.rate(_LOOK_EVERY),
            function=self.function,
            event={"action": "list"},
            description=f"Has {self.node.path} measure what is in the spool.",
        )
        if schedule is not None:
            self._run("Schedule", schedule, f"Runs again what is in {self.spool.node.path}.")
        if hold is not None:
            for number, window in enumerate(hold.windows, start=1):
                self._run(f"AfterWindow{number}", window.end, f"Runs again what failed before {hold.node.path} ended.")
        if alarm is not None:
            events.Rule(
                self,
                "WhenAlarmIsOk",
                description=f"Runs again what is in {self.spool.node.path}, as an alarm is OK again.",
                # https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch-and-eventbridge.html
                event_pattern=events.EventPattern(
                    source=["aws.cloudwatch"],
                    detail_type=["CloudWatch Alarm State Change"],
                    resources=[alarm.alarm_arn],
                    detail={"state": {"value": ["OK"]}},
                ),
                targets=[targets_.LambdaFunction(self.function, event=events.RuleTargetInput.from_object(_REPROCESS))],
            )

    def _run(self, id_: str, schedule: ScheduleLike, description: str) -> None:
        FunctionSchedule(
            self, id_, schedule=schedule, function=self.function, event=_REPROCESS, description=description
        )

    def _make_alarms(self, actions: Sequence[cloudwatch.IAlarmAction]) -> Mapping[str, cloudwatch.Alarm]:
        after = self.spool.expiry_alarm
        return {
            "Failing": alarm_on(
                self,
                "FailingAlarm",
                self.function.metric_errors(),
                description=f"{self.node.path}: the function that runs failures again fails.",
                actions=actions,
            ),
            "WidgetFailing": alarm_on(
                self,
                "WidgetFailingAlarm",
                self.widget.metric_errors(),
                description=f"{self.node.path}: the function of the dashboard's widget fails.",
                actions=actions,
            ),
            # SQS's own metric is blind to what was received three times: the spool's alarm may stay silent.
            "Expiring": alarm_on(
                self,
                "ExpiringAlarm",
                self.spool.metric_oldest_failure_seconds(),
                description=f"{self.node.path}: a failure has been kept for {after.to_human_string()} and will be "
                "lost: run it again, or drop it.",
                threshold=int(after.to_seconds()),
                actions=actions,
            ),
        }

    # --- checks -----------------------------------------------------------------------------------------

    def _check_targets(self, targets: Sequence[sfn.IStateMachine]) -> None:
        remedy = "Pass the state machines whose failures are in the spool, for example [nightly.state_machine]."
        if isinstance(targets, str) or not isinstance(targets, Sequence) or not targets:
            raise invalid(self, "targets", "must be a list of state machines, and not empty", targets, remedy)
        for target in targets:
            require_standard(self, "targets", target)
            of_spool = Stack.of(self.spool)
            if Stack.of(self) is of_spool and Stack.of(target) is not of_spool and self.spool.tells_of(target):
                raise invalid(
                    self,
                    "targets",
                    "must not be in another stack than the spool and its reprocessor, where these are in one: each "
                    "stack would need the other first",
                    target.node.path,
                    "Make the reprocessor in the stack of the state machine, or in one of its own.",
                )

    def _check_pace(self, pace: float) -> None:
        remedy = "Pass for example 1."
        require_type(self, "starts_per_second", pace, (int, float), remedy)
        if not 0 < pace < math.inf:
            raise invalid(self, "starts_per_second", "must be finite, and more than 0", pace, remedy)

    def _check_when_alarm_ok(self, alarm: cloudwatch.IAlarm | None) -> None:
        if alarm is not None and not hasattr(alarm, "alarm_arn"):
            raise invalid(self, "when_alarm_ok", "must be an alarm", alarm, "Pass the cloudwatch.Alarm itself.")

    def _check_hold(self, hold: Hold | None) -> None:
        if hold is None:
            return
        require_type(self, "hold", hold, Hold, "Pass for example Hold(self, 'Hold', semaphore=quota).")
        if Stack.of(hold) is not Stack.of(self):
            raise invalid(
                self,
                "hold",
                "must be in the stack of the reprocessor, as each calls the other",
                hold.node.path,
                "Make the Hold here; its semaphore may be in another stack.",
            )
