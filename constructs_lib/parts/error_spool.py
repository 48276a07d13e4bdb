"""Keeps what failed, with everything that it takes to run it again."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct, IConstruct

from .acknowledgements import acknowledge
from .alarms import alarm_on
from .dead_letters import DeadLetters
from .executions import acknowledge_executions, beside, endings, executions_of, require_standard
from .functions import make_function
from .handlers import Message, task_state
from .job import ERROR, Job
from .metrics import deployed_name
from .validation import invalid, require_duration, require_free_id, require_type
from .wildcard_acknowledgement import acknowledge_wildcard

NAMESPACE = "ConstructsLib/ErrorSpool"

REPROCESSOR_TIMEOUT = Duration.minutes(15)
"""How long a call of the reprocessor may take, the longest that Lambda allows."""

# What SQS keeps a message at the most, and how often it may be received:
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
_LONGEST_RETENTION = Duration.days(14)
_MOST_RECEIVES = 1000

# A parked message that is released may wait once more: longer than two retentions, and then some.
_INPUTS_KEPT = Duration.days(90)

_MINUTE = Duration.minutes(1)
_KEY = re.compile(r"\$(\.[A-Za-z_][\w-]*)+", re.ASCII)

# What a state machine cannot tell of itself, so that its failure handlers are not told inline.
_UNSEEN = ("TIMED_OUT", "ABORTED")


class ErrorSpool(Construct):
    """Keeps failed executions, each with its input and its error, until they are run again.

    There are two ways in. As a *failure handler*, ``failure_handlers=[spool, alert]``, the state machine sends what
    failed to the queue by itself, with no function in between. *Attached* to any Standard state machine, also one that
    this library did not make (`attach`), it is told of failures by events, among them those that no Catch can see, and
    nothing in the state machine changes. As such events are best effort, a function looks every so often for failed
    executions that no event told of. `ErrorSpoolReprocessor` is the way out.

    Creates the queue, a quarantine for what is not to be run again for now, a dead-letter queue, a table that knows
    what was spooled, a bucket for inputs that are too large for a message, two functions with their roles and log
    groups, and alarms. Beside each state machine: rules and a policy.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        key: What a failure is about in the words of the business: a path into the input, such as ``"$.order"``. The
            reprocessor shows it and filters by it. Default: none.
        retention: How long a failure is kept in the queue, and again in the quarantine: from 1 hour to 14 days
            (default).
        expiry_alarm: An alarm rings when a failure has been kept for so long. Shorter than ``retention``. Default 10
            days.
        waiting_alarm: An alarm rings when a failure has waited for so long. Default: no such alarm.
        reconcile_every: How often it looks for failures that no event told of, in whole minutes. Default 15 minutes.
        reconcile_back: How far back it looks. Default 24 hours.
        removal_policy: What becomes of queues, table and bucket when they are taken out of the stack. Default
            ``RETAIN``, which also protects the table from deletion.
        log_retention: How long the functions' logs are kept. Default 3 months.
        alarm_actions: What the alarms do. Default: nothing; they are still visible in the console.

    Raises:
        ConfigurationError: an argument cannot work; the message says which, why, and what to write instead.
    """

    for_failures_only = True
    """A success has no error to spool."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        key: str | None = None,
        retention: Duration = _LONGEST_RETENTION,
        expiry_alarm: Duration = Duration.days(10),
        waiting_alarm: Duration | None = None,
        reconcile_every: Duration = Duration.minutes(15),
        reconcile_back: Duration = Duration.hours(24),
        removal_policy: RemovalPolicy = RemovalPolicy.RETAIN,
        log_retention: logs.RetentionDays = logs.RetentionDays.THREE_MONTHS,
        alarm_actions: Sequence[cloudwatch.IAlarmAction] = (),
    ) -> None:
        require_free_id(scope, id_)
        super().__init__(scope, id_)
        self._check_key(key)
        require_duration(self, "retention", retention, at_least=Duration.hours(1), at_most=_LONGEST_RETENTION)
        self._check_alarm("expiry_alarm", expiry_alarm, retention)
        if waiting_alarm is not None:
            self._check_alarm("waiting_alarm", waiting_alarm, retention)
        self._check_reconciling(reconcile_every, reconcile_back)
        self.name = deployed_name(self)
        """What its metrics are told apart by."""
        self.key = key
        self.expiry_alarm = expiry_alarm
        self._reconcile_every = reconcile_every
        # How each state machine is told of: "inline" as a failure handler, else with or without aborted executions.
        self._sources: dict[str, str] = {}

        self.dead_letters = DeadLetters(self, "DeadLetters", alarm_actions=alarm_actions)
        self.quarantine = self._make_queue("Quarantine", retention, removal_policy)
        self.queue = self._make_queue("Queue", retention, removal_policy)
        self.table = self._make_table(removal_policy)
        self.bucket = self._make_bucket(removal_policy)
        environment = {
            "QUEUE_URL": self.queue.queue_url,
            "TABLE_NAME": self.table.table_name,
            "BUCKET": self.bucket.bucket_name,
            "SPOOL": self.name,
        }
        self.inlet = make_function(
            self,
            "Inlet",
            handler="spool.inlet.handle",
            description=f"Spools failures to {self.node.path}",
            environment=environment,
            dead_letter_queue=self.dead_letters.queue,
            log_retention=log_retention,
            timeout=_MINUTE,
        )
        self.reconciler = make_function(
            self,
            "Reconciler",
            handler="spool.reconciler.handle",
            description=f"Finds failures that no event told {self.node.path} of",
            environment={**environment, "BACK_SECONDS": str(int(reconcile_back.to_seconds()))},
            # The next call looks for the same, and for more.
            dead_letter_queue=None,
            log_retention=log_retention,
            timeout=Duration.minutes(5),
        )
        for function in (self.inlet, self.reconciler):
            self._allow_spooling(function)
        self.reconciler.add_to_role_policy(
            iam.PolicyStatement(actions=["dynamodb:BatchGetItem"], resources=[self.table.table_arn])
        )
        self.alarms = self._make_alarms(expiry_alarm, waiting_alarm, alarm_actions)

    # --- as a failure handler ---------------------------------------------------------------------------

    def prepare(self, scope: Construct, job: Job) -> None:
        """See `Handler.prepare`: what it needs to know, it is told by `grant`."""

    def state(self, scope: Construct, name: str, message: Message, job: Mapping[str, Any]) -> sfn.CustomState:
        """See `Handler.state`. The envelope is made by the state machine itself.

        JSONPath has no default for what is missing, and a path that leads nowhere would end the execution beyond any
        Catch: so it takes what is always there, and the whole error, which may have no cause.
        """
        envelope = {
            "schemaVersion": 1,
            # A redrive would go on behind the Catch, at the Fail state: only a restart runs it again.
            "caught": True,
            "status": "FAILED",
            "failure.$": f"$.{ERROR}",
            "input.$": job.get("again", "$$.Execution.Input"),
            "stateMachine.$": "$$.StateMachine.Id",
            "execution.$": "$$.Execution.Id",
            "executionName.$": "$$.Execution.Name",
            "executionStartedAt.$": "$$.Execution.StartTime",
            "failedAt.$": "$$.State.EnteredTime",
        }
        return task_state(scope, name, "sqs:sendMessage", {"QueueUrl": self.queue.queue_url, "MessageBody": envelope})

    def grant(self, grantee: iam.IGrantable) -> None:
        """See `Handler.grant`. Of a state machine, it also looks for what the state machine cannot tell."""
        grantee.grant_principal.add_to_principal_policy(
            iam.PolicyStatement(actions=["sqs:SendMessage"], resources=[self.queue.queue_arn])
        )
        if isinstance(grantee, sfn.StateMachine):
            self._sources[grantee.node.path] = "inline"
            self._connect(grantee, reconcile=_UNSEEN)

    def rule_target(self, message: Message, job: Mapping[str, Any], dead_letters: sqs.IQueue) -> events.IRuleTarget:
        """See `Watcher.rule_target`. The event as it is: the function asks Step Functions for the rest."""
        return targets.LambdaFunction(self.inlet, dead_letter_queue=dead_letters)

    # --- attached ---------------------------------------------------------------------------------------

    def attach(self, state_machine: sfn.IStateMachine, *, aborted: bool = False) -> None:
        """Spools every failed or timed out execution of a state machine, whoever made it.

        Everything that this takes lies beside the state machine, which may be in another stack than the spool, in the
        same account and region. Its definition stays as it is. A second call for the same state machine changes
        nothing.

        Args:
            state_machine: A Standard one. It may be imported.
            aborted: Whether executions that somebody stopped are spooled as well. Default False.

        Raises:
            ConfigurationError: it is an Express workflow, the spool is one of its failure handlers already, or it was
                attached with another ``aborted``.
        """
        require_standard(self, "state_machine", state_machine)
        source = "attached, aborted as well" if aborted else "attached"
        known = self._sources.get(state_machine.node.path)
        if known == source:
            return
        if known == "inline":
            raise invalid(
                self,
                "state_machine",
                "must not have the spool among its failure handlers, or each failure would be spooled twice",
                state_machine.node.path,
                "Leave out one of the two.",
            )
        if known is not None:
            raise invalid(
                self,
                "aborted",
                f"must be the same at each call for {state_machine.node.path}",
                aborted,
                f"Pass aborted={not aborted}, as before.",
            )
        self._sources[state_machine.node.path] = source
        statuses = ["FAILED", "TIMED_OUT", *(["ABORTED"] if aborted else [])]
        place = self._connect(state_machine, reconcile=statuses)
        events.Rule(
            place,
            "Failed",
            description=f"Failed executions for {self.node.path}.",
            event_pattern=endings(state_machine, statuses),
            # Without a dead-letter queue, whose policy would name this rule: a cycle where they are in two stacks.
            # What cannot be delivered is found by the reconciler.
            targets=[targets.LambdaFunction(self.inlet)],
        )

    def tells_of(self, state_machine: sfn.IStateMachine) -> bool:
        """Whether failures of `state_machine` come to this spool, as far as this app knows by now."""
        return state_machine.node.path in self._sources

    def _connect(self, state_machine: sfn.IStateMachine, *, reconcile: Sequence[str]) -> Construct:
        """Has the reconciler look at `state_machine`, and lets both functions ask for what failed."""
        # The arrangement that makes no cycle between stacks.
        place = beside(state_machine, f"SpoolOf{self.node.path}")
        roles = [role for role in (self.inlet.role, self.reconciler.role) if role is not None]
        describe = iam.Policy(
            place,
            "Describe",
            roles=roles,
            statements=[
                # The history tells which state failed.
                iam.PolicyStatement(
                    actions=["states:DescribeExecution", "states:GetExecutionHistory"],
                    resources=[executions_of(state_machine)],
                )
            ],
        )
        acknowledge_executions(describe, state_machine)
        iam.Policy(
            place,
            "List",
            roles=roles[1:],
            statements=[
                iam.PolicyStatement(actions=["states:ListExecutions"], resources=[state_machine.state_machine_arn])
            ],
        )
        events.Rule(
            place,
            "Reconcile",
            description=f"Looks for failures that no event told {self.node.path} of.",
            schedule=events.Schedule.rate(self._reconcile_every),
            targets=[
                targets.LambdaFunction(
                    self.reconciler,
                    event=events.RuleTargetInput.from_object(
                        {"stateMachine": state_machine.state_machine_arn, "statuses": list(reconcile)}
                    ),
                )
            ],
        )
        return place

    # --- metrics ----------------------------------------------------------------------------------------

    def metric_waiting(self, *, period: Duration = _MINUTE, statistic: str = "Maximum") -> cloudwatch.Metric:
        """How many failures wait to be run again."""
        return self.queue.metric_approximate_number_of_messages_visible(period=period, statistic=statistic)

    def metric_quarantined(self, *, period: Duration = _MINUTE, statistic: str = "Maximum") -> cloudwatch.Metric:
        """How many failures are in quarantine."""
        return self.quarantine.metric_approximate_number_of_messages_visible(period=period, statistic=statistic)

    def metric_oldest_failure_seconds(
        self, *, period: Duration = Duration.hours(6), statistic: str = "Maximum"
    ) -> cloudwatch.Metric:
        """For how many seconds the oldest failure has been kept, whenever a reprocessor looked: every 6 hours at least.

        SQS's own metric leaves out what was received three times, if only to be shown.
        """
        return self.metric("OldestFailureSeconds", period=period, statistic=statistic)

    def metric_spooled(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many failures events told of. What a failure handler sends by itself is not among them."""
        return self.metric("Spooled", period=period, statistic=statistic)

    def metric_recovered(self, *, period: Duration = _MINUTE, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many failures were found that no event told of."""
        return self.metric("Recovered", period=period, statistic=statistic)

    def metric(self, name: str, *, period: Duration, statistic: str) -> cloudwatch.Metric:
        """A metric that the functions of the spool and its reprocessors write."""
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map={"Spool": self.name},
            period=period,
            statistic=statistic,
        )

    # --- resources --------------------------------------------------------------------------------------

    def _make_queue(self, id_: str, retention: Duration, removal_policy: RemovalPolicy) -> sqs.Queue:
        return sqs.Queue(
            self,
            id_,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=retention,
            # A message that a call took is left to it, and comes back when that died.
            visibility_timeout=REPROCESSOR_TIMEOUT.plus(_MINUTE),
            # What is received so often was looked at very often, or is what the reprocessor dies of.
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters.queue, max_receive_count=_MOST_RECEIVES),
            removal_policy=removal_policy,
        )

    def _make_table(self, removal_policy: RemovalPolicy) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            "Ledger",
            partition_key=dynamodb.Attribute(name="id", type=dynamodb.AttributeType.STRING),
            time_to_live_attribute="expires",
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=removal_policy == RemovalPolicy.RETAIN,
            removal_policy=removal_policy,
        )

    def _make_bucket(self, removal_policy: RemovalPolicy) -> s3.Bucket:
        bucket = s3.Bucket(
            self,
            "Inputs",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            enforce_ssl=True,
            lifecycle_rules=[s3.LifecycleRule(expiration=_INPUTS_KEPT)],
            removal_policy=removal_policy,
        )
        acknowledge(
            bucket,
            {"AwsSolutions-S1": "Only functions of the spool read and write it, and they log what they do."},
        )
        return bucket

    def _allow_spooling(self, function: lambda_.Function) -> None:
        inputs = self.bucket.arn_for_objects("*")
        for resource, actions in {
            self.queue.queue_arn: ["sqs:SendMessage"],
            self.table.table_arn: ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"],
            inputs: ["s3:PutObject"],
        }.items():
            function.add_to_role_policy(iam.PolicyStatement(actions=actions, resources=[resource]))
        assert function.role is not None
        acknowledge_inputs(function.role, self.bucket)

    def _make_alarms(
        self, expiry: Duration, waiting: Duration | None, actions: Sequence[cloudwatch.IAlarmAction]
    ) -> Mapping[str, cloudwatch.Alarm]:
        age = self.queue.metric_approximate_age_of_oldest_message(period=_MINUTE, statistic="Maximum")
        alarms = {
            "Expiring": alarm_on(
                self,
                "ExpiringAlarm",
                age,
                description=f"{self.node.path}: a failure has been kept for {expiry.to_human_string()} and will be "
                "lost: run it again, or drop it.",
                threshold=int(expiry.to_seconds()),
                actions=actions,
            ),
            "Quarantined": alarm_on(
                self,
                "QuarantinedAlarm",
                self.metric_quarantined(),
                description=f"{self.node.path}: a failure is in quarantine: release it, or drop it.",
                actions=actions,
            ),
        }
        if waiting is not None:
            alarms["Waiting"] = alarm_on(
                self,
                "WaitingAlarm",
                age,
                description=f"{self.node.path}: a failure has waited for {waiting.to_human_string()}.",
                threshold=int(waiting.to_seconds()),
                actions=actions,
            )
        for id_, function, what in (
            ("InletFailing", self.inlet, "spools failures"),
            ("ReconcilerFailing", self.reconciler, "looks for failures that no event told of"),
        ):
            alarms[id_] = alarm_on(
                self,
                f"{id_}Alarm",
                function.metric_errors(),
                description=f"{self.node.path}: the function that {what} fails.",
                actions=actions,
            )
        return alarms

    # --- checks -----------------------------------------------------------------------------------------

    def _check_key(self, key: str | None) -> None:
        if key is None:
            return
        remedy = "Pass for example '$.order', or leave it out."
        require_type(self, "key", key, str, remedy)
        if not _KEY.fullmatch(key):
            raise invalid(self, "key", "must be a path of names into the input", key, remedy)

    def _check_alarm(self, argument: str, after: Duration, retention: Duration) -> None:
        seconds = require_duration(self, argument, after, at_least=_MINUTE)
        if seconds >= retention.to_seconds():
            raise invalid(
                self,
                argument,
                f"must be shorter than retention ({retention.to_human_string()}), or it rings when all is lost",
                after,
                f"Pass for example Duration.minutes({int(retention.to_seconds()) // 120}).",
            )

    def _check_reconciling(self, every: Duration, back: Duration) -> None:
        seconds = require_duration(self, "reconcile_every", every, at_least=_MINUTE)
        if seconds % 60:
            raise invalid(
                self, "reconcile_every", "must be in whole minutes", every, "Pass for example Duration.minutes(15)."
            )
        # Older ones, the reconciler would not know any more whether they were spooled.
        require_duration(self, "reconcile_back", back, at_least=Duration.hours(1), at_most=_LONGEST_RETENTION)
        if seconds > back.to_seconds():
            raise invalid(
                self,
                "reconcile_every",
                f"must not be longer than reconcile_back ({back.to_human_string()}), or some are never looked for",
                every,
                "Pass for example Duration.minutes(15).",
            )


def acknowledge_inputs(role: IConstruct, bucket: s3.IBucket) -> None:
    """Says why a role is allowed all objects of the bucket of inputs."""
    reason = "The name of an input is made of its execution's, which is not known before."
    acknowledge_wildcard(role, bucket.arn_for_objects("*"), reason)
