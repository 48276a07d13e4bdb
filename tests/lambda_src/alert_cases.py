"""What AWS says when work fails, and what has to follow from it.

The table drives the tests of the alert function and of the state machine that decides about a new launch, so
that the two cannot come to read AWS differently.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alert.failure import Kind

Budget = Literal["throttled", "noCapacity", "neverStarted", "spot"]

ACCOUNT = "arn:aws:ecs:eu-central-1:111122223333"
TASK_ID = "0f9de17a6465404e8b1b2356dc13c2f8"
TASK_ARN = f"{ACCOUNT}:task/jobs/{TASK_ID}"

# https://docs.aws.amazon.com/step-functions/latest/apireference/API_TaskFailedEventDetails.html
CAUSE_LIMIT = 32_768

STARTED = 1_772_330_400_000
EXITED = "Essential container in task exited"
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
NO_IMAGE = (
    "CannotPullContainerError: pull image manifest has been retried 7 time(s): failed to resolve ref "
    "111122223333.dkr.ecr.eu-central-1.amazonaws.com/report:2026.03: not found"
)


def container(name: str = "app", exit_code: int | None = None, *, reason: str | None = None) -> dict[str, Any]:
    """A container of a stopped task; AWS leaves out an exit code and a reason that it does not have."""
    described = {
        "ContainerArn": f"{ACCOUNT}:container/jobs/{TASK_ID}/6c1a4e5c-{name}",
        "Cpu": "0",
        "ExitCode": exit_code,
        "GpuIds": [],
        "Image": f"111122223333.dkr.ecr.eu-central-1.amazonaws.com/{name}:2026.03",
        "LastStatus": "STOPPED",
        "ManagedAgents": [],
        "Name": name,
        "NetworkBindings": [],
        "NetworkInterfaces": [{"AttachmentId": "5b5a2a0e", "PrivateIpv4Address": "10.0.12.34"}],
        "Reason": reason,
        "RuntimeId": f"{TASK_ID}-2531612879",
        "TaskArn": TASK_ARN,
    }
    return {key: value for key, value in described.items() if value is not None}


def stopped_task(
    *containers: Mapping[str, Any],
    stop_code: str | None = "EssentialContainerExited",
    reason: str | None = EXITED,
    environment: Mapping[str, str] | None = None,
    cut_before: str | None = None,
    cut_after: str | None = None,
) -> str:
    """The cause of `States.TaskFailed` from ecs:runTask.sync: compact JSON, its keys in PascalCase and order.

    `environment` is what the workflow passes to the container. `cut_before` and `cut_after` cut the cause off
    at the first place with this text, as Step Functions does after 32,768 characters.
    """
    variables = [{"Name": name, "Value": value} for name, value in (environment or {}).items()]
    started = stop_code != "TaskFailedToStart"
    described = {
        "Attachments": [{"Details": [], "Id": "5b5a2a0e", "Status": "DELETED", "Type": "eni"}],
        "Attributes": [{"Name": "ecs.cpu-architecture", "Value": "x86_64"}],
        "AvailabilityZone": "eu-central-1b",
        "ClusterArn": f"{ACCOUNT}:cluster/jobs",
        "Connectivity": "CONNECTED" if started else None,
        "ConnectivityAt": STARTED - 20_000 if started else None,
        "Containers": list(containers),
        "Cpu": "256",
        "CreatedAt": STARTED - 25_000,
        "DesiredStatus": "STOPPED",
        "EnableExecuteCommand": False,
        "Group": "family:NightlyReport",
        "LastStatus": "STOPPED",
        "LaunchType": "FARGATE",
        "Memory": "512",
        "Overrides": {
            "ContainerOverrides": [{"Command": [], "Environment": variables, "Name": "app"}],
            "InferenceAcceleratorOverrides": [],
        },
        "PlatformVersion": "1.4.0",
        "PullStartedAt": STARTED - 10_000 if started else None,
        "StartedAt": STARTED if started else None,
        "StartedBy": "AWS Step Functions",
        "StopCode": stop_code,
        "StoppedAt": STARTED + 60_000,
        "StoppedReason": reason,
        "Tags": [],
        "TaskArn": TASK_ARN,
        "TaskDefinitionArn": f"{ACCOUNT}:task-definition/NightlyReport:7",
        "Version": 5,
    }
    present = {key: value for key, value in described.items() if value is not None}
    cause = json.dumps(present, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    if cut_before is not None:
        cause = cause[: cause.index(cut_before)]
    if cut_after is not None:
        cause = cause[: cause.index(cut_after) + len(cut_after)]
    return cause[:CAUSE_LIMIT]


def never_started(reason: str, *, container_reason: str | None = None) -> str:
    """A task that ECS accepted and could not start."""
    return stopped_task(container(reason=container_reason), stop_code="TaskFailedToStart", reason=reason)


def not_placed(reason: str) -> str:
    """RunTask answered 200 and placed nothing."""
    return json.dumps({"Failures": [{"Reason": reason}], "Tasks": []}, separators=(",", ":"))


def refused(message: str, code: str) -> str:
    """The text of an exception of the ECS API."""
    request = "3f1c9a54-2f6e-4b8e-9a57-0d9a3c1e5b11"
    return f"{message} (Service: AmazonECS; Status Code: 400; Error Code: {code}; Request ID: {request}; Proxy: null)"


@dataclass(frozen=True)
class Case:
    """One failure as Step Functions reports it.

    `retried` is the budget that the state machine launches the task again from; None is never again.
    `succeeds` is true where the work is done although AWS reports a failure.
    """

    name: str
    error: str
    cause: str
    kind: Kind
    essential: Sequence[str] = ("app",)
    exit_code: int | None = None
    container: str | None = None
    task_arn: str | None = None
    started: bool | None = None
    says: str = ""
    retried: Budget | None = None
    succeeds: bool = False


def api(name: str, error: str, cause: str, kind: Kind, *, retried: Budget | None = None, says: str = "") -> Case:
    """ECS refused the call, so nothing ran."""
    return Case(name, error, cause, kind, started=False, retried=retried, says=says)


def start_failure(name: str, reason: str, kind: Kind, *, retried: Budget = "neverStarted", says: str = "") -> Case:
    """ECS took the call, and the task stopped before any container ran."""
    cause = never_started(reason)
    return Case(name, "States.TaskFailed", cause, kind, task_arn=TASK_ARN, started=False, retried=retried, says=says)


def exited(
    name: str,
    *containers: Mapping[str, Any],
    kind: Kind = Kind.APPLICATION,
    essential: Sequence[str] = ("app",),
    exit_code: int | None = None,
    decided_by: str | None = "app",
    cause: str | None = None,
    retried: Budget | None = None,
    succeeds: bool = False,
    says: str = "",
) -> Case:
    """The task ran."""
    return Case(
        name,
        "States.TaskFailed",
        stopped_task(*containers) if cause is None else cause,
        kind,
        essential,
        exit_code=exit_code,
        container=decided_by,
        task_arn=TASK_ARN,
        started=True,
        says=says,
        retried=retried,
        succeeds=succeeds,
    )


REFUSED_BY_ECS = (
    api(
        "throttled by ECS",
        "ECS.AmazonECSException",
        refused("Rate exceeded", "ThrottlingException"),
        Kind.THROTTLED,
        retried="throttled",
        says="Rate exceeded",
    ),
    api(
        "throttled by EC2, told as a wrong parameter",
        "ECS.InvalidParameterException",
        refused(
            "Error retrieving subnet information for [subnet-0b1c2d3e]: Rate exceeded",
            "InvalidParameterException",
        ),
        Kind.THROTTLED,
        retried="throttled",
    ),
    api(
        "EC2's own words for throttling",
        "ECS.InvalidParameterException",
        refused(
            "Error retrieving security group information for [sg-0593]: Request limit exceeded. "
            "(ErrorCode: RequestLimitExceeded)",
            "InvalidParameterException",
        ),
        Kind.THROTTLED,
        retried="throttled",
    ),
    api(
        "the generic exception without a known text",
        "ECS.AmazonECSException",
        "Service Unavailable. Please try again later.",
        Kind.THROTTLED,
        retried="throttled",
    ),
    Case(
        "a server error",
        "ECS.ServerException",
        refused("Service Unavailable. Please try again later.", "ServerException"),
        Kind.NOT_STARTED,
        says="ECS itself failed (5xx)",
        retried="throttled",
    ),
    api(
        "no permission, told by the generic exception",
        "ECS.AmazonECSException",
        refused(
            "User: arn:aws:sts::111122223333:assumed-role/Nightly/x is not authorized to perform: ecs:RunTask "
            "on resource: arn:aws:ecs:eu-central-1:111122223333:task-definition/NightlyReport:7",
            "AccessDeniedException",
        ),
        Kind.CONFIGURATION,
        says="not authorized",
    ),
    api(
        "no permission",
        "ECS.AccessDeniedException",
        "User: arn:aws:sts::111122223333:assumed-role/Nightly/x is not authorized to perform: iam:PassRole",
        Kind.CONFIGURATION,
    ),
    api(
        "no cluster",
        "ECS.ClusterNotFoundException",
        refused("Cluster not found.", "ClusterNotFoundException"),
        Kind.CONFIGURATION,
        says="Cluster not found",
    ),
    api(
        "an inactive task definition",
        "ECS.ClientException",
        refused("TaskDefinition is inactive", "ClientException"),
        Kind.CONFIGURATION,
    ),
    api(
        "an unknown platform version",
        "ECS.PlatformUnknownException",
        refused("The specified platform does not exist.", "PlatformUnknownException"),
        Kind.CONFIGURATION,
    ),
    api(
        "a task definition that the platform version does not support",
        "ECS.PlatformTaskDefinitionIncompatibilityException",
        refused(
            "The specified platform does not satisfy the task definition's required capabilities.",
            "PlatformTaskDefinitionIncompatibilityException",
        ),
        Kind.CONFIGURATION,
    ),
    api(
        "a wrong parameter",
        "ECS.InvalidParameterException",
        refused(
            "Override for container named worker is not a container in the TaskDefinition.",
            "InvalidParameterException",
        ),
        Kind.CONFIGURATION,
        says="Override for container named worker",
    ),
    api(
        "the vCPU quota, told as a client error",
        "ECS.ClientException",
        refused("You've reached the limit on the number of vCPUs you can run concurrently", "ClientException"),
        Kind.NO_CAPACITY,
        retried="noCapacity",
    ),
)

NOT_PLACED = (
    api(
        "no capacity in Fargate",
        "AmazonECS.Unknown",
        not_placed("Capacity is unavailable at this time. Please try again later or in a different availability zone"),
        Kind.NO_CAPACITY,
        retried="noCapacity",
        says="AWS had no capacity for the task: Capacity is unavailable",
    ),
    api(
        "no free network interface",
        "AmazonECS.Unknown",
        not_placed("RESOURCE:ENI"),
        Kind.NO_CAPACITY,
        retried="noCapacity",
        says="RESOURCE:ENI",
    ),
    api(
        "no memory left",
        "AmazonECS.Unknown",
        not_placed("RESOURCE:MEMORY"),
        Kind.NO_CAPACITY,
        retried="noCapacity",
    ),
    api(
        "the vCPU quota",
        "AmazonECS.Unknown",
        not_placed("You've reached the limit on the number of vCPUs you can run concurrently"),
        Kind.NO_CAPACITY,
        retried="noCapacity",
    ),
    api(
        "failures as plain text",
        "AmazonECS.Unknown",
        "The call returned a non-empty list of failures",
        Kind.NO_CAPACITY,
        retried="noCapacity",
        says="non-empty list of failures",
    ),
)

NEVER_STARTED = (
    start_failure("no such image", NO_IMAGE, Kind.IMAGE, says="failed to resolve ref"),
    Case(
        "no such image, told by the container only",
        "States.TaskFailed",
        never_started("Task failed to start", container_reason=NO_IMAGE),
        Kind.IMAGE,
        container="app",
        task_arn=TASK_ARN,
        started=False,
        says="could not be pulled: CannotPullContainerError",
        retried="neverStarted",
    ),
    start_failure(
        "no login to the registry",
        "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval "
        "failed: unable to retrieve ecr registry auth: service call has been retried 1 time(s): "
        "AccessDeniedException: not authorized to perform: ecr:GetAuthorizationToken",
        Kind.IMAGE,
    ),
    start_failure(
        "no way to the registry",
        "ResourceInitializationError: unable to pull secrets or registry auth: unable to retrieve ecr registry "
        "auth: There is a connection issue between the task and Amazon ECR. Check your task network "
        "configuration. RequestError: send request failed caused by: dial tcp 10.0.3.7:443: i/o timeout",
        Kind.NETWORK,
    ),
    start_failure(
        "no way to the image",
        "CannotPullContainerError: Error response from daemon: Get https://registry-1.docker.io/v2/: net/http: "
        "request canceled while waiting for connection",
        Kind.NETWORK,
    ),
    start_failure(
        "no network interface in time",
        "Timeout waiting for network interface provisioning to complete.",
        Kind.NETWORK,
    ),
    start_failure(
        "no secret",
        "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval "
        "failed: unable to retrieve secret from asm: service call has been retried 1 time(s): "
        "ResourceNotFoundException: Secrets Manager can't find the specified secret.",
        Kind.NOT_STARTED,
        says="unable to retrieve secret",
    ),
    start_failure(
        "no log group",
        "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
        "failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does not "
        "exist. : exit status 1",
        Kind.NOT_STARTED,
    ),
    start_failure(
        "no volume",
        'CannotCreateVolumeError: Get "http://unix.sock/VolumeDriver.Create": access point is not found',
        Kind.NOT_STARTED,
    ),
    start_failure(
        "no such command",
        "CannotStartContainerError: ResourceInitializationError: failed to create new container runtime task: "
        'exec: "report": executable file not found in $PATH: unknown',
        Kind.NOT_STARTED,
    ),
    start_failure(
        "a container runtime that hangs",
        "ContainerRuntimeTimeoutError: Could not transition to running; timed out after waiting 3m0s",
        Kind.NOT_STARTED,
    ),
    start_failure(
        "no capacity, found out after the call",
        "Capacity is unavailable at this time. Please try again later or in a different availability zone",
        Kind.NO_CAPACITY,
        retried="noCapacity",
    ),
    start_failure("no reason at all", "Task failed to start", Kind.NOT_STARTED, says="could not be started."),
)

APPLICATION = (
    exited("an exit code", container(exit_code=3), exit_code=3, says="ended with exit code 3"),
    exited(
        "out of memory",
        container(exit_code=137, reason=OUT_OF_MEMORY),
        exit_code=137,
        says="give the task more memory",
    ),
    exited("killed without a word", container(exit_code=137), exit_code=137, says="it was killed"),
    exited(
        "an exit code beside a sidecar that was killed",
        container("proxy", exit_code=137),
        container(exit_code=3),
        exit_code=3,
    ),
    exited(
        "the second of two essential containers, which took the first one down",
        container("app", exit_code=143),
        container("worker", exit_code=4),
        essential=("app", "worker"),
        exit_code=4,
        decided_by="worker",
    ),
    exited(
        "two essential containers, one of them out of memory",
        container("app", exit_code=1),
        container("worker", exit_code=137, reason=OUT_OF_MEMORY),
        essential=("app", "worker"),
        exit_code=137,
        decided_by="worker",
    ),
    exited(
        "two essential containers, one of them well",
        container("app", exit_code=0),
        container("worker", exit_code=2),
        essential=("app", "worker"),
        exit_code=2,
        decided_by="worker",
    ),
    exited(
        "an environment that tells of a start that failed",
        cause=stopped_task(
            container(exit_code=3),
            environment={
                "EVENT": '{"StopCode":"TaskFailedToStart","StoppedReason":"Capacity is unavailable"}',
                "StopCode": "TaskFailedToStart",
                "HINT": "CannotPullContainerError: Rate exceeded, SpotInterruption",
            },
        ),
        exit_code=3,
    ),
    exited(
        "an environment that tells of success",
        cause=stopped_task(container(exit_code=3), environment={"EVENT": '{"ExitCode":0,"Name":"app","StopCode":"X"}'}),
        exit_code=3,
    ),
    exited(
        "no exit code, although the task ran",
        container(),
        kind=Kind.UNKNOWN,
        says="'app' has no exit code",
    ),
    exited(
        "no exit code beside a sidecar that ended well",
        container("proxy", exit_code=0),
        container(),
        kind=Kind.UNKNOWN,
    ),
    exited(
        "one of two essential containers without an exit code",
        container("app", exit_code=0),
        container("worker"),
        kind=Kind.UNKNOWN,
        essential=("app", "worker"),
        decided_by="worker",
    ),
    exited(
        "only a sidecar failed",
        container("app", exit_code=0),
        container("proxy", exit_code=137),
        kind=Kind.UNKNOWN,
        decided_by=None,
        succeeds=True,
        says="Only the sidecar 'proxy' failed (exit code 137)",
    ),
    exited(
        "only a sidecar failed, and comes first",
        container("proxy", exit_code=1),
        container("app", exit_code=0),
        kind=Kind.UNKNOWN,
        decided_by=None,
        succeeds=True,
    ),
    exited(
        "only a sidecar failed, and without an exit code",
        container("app", exit_code=0),
        container("proxy"),
        kind=Kind.UNKNOWN,
        decided_by=None,
        succeeds=True,
        says="although its essential containers ended with exit code 0",
    ),
    exited(
        "only a sidecar failed, beside two essential containers",
        container("app", exit_code=0),
        container("proxy", exit_code=1),
        container("worker", exit_code=0),
        kind=Kind.UNKNOWN,
        essential=("app", "worker"),
        decided_by=None,
        succeeds=True,
    ),
)

INTERRUPTED = (
    exited(
        "Spot took the capacity back",
        cause=stopped_task(
            container(exit_code=143), stop_code="SpotInterruption", reason="Your Spot Task was interrupted."
        ),
        kind=Kind.INTERRUPTED,
        decided_by=None,
        retried="spot",
        says="Your Spot Task was interrupted",
    ),
    exited(
        "Spot took the capacity back, and the application ended well in time",
        cause=stopped_task(
            container(exit_code=0), stop_code="SpotInterruption", reason="Your Spot Task was interrupted."
        ),
        kind=Kind.INTERRUPTED,
        decided_by=None,
        retried="spot",
    ),
    exited(
        "the machine goes away",
        cause=stopped_task(container(exit_code=143), stop_code="TerminationNotice", reason="Task is being retired."),
        kind=Kind.INTERRUPTED,
        decided_by=None,
    ),
    exited(
        "somebody stopped the task",
        cause=stopped_task(container(exit_code=0), stop_code="UserInitiated", reason="Stopped by jane"),
        kind=Kind.INTERRUPTED,
        decided_by=None,
        says="Somebody stopped the task: Stopped by jane",
    ),
)

LONG_ENVIRONMENT = {f"VALUE_{number}": "x" * 1_000 for number in range(40)}

CUT_OFF = (
    exited(
        "cut off after the exit code",
        cause=stopped_task(container(exit_code=3), environment=LONG_ENVIRONMENT),
        exit_code=3,
    ),
    exited(
        "cut off in the environment, after a container without an exit code",
        cause=stopped_task(container("proxy", exit_code=1), container(), environment=LONG_ENVIRONMENT),
        kind=Kind.UNKNOWN,
    ),
    exited(
        "cut off before the stop code, the application well",
        cause=stopped_task(container("app", exit_code=0), container("proxy", exit_code=1), cut_before='"Cpu":"256"'),
        kind=Kind.UNKNOWN,
        decided_by=None,
        says="does not say why",
    ),
    exited(
        "cut off in the second essential container, which failed",
        cause=stopped_task(
            container("app", exit_code=0),
            container("worker", exit_code=1),
            cut_after='"Name":"worker"',
        ),
        kind=Kind.UNKNOWN,
        essential=("app", "worker"),
        decided_by="worker",
    ),
    Case(
        "cut off without any evidence",
        "States.TaskFailed",
        stopped_task(container(), cut_before=',"Group"'),
        Kind.UNKNOWN,
        container="app",
        task_arn=TASK_ARN,
    ),
    Case(
        "cut off in the first container",
        "States.TaskFailed",
        stopped_task(container(exit_code=137), cut_after='"ExitCode":13'),
        Kind.UNKNOWN,
        container="app",
        says="'app' has no exit code",
    ),
    Case(
        "cut off after a container that could not pull its image",
        "States.TaskFailed",
        stopped_task(
            container(reason=NO_IMAGE), stop_code="TaskFailedToStart", reason=None, environment=LONG_ENVIRONMENT
        ),
        Kind.IMAGE,
        container="app",
        task_arn=TASK_ARN,
        started=False,
        retried="neverStarted",
    ),
    Case(
        "cut off in the reason of the container",
        "States.TaskFailed",
        stopped_task(container(reason=NO_IMAGE), cut_after="CannotPullContainerError: pull image"),
        Kind.IMAGE,
        container="app",
        started=False,
        says="CannotPullContainerError: pull image…",
        retried="neverStarted",
    ),
    Case(
        "cut off in the reason of the task",
        "States.TaskFailed",
        stopped_task(
            container(),
            stop_code="TaskFailedToStart",
            reason="ResourceInitializationError: unable to pull secrets",
            cut_after="ResourceInitializationError: unable",
        ),
        Kind.NOT_STARTED,
        task_arn=TASK_ARN,
        started=False,
        retried="neverStarted",
    ),
    Case(
        "plain text that tells of a start that failed",
        "States.TaskFailed",
        NO_IMAGE,
        Kind.IMAGE,
        started=False,
        retried="neverStarted",
    ),
    Case("plain text without evidence", "States.TaskFailed", "Something is wrong", Kind.UNKNOWN),
    Case("no text at all", "States.TaskFailed", "", Kind.UNKNOWN),
)

NOT_ECS = (
    Case("a time-out", "States.Timeout", "", Kind.TIMED_OUT, says="longer than allowed"),
    Case("no heartbeat", "States.HeartbeatTimeout", "", Kind.TIMED_OUT, says="heartbeat"),
    Case(
        "a path that leads nowhere",
        "States.Runtime",
        "An error occurred while executing the state 'Run task' (entered at the event id #2). The JSONPath "
        "'$.commands' specified for the field 'Command.$' could not be found in the input '{\"token\":\"s3cret\"}'",
        Kind.CONFIGURATION,
        says="The workflow looks for $.commands, and the state's input does not have it",
    ),
    Case(
        "a parameter that leads nowhere",
        "States.ParameterPathFailure",
        "The JSONPath '$.commands' specified for the field 'Command.$' could not be found in the input '{}'",
        Kind.CONFIGURATION,
        says="$.commands",
    ),
    Case(
        "too much data",
        "States.DataLimitExceeded",
        "The state/task 'Run task' returned a result with a size exceeding the maximum number of bytes service limit.",
        Kind.CONFIGURATION,
        says="larger than 256 KiB",
    ),
    Case(
        "an exception of a function",
        "ValueError",
        '{"errorMessage":"no such customer","errorType":"ValueError","requestId":"b9e1","stackTrace":["File …"]}',
        Kind.APPLICATION,
        started=True,
        says="The application raised ValueError: no such customer",
    ),
    Case(
        "a function that took too long",
        "Sandbox.Timedout",
        '{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: b9e1 Error: Task timed out after 3.00 seconds"}',
        Kind.TIMED_OUT,
        started=True,
    ),
    Case(
        "a function that said nothing",
        "Lambda.Unknown",
        "The cause could not be determined because Lambda did not return an error type. Returned payload: "
        '{"errorMessage":"2026-03-01T02:00:03.003Z b9e1 Task timed out after 3.00 seconds"}',
        Kind.TIMED_OUT,
        started=True,
    ),
    Case(
        "a function that died",
        "Lambda.Unknown",
        "The cause could not be determined because Lambda did not return an error type.",
        Kind.APPLICATION,
        started=True,
    ),
    Case(
        "no free concurrency for the function",
        "Lambda.TooManyRequestsException",
        "Rate Exceeded. (Service: Lambda, Status Code: 429, Request ID: b9e1)",
        Kind.THROTTLED,
        started=False,
    ),
    Case("an error of Lambda", "Lambda.ServiceException", "Service exception", Kind.UNKNOWN, says="Lambda itself"),
    Case(
        "no such function",
        "Lambda.ResourceNotFoundException",
        "Function not found: arn:aws:lambda:eu-central-1:111122223333:function:gone",
        Kind.CONFIGURATION,
        started=False,
    ),
    Case(
        "a map with too many failures",
        "States.ExceedToleratedFailureThreshold",
        "The specified tolerated failure threshold was exceeded",
        Kind.APPLICATION,
    ),
    Case("an error of their own", "OrderRejected", "the order is empty", Kind.UNKNOWN, says="OrderRejected"),
)

CASES = (
    *REFUSED_BY_ECS,
    *NOT_PLACED,
    *NEVER_STARTED,
    *APPLICATION,
    *INTERRUPTED,
    *CUT_OFF,
    *NOT_ECS,
)
