"""A Fargate task as the work of a state machine: launched, waited for, and launched again where that helps."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from aws_cdk import ArnFormat, Duration, Reference, Stack, Token, Tokenization
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .acknowledgements import as_in_findings
from .job import LONGEST_EXECUTION, RESULT, BoundJob
from .launch_loop import LaunchLoop
from .retry import LaunchRetry, RetryPolicy
from .validation import invalid, require_duration, require_type, require_whole_number

if TYPE_CHECKING:
    # Slow to import, and only named in an annotation.
    from aws_cdk import aws_stepfunctions_tasks as tasks

DEFAULT_TIMEOUT = Duration.hours(1)
DEFAULT_RETRY = LaunchRetry()

TASK_TOKEN = "TASK_TOKEN"
"""The environment variable with the token that a container sends heartbeats with."""


class Capacity(Enum):
    """Where Fargate takes the capacity for a task from."""

    ON_DEMAND = "on demand"
    """Capacity that is not taken back."""

    SPOT_THEN_ON_DEMAND = "Spot, then on demand"
    """Spot first; on demand as soon as there is no Spot capacity, or when the task was interrupted."""


@dataclass(frozen=True, kw_only=True)
class FargateJob:
    """Runs one Fargate task and waits for its end (``ecs:runTask.sync``).

    A run that starts at once costs one state transition. Which failures are launched again, and how often, is
    told by ``retry``; a container that is not essential never decides the outcome.

    Args:
        cluster: The cluster that the task runs in. It stays the caller's.
        task_definition: What to run, pinned to the revision of the deployment that wrote the state machine.
        container_overrides: Command, environment, CPU or memory of containers for this job. A value may come
            from the execution's input: ``command=sfn.JsonPath.list_at("$.commands")``.
        cpu: CPU units of the task instead of the task definition's, for example 1024.
        memory_limit_mib: Memory of the task in MiB instead of the task definition's.
        environment: Variables for the default container, beside those of ``container_overrides``. A value may come
            from the execution's input: ``sfn.JsonPath.string_at("$.day")``. Default: none.
        task_role: The role of the application instead of the task definition's.
        subnets: Where the task's network interface is placed. Default: the private subnets with egress, or,
            with ``assign_public_ip``, the public ones.
        security_groups: Those of the network interface. Default: a new one that lets nothing in.
        assign_public_ip: Gives the task a public address, which it needs in a public subnet to pull its image.
        platform_version: Default ``LATEST``.
        capacity: On demand (default), or Spot with on demand behind it.
        propagated_tag_source: Where the task's tags come from. Default: the task definition.
        timeout: How long one run may take; then the task is stopped. Default 1 hour.
        heartbeat: The run fails when no heartbeat arrived for so long; shorter than ``timeout``. The essential
            containers then find the token for ``SendTaskHeartbeat`` in the environment variable ``TASK_TOKEN``;
            allow it with ``state_machine.grant_task_response(task_role)``. Default: none.
            https://docs.aws.amazon.com/step-functions/latest/apireference/API_SendTaskHeartbeat.html
        retry: A ``LaunchRetry``, with a budget for each kind of failure (default), or a ``RetryPolicy``, which
            retries everything alike.

    Raises:
        ConfigurationError: from the construct that runs the job, with the argument, the rule and the remedy.
    """

    cluster: ecs.ICluster
    task_definition: ecs.TaskDefinition
    container_overrides: "Sequence[tasks.ContainerOverride]" = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    cpu: int | None = None
    memory_limit_mib: int | None = None
    task_role: iam.IRole | None = None
    subnets: ec2.SubnetSelection | None = None
    security_groups: Sequence[ec2.ISecurityGroup] | None = None
    assign_public_ip: bool = False
    platform_version: ecs.FargatePlatformVersion = ecs.FargatePlatformVersion.LATEST
    capacity: Capacity = Capacity.ON_DEMAND
    propagated_tag_source: ecs.PropagatedTagSource = ecs.PropagatedTagSource.TASK_DEFINITION
    timeout: Duration = DEFAULT_TIMEOUT
    heartbeat: Duration | None = None
    retry: LaunchRetry | RetryPolicy = DEFAULT_RETRY

    def bind(self, scope: Construct, *, on_failure: sfn.IChainable) -> BoundJob:
        """See `Job.bind`. Checks the arguments, makes the states, and a security group if none is given."""
        self._check(scope)
        subnet_ids = self._select_subnets(scope)
        security_groups = self.security_groups
        if security_groups is None:
            security_groups = [
                ec2.SecurityGroup(
                    scope,
                    "SecurityGroup",
                    vpc=self.cluster.vpc,
                    description=f"Fargate task of {scope.node.path}",
                )
            ]
        network = {
            "AwsvpcConfiguration": {
                "Subnets": subnet_ids,
                "SecurityGroups": [group.security_group_id for group in security_groups],
                "AssignPublicIp": "ENABLED" if self.assign_public_ip else "DISABLED",
            }
        }
        return BoundJob(
            chain=self._states(scope, network, on_failure),
            statements=self._statements(scope),
            longest_run=self._longest_run(),
            security_groups=security_groups,
            acknowledgements={
                f"AwsSolutions-IAM5[Resource::{as_in_findings(Stack.of(scope), _any_task(scope))}]": "The id of a "
                "task is not known before it runs; the condition allows tasks of this cluster, or at launch, only."
            },
        )

    def description(self) -> Mapping[str, Any]:
        """See `Job.description`."""
        return {
            "kind": "fargate",
            "cluster": self.cluster.cluster_name,
            "containers": [
                {"name": container.container_name, "essential": container.essential, **_log_stream(container)}
                for container in self._containers
            ],
        }

    def log_group_arns(self) -> Sequence[str]:
        """See `Job.log_group_arns`."""
        groups = (_log_stream(container).get("logGroup") for container in self._containers)
        return [self._log_group_arn(group) for group in dict.fromkeys(groups) if group is not None]

    def input_paths(self) -> Sequence[str]:
        """See `Job.input_paths`."""
        return [path for path in sfn.FieldUtils.find_referenced_paths(self._overrides()) if not path.startswith("$$")]

    @property
    def roles(self) -> Sequence[iam.IRole]:
        """The roles that the work itself has."""
        return [self.task_role or self.task_definition.task_role]

    @property
    def vcpu(self) -> float | None:
        """How many vCPU a task has; None where only the deployment tells."""
        if self.cpu is not None:
            units: object = self.cpu
        else:
            resource = self.task_definition.node.default_child
            units = (isinstance(resource, ecs.CfnTaskDefinition) and resource.cpu) or None
        if units is None or Token.is_unresolved(units):
            return None
        # Also "1 vCPU": https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html
        number, _, unit = str(units).partition(" ")
        return float(number) if unit else float(number) / 1024

    @property
    def longest_stop(self) -> Duration:
        """How long the work may go on after its execution was stopped: the longest that ECS lets a container stop.

        https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html
        """
        return Duration.minutes(2)

    # --- states -----------------------------------------------------------------------------------------

    def _states(self, scope: Construct, network: Mapping[str, Any], on_failure: sfn.IChainable) -> sfn.Chain:
        on_demand = {"LaunchType": "FARGATE"}
        spot = {"CapacityProviderStrategy": [{"CapacityProvider": "FARGATE_SPOT", "Weight": 1}]}
        loop = LaunchLoop(
            scope,
            retry=self.retry if isinstance(self.retry, LaunchRetry) else LaunchRetry.never(),
            essential=self._essential,
            has_sidecar=any(not c.essential for c in self._containers),
            on_failure=on_failure,
        )
        if self.capacity is Capacity.ON_DEMAND:
            start = self._run_task(scope, "Run task", network, on_demand)
            ends = loop.around(start)
        else:
            start = self._run_task(scope, "Run task", network, spot)
            fallback = self._run_task(scope, "Run task on demand", network, on_demand)
            ends = loop.around(start, fallback=fallback) + loop.around(fallback, suffix=" on demand")
        return sfn.Chain.custom(start, ends, start)

    def _run_task(
        self, scope: Construct, name: str, network: Mapping[str, Any], where: Mapping[str, Any]
    ) -> sfn.CustomState:
        # Not CDK's EcsRunTask: it names the family, so that a deployment changes what running executions
        # launch, and its role may pass any role to any service.
        parameters = {
            "Cluster": self.cluster.cluster_arn,
            "TaskDefinition": self.task_definition.task_definition_arn,
            **where,
            "PlatformVersion": _platform_version(self.platform_version),
            "NetworkConfiguration": network,
            "EnableECSManagedTags": True,
            "PropagateTags": self.propagated_tag_source.value,
        }
        if overrides := self._overrides():
            # Turns values that come from the input into the `Key.$` that ASL wants.
            parameters["Overrides"] = sfn.FieldUtils.render_object(overrides)
        state = sfn.CustomState(
            scope,
            name,
            state_json={
                "Type": "Task",
                "Resource": f"arn:{Stack.of(scope).partition}:states:::ecs:runTask.sync",
                "Parameters": parameters,
                "ResultPath": f"$.{RESULT}",
                "TimeoutSeconds": int(self.timeout.to_seconds()),
                **({"HeartbeatSeconds": int(self.heartbeat.to_seconds())} if self.heartbeat else {}),
            },
        )
        if isinstance(self.retry, RetryPolicy):
            self.retry.apply_to(state, errors=["States.ALL"])
        return state

    def _overrides(self) -> Mapping[str, Any]:
        """Values that come from the input are still tokens."""
        containers = {
            override.container_definition.container_name: _without_none(
                Name=override.container_definition.container_name,
                Command=override.command,
                Environment=override.environment
                and [{"Name": variable.name, "Value": variable.value} for variable in override.environment],
                Cpu=override.cpu,
                Memory=override.memory_limit,
                MemoryReservation=override.memory_reservation,
            )
            for override in self.container_overrides
        }
        for name in self._default_container if self.environment else []:
            container = containers.setdefault(name, {"Name": name})
            given = container.get("Environment", [])
            # Told twice, which of the two counts is not defined; an override is meant for this one container.
            names = [variable["Name"] for variable in given]
            more = [{"Name": key, "Value": value} for key, value in self.environment.items() if key not in names]
            container["Environment"] = [*given, *more]
        if self.heartbeat is not None:
            for name in self._essential:
                container = containers.setdefault(name, {"Name": name})
                token = {"Name": TASK_TOKEN, "Value": sfn.JsonPath.task_token}
                container["Environment"] = [*container.get("Environment", []), token]
        return _without_none(
            ContainerOverrides=list(containers.values()) or None,
            Cpu=None if self.cpu is None else Tokenization.stringify_number(self.cpu),
            Memory=None if self.memory_limit_mib is None else Tokenization.stringify_number(self.memory_limit_mib),
            TaskRoleArn=self.task_role and self.task_role.role_arn,
        )

    def _longest_run(self) -> Duration:
        if isinstance(self.retry, RetryPolicy):
            relaunches = self.retry.max_attempts
        else:
            # Refused launches take no time; these three may each take all of it.
            running = (self.retry.never_started, self.retry.application, self.retry.timed_out)
            relaunches = sum(policy.max_attempts for policy in running)
        runs = 1 + relaunches + (self.capacity is Capacity.SPOT_THEN_ON_DEMAND)
        return Duration.seconds(int(runs * self.timeout.to_seconds() + self.retry.longest_pause.to_seconds()))

    # --- permissions ------------------------------------------------------------------------------------

    def _statements(self, scope: Construct) -> Sequence[iam.PolicyStatement]:
        """https://docs.aws.amazon.com/step-functions/latest/dg/connect-ecs.html, narrowed to what this job uses."""
        stack = Stack.of(scope)
        in_this_cluster = {"ArnEquals": {"ecs:cluster": self.cluster.cluster_arn}}
        any_task = _any_task(scope)
        roles = [
            self.task_role or self.task_definition.task_role,
            self.task_definition.obtain_execution_role(),
        ]
        return [
            iam.PolicyStatement(
                actions=["ecs:RunTask"],
                resources=[self.task_definition.task_definition_arn],
                conditions=in_this_cluster,
            ),
            iam.PolicyStatement(
                actions=["ecs:StopTask", "ecs:DescribeTasks"],
                resources=[any_task],
                conditions=in_this_cluster,
            ),
            iam.PolicyStatement(
                # Needed for tags at launch since ECS authorizes tagging on its own:
                # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/supported-iam-actions-tagging.html
                actions=["ecs:TagResource"],
                resources=[any_task],
                conditions={"StringEquals": {"ecs:CreateAction": "RunTask"}},
            ),
            iam.PolicyStatement(
                actions=["iam:PassRole"],
                resources=[role.role_arn for role in roles],
                conditions={"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
            ),
            iam.PolicyStatement(
                # How Step Functions learns that the task stopped.
                actions=["events:PutTargets", "events:PutRule", "events:DescribeRule"],
                resources=[
                    stack.format_arn(
                        service="events",
                        resource="rule",
                        resource_name="StepFunctionsGetEventsForECSTaskRule",
                    )
                ],
            ),
        ]

    def _log_group_arn(self, name: str) -> str:
        token = Tokenization.reverse_string(name).first_token if Token.is_unresolved(name) else None
        if isinstance(token, Reference) and isinstance(token.target, logs.CfnLogGroup):
            return token.target.attr_arn
        return Stack.of(self.task_definition).format_arn(
            service="logs",
            resource="log-group",
            resource_name=f"{name}:*",
            arn_format=ArnFormat.COLON_RESOURCE_NAME,
        )

    # --- checks -----------------------------------------------------------------------------------------

    @property
    def _containers(self) -> Sequence[ecs.ContainerDefinition]:
        children = self.task_definition.node.children
        return [child for child in children if isinstance(child, ecs.ContainerDefinition)]

    @property
    def _essential(self) -> Sequence[str]:
        return [container.container_name for container in self._containers if container.essential]

    @property
    def _default_container(self) -> Sequence[str]:
        container = self.task_definition.default_container
        return [] if container is None else [container.container_name]

    def _check(self, scope: Construct) -> None:
        timeout = require_duration(scope, "timeout", self.timeout, at_most=LONGEST_EXECUTION)
        require_type(scope, "capacity", self.capacity, Capacity, "Pass for example Capacity.ON_DEMAND.")
        if self.propagated_tag_source is ecs.PropagatedTagSource.SERVICE:
            # https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html
            raise invalid(
                scope,
                "propagated_tag_source",
                "must not be SERVICE: a task that is run by itself belongs to no service",
                self.propagated_tag_source.name,
                "Pass ecs.PropagatedTagSource.TASK_DEFINITION or NONE.",
            )
        if self.heartbeat is not None:
            heartbeat = require_duration(scope, "heartbeat", self.heartbeat)
            if heartbeat >= timeout:
                raise invalid(
                    scope,
                    "heartbeat",
                    f"must be shorter than timeout ({self.timeout.to_human_string()})",
                    self.heartbeat,
                    "Shorten heartbeat or lengthen timeout.",
                )
        if self.cpu is not None:
            require_whole_number(scope, "cpu", self.cpu, at_least=256, at_most=32_768)
        if self.memory_limit_mib is not None:
            require_whole_number(scope, "memory_limit_mib", self.memory_limit_mib, at_least=512, at_most=249_856)
        if not self.task_definition.is_fargate_compatible:
            raise invalid(
                scope,
                "task_definition",
                "must be compatible with Fargate",
                self.task_definition.node.path,
                "Use ecs.FargateTaskDefinition.",
            )
        if not self._containers:
            raise invalid(
                scope,
                "task_definition",
                "must have a container",
                self.task_definition.node.path,
                "Call task_definition.add_container(...) before you pass it.",
            )
        names = [container.container_name for container in self._containers]
        for override in self.container_overrides:
            if override.container_definition.container_name not in names:
                raise invalid(
                    scope,
                    "container_overrides",
                    f"must name a container of the task definition ({', '.join(names)})",
                    override.container_definition.container_name,
                    "Pass container_definition=task_definition.default_container.",
                )

    def _select_subnets(self, scope: Construct) -> Sequence[str]:
        vpc = self.cluster.vpc
        wanted = self.subnets or ec2.SubnetSelection(
            subnet_type=ec2.SubnetType.PUBLIC if self.assign_public_ip else ec2.SubnetType.PRIVATE_WITH_EGRESS
        )
        try:
            selected = vpc.select_subnets(
                subnet_type=wanted.subnet_type,
                subnets=wanted.subnets,
                subnet_filters=wanted.subnet_filters,
                subnet_group_name=wanted.subnet_group_name,
                availability_zones=wanted.availability_zones,
                one_per_az=wanted.one_per_az,
            )
        except RuntimeError as error:
            # The kernel raises its errors as RuntimeError, "Name: text"; here it can only mean that nothing fits.
            why = re.sub(r"^\w+: ", "", str(error).splitlines()[0])
            raise self._no_subnet(scope, wanted, why) from error
        if not selected.subnet_ids:
            raise self._no_subnet(scope, wanted, "the selection is empty")
        # Of subnets that the caller imported, nobody knows whether they are public.
        known = not wanted.subnets and not selected.is_pending_lookup
        if self.assign_public_ip and known and not selected.has_public:
            raise invalid(
                scope,
                "assign_public_ip",
                "is of use in public subnets only: a private subnet does not route to a public address",
                True,
                "Leave assign_public_ip out, or pass subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC).",
            )
        return selected.subnet_ids

    def _no_subnet(self, scope: Construct, wanted: ec2.SubnetSelection, why: str) -> Exception:
        return invalid(
            scope,
            "subnets",
            f"must select subnets of the cluster's VPC ({why})",
            wanted.subnet_type.name if wanted.subnet_type else wanted.subnet_group_name,
            "Pass subnets=ec2.SubnetSelection(...) for subnets that the VPC has; for public subnets add "
            "assign_public_ip=True.",
        )


def _any_task(scope: Construct) -> str:
    return Stack.of(scope).format_arn(service="ecs", resource="task", resource_name="*")


def _log_stream(container: ecs.ContainerDefinition) -> Mapping[str, str]:
    """Where the container's output goes, if it goes to CloudWatch Logs."""
    driver = container.log_driver_config
    if driver is None or driver.log_driver != "awslogs" or not (options := driver.options):
        return {}
    return {"logGroup": options["awslogs-group"], "logStreamPrefix": options["awslogs-stream-prefix"]}


def _platform_version(version: ecs.FargatePlatformVersion) -> str:
    # To Python the value of an enum of the kernel is its name: that of "1.4.0" is VERSION1_4.
    return version.name if version.name == "LATEST" else version.name.removeprefix("VERSION").replace("_", ".") + ".0"


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
