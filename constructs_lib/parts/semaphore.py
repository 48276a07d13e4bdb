"""A limit on how many are at work at once, for any part of any state machine."""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import jsii
from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct, IValidation

from .alarms import alarm_on
from .dead_letters import DeadLetters
from .executions import acknowledge_executions, executions_of
from .functions import make_function
from .guard import MOST_PERMITS, Guard, OnBusy, Terms
from .metrics import deployed_name
from .validation import invalid, require_duration, require_free_id, require_type, require_whole_number

_NAMESPACE = "ConstructsLib/Semaphore"
_BY_EXECUTION = "ByExecution"

# The finest that EventBridge has. What was lost is made good within two of them: one may just have passed.
_SWEEP_EVERY = Duration.minutes(1)

# Stands for the label of a Map without one: AWS makes it up anew for each run.
_UNKNOWN = ""

# Younger than this, the sweeper leaves alone: somebody is most likely still at it.
_PATIENCE = Duration.seconds(30)

# How long a container on Fargate may go on after its task was told to stop, at the most:
# https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html
_LONGEST_STOP = Duration.minutes(2)


class SharedSemaphore(Construct):
    """What every user of a semaphore may do, also where it was made elsewhere (`Semaphore.from_attributes`)."""

    function: lambda_.IFunction
    """Grants the permits. Operators invoke it to change the limit, to pause and to resume."""
    name: str | None
    """What its metrics are told apart by; None where the app that imported it did not say."""
    limit: int | None
    """The limit in the code; None where it was made elsewhere."""
    paced: bool
    """Whether starts are paced."""

    def __init__(self, scope: Construct, id_: str) -> None:
        require_free_id(scope, id_)
        super().__init__(scope, id_)
        self._guards: dict[str, str] = {}
        self._connected: set[str] = set()
        self.node.add_validation(_EveryGuardIsConnected(self, self._guards, self._connected))

    @property
    def function_arn(self) -> str:
        """The ARN of the function that grants the permits."""
        return self.function.function_arn

    # --- guards -----------------------------------------------------------------------------------------

    def guard(
        self,
        scope: Construct,
        id_: str,
        job: sfn.IChainable,
        *,
        key: str | None = None,
        weight: int | str = 1,
        wait_timeout: Duration | None = None,
        on_busy: OnBusy = "wait",
    ) -> Guard:
        """Has `job` done with a permit only. First come, first served, by the start of the execution.

        Waiting costs nothing, however long: no transition, no history event, no call. A guarded state costs three
        transitions; a chain of states, or a state that does not keep its input (``result_path``), one more. The
        input must be an object; the permit lies at ``$.permits.<id>``. The state machine is a Standard one in
        JSONPath, and must be connected (`connect`).

        The permit is given back when `job` succeeded or failed; after an abort, a timeout or a failure that no
        Catch sees, by an event, and the sweeper where that is lost. A permit is kept through the retries of `job`.

        Args:
            scope: The parent of the states.
            id_: Part of the names of the states, so unique within the state machine: letters, digits and _.
            job: A state or a chain of states.
            key: One limit for each value, instead of one for all: a path such as ``$.tenant``, a
                ``sfn.JsonPath`` expression, or a literal.
            weight: How many permits it takes: a number, or a path such as ``$.weight``. Default 1.
            wait_timeout: How long it waits at the most; then it fails with ``Semaphore.WaitTimeout``. To catch an
                error of a guard, make it one state: ``semaphore.guard(...).to_single_state().add_catch(...)``.
                Default: it waits as long as the execution may run.
            on_busy: What becomes of it when no permit is free: ``"wait"`` (default); ``"skip"`` leaves `job` out
                and sets ``$.permits.<id>.granted`` to false, for one transition more; ``"fail"`` fails with
                ``Semaphore.Busy``.

        Raises:
            ConfigurationError: an argument cannot work; the message says which, why, and what to write instead.
        """
        require_free_id(scope, id_)
        terms = Terms(key=key, weight=weight, wait_timeout=wait_timeout, on_busy=on_busy)
        return Guard(scope, id_, semaphore=self, job=job, terms=terms)

    def remember(self, guard: Construct, comment: str) -> None:
        """Has synthesis check that the state machine with this guard, told by a comment, is connected."""
        self._guards[comment] = guard.node.path

    # --- state machines ---------------------------------------------------------------------------------

    def connect(self, state_machine: sfn.StateMachine, *, map_label: str | None = None) -> None:
        """Lets a state machine ask for permits, and gives back those of executions that ended without doing so.

        Everything it needs lies beside the state machine, which may be in another stack than the semaphore. A
        second call for the same state machine changes nothing.

        Args:
            state_machine: A Standard one.
            map_label: Of a distributed Map in it, whose children hold the guards: these are executions of their own.
                Default: the guards are not in a distributed Map.

        Raises:
            ConfigurationError: it is an Express workflow, which cannot wait for a permit.
        """
        require_type(self, "state_machine", state_machine, sfn.StateMachine, "Pass the sfn.StateMachine itself.")
        connected = _connection(state_machine.node.path, map_label)
        if connected in self._connected:
            return
        if state_machine.state_machine_type == sfn.StateMachineType.EXPRESS:
            # https://docs.aws.amazon.com/step-functions/latest/dg/choosing-workflow-type.html
            raise invalid(
                self,
                "state_machine",
                "must be a Standard workflow: an Express one cannot wait for a permit",
                state_machine.node.path,
                "Leave out state_machine_type.",
            )
        self._connected.add(connected)
        state_machine.add_to_role_policy(
            iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[self.function_arn])
        )
        place = Construct(state_machine, _connection(f"PermitsOf{self.node.path}", map_label))
        # As AWS names that of the children, in their tokens and events:
        # https://docs.aws.amazon.com/step-functions/latest/dg/concepts-examine-map-run.html
        arn = _connection(state_machine.state_machine_arn, map_label)
        self._allow_answers(place, state_machine, arn, map_label)
        self._watch(place, arn)

    def _allow_answers(
        self, place: Construct, state_machine: sfn.StateMachine, arn: str, map_label: str | None
    ) -> None:
        role = self.function.role
        assert role is not None
        policy = iam.Policy(
            place,
            "Answer",
            roles=[role],
            statements=[
                iam.PolicyStatement(
                    # The heartbeat asks whether somebody still waits.
                    actions=["states:SendTaskSuccess", "states:SendTaskFailure", "states:SendTaskHeartbeat"],
                    resources=[arn],
                ),
                iam.PolicyStatement(
                    # How the sweeper learns that an event was lost, or that a holder was never told.
                    actions=["states:DescribeExecution", "states:GetExecutionHistory"],
                    resources=[executions_of(state_machine, label=map_label)],
                ),
            ],
        )
        acknowledge_executions(policy, state_machine, label=map_label)

    def _watch(self, place: Construct, arn: str) -> None:
        # Beside the state machine, with a function as target: the arrangement that makes no cycle between stacks.
        # Nobody says whether children of a Map send such events: the sweeper asks after their holders in any case.
        events.Rule(
            place,
            "Ended",
            description="Gives back the permits of executions that ended without doing so.",
            # https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
            event_pattern=events.EventPattern(
                source=["aws.states"],
                detail_type=["Step Functions Execution Status Change"],
                detail={
                    "stateMachineArn": [arn],
                    "status": ["FAILED", "TIMED_OUT", "ABORTED"],
                },
            ),
            targets=[
                targets.LambdaFunction(
                    self.function,
                    event=events.RuleTargetInput.from_object(
                        {
                            "action": "ended",
                            "execution": events.EventField.from_path("$.detail.executionArn"),
                            "status": events.EventField.from_path("$.detail.status"),
                        }
                    ),
                )
            ],
        )

    # --- metrics ----------------------------------------------------------------------------------------

    def metric_in_use(self, *, period: Duration = _SWEEP_EVERY, statistic: str = "Maximum") -> cloudwatch.Metric:
        """How many permits are held, over all keys."""
        return self._metric("InUse", period, statistic)

    def metric_waiting(self, *, period: Duration = _SWEEP_EVERY, statistic: str = "Maximum") -> cloudwatch.Metric:
        """How many wait for a permit, over all keys."""
        return self._metric("Waiting", period, statistic)

    def metric_oldest_waiter_seconds(
        self, *, period: Duration = _SWEEP_EVERY, statistic: str = "Maximum"
    ) -> cloudwatch.Metric:
        """For how many seconds the one who waits longest has been waiting."""
        return self._metric("OldestWaiterSeconds", period, statistic)

    def metric_wait_seconds(self, *, period: Duration = _SWEEP_EVERY, statistic: str = "p90") -> cloudwatch.Metric:
        """For how many seconds those who got a permit had waited for it."""
        return self._metric("WaitSeconds", period, statistic)

    def metric_granted(self, *, period: Duration = _SWEEP_EVERY, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many permits were granted."""
        return self._metric("Granted", period, statistic)

    def metric_recovered(self, *, period: Duration = _SWEEP_EVERY, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many permits the sweeper had to give back, or to tell their holders of again."""
        return self._metric("Recovered", period, statistic)

    def metric_skipped(self, *, period: Duration = _SWEEP_EVERY, statistic: str = "Sum") -> cloudwatch.Metric:
        """How many were skipped, as no permit was free."""
        return self._metric("Skipped", period, statistic)

    def _metric(self, metric: str, period: Duration, statistic: str) -> cloudwatch.Metric:
        if self.name is None:
            raise invalid(
                self,
                "name",
                "must be known for its metrics",
                self.name,
                "Pass name= to Semaphore.from_attributes: the name of the semaphore where it was made.",
            )
        return cloudwatch.Metric(
            namespace=_NAMESPACE,
            metric_name=metric,
            dimensions_map={"Semaphore": self.name},
            period=period,
            statistic=statistic,
        )


class Semaphore(SharedSemaphore):
    """Limits how many executions are inside a guarded part at once: a permit that is never lost nor polled for.

    ``semaphore.guard(self, "Quota", state)`` takes the place of ``state``, in any number of state machines and
    stacks; ``semaphore.connect(state_machine)`` connects each of them. The limit is live: operators change it, pause
    and resume by invoking the function, without a deployment, and a deployment sets it again only when ``limit``
    changed.

    Creates the table, the function with its role and log group, a rule that has it sweep every minute, a dead-letter
    queue for events that it could not handle, and alarms.

    Args:
        scope: The parent.
        id_: Unique within the scope.
        limit: How many permits there are for each key, from 1 to 1,000,000.
        max_starts_per_second: The pace at which holders may start, for each key; 0.5 for one in two seconds. Fargate
            starts 20 tasks per second: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/throttling.html.
            Costs one transition more. Default: no pace.
        grace: How long a permit is kept after an execution was aborted, timed out or failed without giving it back,
            as its container may still run for a while. Default 2 minutes, the longest that ECS gives a container on
            Fargate to stop (``stopTimeout``):
            https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html.
            ``Duration.seconds(0)`` where the work ends with its execution, as a Wait or a call of a function does.
        removal_policy: What becomes of the table when it is taken out of the stack. ``RETAIN`` (default) also protects
            it from deletion: without it, executions that still run would give back what nobody counts. ``DESTROY``
            does neither.
        oldest_waiter_alarm: An alarm rings when somebody waits for so long. Default 1 hour; None for no such alarm.
        log_retention: How long the function's log is kept. Default 3 months.
        alarm_actions: What the alarms do. Default: nothing; they are still visible in the console.

    Raises:
        ConfigurationError: an argument cannot work; the message says which, why, and what to write instead.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        limit: int,
        max_starts_per_second: float | None = None,
        grace: Duration = _LONGEST_STOP,
        removal_policy: RemovalPolicy = RemovalPolicy.RETAIN,
        oldest_waiter_alarm: Duration | None = Duration.hours(1),
        log_retention: logs.RetentionDays = logs.RetentionDays.THREE_MONTHS,
        alarm_actions: Sequence[cloudwatch.IAlarmAction] = (),
    ) -> None:
        super().__init__(scope, id_)
        require_whole_number(self, "limit", limit, at_least=1, at_most=MOST_PERMITS, known_at_synthesis=True)
        self._check_pace(max_starts_per_second)
        require_duration(self, "grace", grace, at_least=Duration.seconds(0), at_most=Duration.days(1))
        self.name = deployed_name(self)
        self.limit = limit
        self.paced = max_starts_per_second is not None

        self.table = self._make_table(removal_policy)
        self.dead_letters = DeadLetters(self, "DeadLetters", alarm_actions=alarm_actions)
        self.function: lambda_.Function = make_function(
            self,
            "Function",
            handler="semaphore.handler.handle",
            description=f"Permits of {self.node.path}",
            environment={
                "TABLE_NAME": self.table.table_name,
                "LIMIT": str(limit),
                "STARTS_PER_SECOND": "" if max_starts_per_second is None else str(max_starts_per_second),
                "GRACE_SECONDS": str(int(grace.to_seconds())),
                "PATIENCE_SECONDS": str(int(_PATIENCE.to_seconds())),
                "SEMAPHORE": self.name,
            },
            dead_letter_queue=self.dead_letters.queue,
            log_retention=log_retention,
            # A sweep may take as long as it is until the next.
            timeout=_SWEEP_EVERY,
        )
        self._allow_table()
        events.Rule(
            self,
            "Sweep",
            description=f"Makes good what was lost of the permits of {self.node.path}.",
            schedule=events.Schedule.rate(_SWEEP_EVERY),
            targets=[
                targets.LambdaFunction(self.function, event=events.RuleTargetInput.from_object({"action": "sweep"}))
            ],
        )
        self.alarms = self._make_alarms(oldest_waiter_alarm, alarm_actions)

    @staticmethod
    def from_attributes(
        scope: Construct,
        id_: str,
        *,
        function_arn: str,
        role_arn: str,
        name: str | None = None,
        paced: bool = False,
    ) -> SharedSemaphore:
        """A semaphore that another app made, in the same account and region.

        Args:
            scope: The parent.
            id_: Unique within the scope.
            function_arn: ``semaphore.function_arn`` where it was made.
            role_arn: ``semaphore.function.role.role_arn`` where it was made.
            name: ``semaphore.name`` where it was made. Without it there are no metrics.
            paced: Whether it was made with ``max_starts_per_second``. Default False: then its pace is not kept here.
        """
        return _ImportedSemaphore(scope, id_, function_arn, role_arn, name, paced)

    def _check_pace(self, pace: float | None) -> None:
        if pace is None:
            return
        remedy = "Pass for example 20."
        require_type(self, "max_starts_per_second", pace, (int, float), remedy)
        if not 0 < pace < math.inf:
            raise invalid(self, "max_starts_per_second", "must be finite, and more than 0", pace, remedy)

    def _make_table(self, removal_policy: RemovalPolicy) -> dynamodb.Table:
        text = dynamodb.AttributeType.STRING
        table = dynamodb.Table(
            self,
            "Table",
            partition_key=dynamodb.Attribute(name="key", type=text),
            sort_key=dynamodb.Attribute(name="item", type=text),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=removal_policy == RemovalPolicy.RETAIN,
            removal_policy=removal_policy,
        )
        table.add_global_secondary_index(
            index_name=_BY_EXECUTION,
            partition_key=dynamodb.Attribute(name="execution", type=text),
            projection_type=dynamodb.ProjectionType.ALL,
        )
        return table

    def _allow_table(self) -> None:
        self.function.add_to_role_policy(
            iam.PolicyStatement(
                actions=[
                    f"dynamodb:{action}"
                    for action in (
                        "ConditionCheckItem",
                        "DeleteItem",
                        "GetItem",
                        "PutItem",
                        "Query",
                        "Scan",
                        "UpdateItem",
                    )
                ],
                resources=[self.table.table_arn],
            )
        )
        self.function.add_to_role_policy(
            iam.PolicyStatement(actions=["dynamodb:Query"], resources=[f"{self.table.table_arn}/index/{_BY_EXECUTION}"])
        )

    def _make_alarms(
        self, oldest_waiter: Duration | None, actions: Sequence[cloudwatch.IAlarmAction]
    ) -> Mapping[str, cloudwatch.Alarm]:
        alarms = {
            "Failing": alarm_on(
                self,
                "FailingAlarm",
                self.function.metric_errors(period=_SWEEP_EVERY),
                description=f"{self.node.path}: the function that grants, gives back and sweeps fails.",
                actions=actions,
            ),
            "Recovered": alarm_on(
                self,
                "RecoveredAlarm",
                self.metric_recovered(),
                description=f"{self.node.path}: a permit was lost, and the sweeper made it good.",
                actions=actions,
            ),
        }
        if oldest_waiter is not None:
            seconds = require_duration(self, "oldest_waiter_alarm", oldest_waiter, at_least=_SWEEP_EVERY)
            alarms["OldestWaiter"] = alarm_on(
                self,
                "OldestWaiterAlarm",
                self.metric_oldest_waiter_seconds(),
                description=f"{self.node.path}: somebody has waited for {oldest_waiter.to_human_string()}.",
                threshold=seconds,
                actions=actions,
            )
        return alarms


class _ImportedSemaphore(SharedSemaphore):
    def __init__(
        self, scope: Construct, id_: str, function_arn: str, role_arn: str, name: str | None, paced: bool
    ) -> None:
        super().__init__(scope, id_)
        self.name = name
        self.limit = None
        self.paced = paced
        self.function = lambda_.Function.from_function_attributes(
            self,
            "Function",
            function_arn=function_arn,
            role=iam.Role.from_role_arn(self, "Role", role_arn),
            # Or rules may not invoke it: whose account it is cannot be told from a token.
            same_environment=True,
        )


@jsii.implements(IValidation)
class _EveryGuardIsConnected:
    """Says at synthesis which state machine holds a guard and is not connected, or where a guard cannot work."""

    def __init__(self, semaphore: SharedSemaphore, guards: Mapping[str, str], connected: Collection[str]) -> None:
        self._semaphore = semaphore
        self._guards = guards
        self._connected = connected

    def validate(self) -> list[str]:
        """The problems, none if all is well."""
        if not self._guards:
            return []
        everything = self._semaphore.node.root.node.find_all()
        machines = [one for one in everything if isinstance(one, sfn.CfnStateMachine)]
        return [problem for machine in machines for problem in self._problems(machine)]

    def _problems(self, machine: sfn.CfnStateMachine) -> Iterator[str]:
        owner = (machine.node.scope or machine).node.path
        definition = _definition(machine)
        for comment, label in _comments(definition):
            guard = self._guards.get(comment)
            if guard is None:
                continue
            if label == _UNKNOWN:
                yield (
                    f"{owner}: the guard {guard} must not be in a distributed Map without a label, whose items are "
                    "executions nobody knows. Give the Map a label and call semaphore.connect(state_machine, "
                    "map_label=…), or guard the Map itself, or limit it with max_concurrency."
                )
            elif _connection(owner, label) not in self._connected:
                of_map = "" if label is None else f", map_label={label!r}"
                yield (
                    f"{owner}: the state machine with the guard {guard} must be connected to the semaphore "
                    f"{self._semaphore.node.path}, or it gets no permits and gives none back when it is aborted. "
                    f"Call semaphore.connect(state_machine{of_map})."
                )
            if definition.get("QueryLanguage") == "JSONata":
                yield (
                    f"{owner}: the state machine with the guard {guard} must be in JSONPath, as the guard is. "
                    "Leave out query_language, and set it for single states."
                )


def _connection(name: str, map_label: str | None) -> str:
    """What is of a state machine, or of the children of its Map, as AWS names it."""
    return name if map_label is None else f"{name}/{map_label}"


def _definition(machine: sfn.CfnStateMachine) -> Any:
    """The definition as JSON, 0 in place of every reference; None if it lies elsewhere."""
    text = Stack.of(machine).resolve(machine.definition_string)
    parts = text["Fn::Join"][1] if isinstance(text, dict) and "Fn::Join" in text else [text]
    try:
        return json.loads("".join(part if isinstance(part, str) else "0" for part in parts))
    except ValueError:
        return None


def _comments(value: Any, label: str | None = None) -> Iterator[tuple[str, str | None]]:
    """Every comment in a definition, and the label of the distributed Map that it is in."""
    if isinstance(value, list):
        for inner in value:
            yield from _comments(inner, label)
    elif isinstance(value, dict):
        if isinstance(value.get("Comment"), str):
            yield value["Comment"], label
        for key, inner in value.items():
            config = inner.get("ProcessorConfig", {}) if isinstance(inner, dict) else {}
            distributed = key in ("ItemProcessor", "Iterator") and config.get("Mode") == "DISTRIBUTED"
            yield from _comments(inner, value.get("Label", _UNKNOWN) if distributed else label)
