"""Decides what went wrong and words it. Pure: no AWS call, no environment, no clock, no logging.

`classify` names the failure, `alert_from` makes the whole message. Neither raises on an event of an odd
shape: an alert that says less is better than none.

Two rules keep secrets out of the message. The description of a stopped task holds the environment overrides
of its containers, so only named fields of it are read and its text is never quoted. And where AWS quotes
somebody's data inside an error message, it does so as JSON, so a quotation ends before the first brace.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote

# The message has to pass SNS (256 KiB with its attributes) and the alert has to pass as the result of a
# state (256 KiB as JSON), so everything that has no length of its own gets one, in characters.
MAX_NAME = 200
MAX_SENTENCE = 600
MAX_INPUT = 2_000
MAX_LOG = 8_000

# "less than 100 characters long": https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
MAX_SUBJECT = 99


class Kind(StrEnum):
    """What has to happen next depends on this, and on little else."""

    THROTTLED = "never started: throttled"
    NO_CAPACITY = "never started: no capacity"
    IMAGE = "never started: image"
    NETWORK = "never started: network"
    NOT_STARTED = "never started: other"
    APPLICATION = "application"
    TIMED_OUT = "timed out"
    CONFIGURATION = "configuration"
    INTERRUPTED = "interrupted"
    ABORTED = "aborted"
    UNKNOWN = "unknown"
    SUCCEEDED = "succeeded"  # Never from `classify`: an alert may also be good news.


@dataclass(frozen=True)
class Failure:
    """One failed piece of work.

    `container` is the one that decided, `exit_code` is its exit code, and `started` is None where AWS does
    not say whether anything ran.
    """

    kind: Kind
    summary: str
    exit_code: int | None = None
    container: str | None = None
    task_arn: str | None = None
    started: bool | None = None


# --- What went wrong -------------------------------------------------------------------------------------

# Reasons of RunTask: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html
CAPACITY_TEXTS = ("Capacity is unavailable", "RESOURCE:", "reached the limit on the number of")

# RunTask passes EC2's own throttling on as an InvalidParameterException: "Request limit exceeded".
THROTTLING_TEXTS = ("Rate exceeded", "Throttling", "Request limit exceeded", "RequestLimitExceeded")

# The generic ECS exception is mostly throttling. These are the texts of the exceptions that it is not.
REFUSAL_TEXTS = ("AccessDenied", "not authorized", "InvalidParameter", "ClientException", "NotFound")

# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
START_TROUBLE_TEXTS = (
    "CannotPull",
    "CannotCreateVolumeError",
    "CannotStartContainerError",
    "ContainerRuntimeTimeoutError",
    "ResourceInitializationError",
    "Timeout waiting for network interface provisioning",
)
NETWORK_TEXTS = (
    "network interface",
    "network configuration",
    "connection issue",
    "i/o timeout",
    "dial tcp",
    "no such host",
    "request canceled while waiting for connection",
    "context deadline exceeded",
)
IMAGE_TEXTS = ("CannotPull", "ecr registry auth")

# A stopped task says why in its own words only sometimes. These say nothing that its containers do not.
EMPTY_REASONS = ("", "Task failed to start", "Essential container in task exited")

INTERRUPTIONS = {
    "SpotInterruption": "Fargate Spot took the capacity back",
    "TerminationNotice": "AWS announced the end of the machine under the task",
    "InfrastructureHealth": "AWS found the machine under the task unhealthy",
    "UserInitiated": "Somebody stopped the task",
    "ServiceSchedulerInitiated": "The ECS service scheduler stopped the task",
}

EXIT_CODES = {
    126: "its command is not executable",
    127: "its command was not found",
    137: "it was killed: for lack of memory, or because it did not stop when told to",
    139: "a segmentation fault",
    143: "it was told to stop",
}

# What an essential container gets when another one ended: it is a victim, seldom the cause.
STOPPED_BY_SIGNAL = (137, 143)

# https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
CONFIGURATION_ERRORS = (
    "States.DataLimitExceeded",
    "States.IntrinsicFailure",
    "States.ItemReaderFailed",
    "States.NoChoiceMatched",
    "States.ParameterPathFailure",
    "States.Permissions",
    "States.QueryEvaluationError",
    "States.ResultPathMatchFailure",
    "States.ResultWriterFailed",
    "States.Runtime",
)
LAMBDA_SERVICE_ERRORS = (
    "Lambda.AWSLambdaException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.SdkClientException",
    "Lambda.ServiceException",
)
LAMBDA_REFUSALS = (
    "Lambda.AccessDeniedException",
    "Lambda.InvalidParameterValueException",
    "Lambda.ResourceNotFoundException",
)
FUNCTION_TIMEOUT = r"Task timed out after [\d.]+ seconds"


def classify(error: str, cause: str, essential: Sequence[str]) -> Failure:
    """Names the failure that Step Functions reports as `error` and `cause`.

    `essential` are the names of the containers that decide; without any, all of them do. A failure of ECS
    has one of three shapes: an API exception with plain text, `AmazonECS.Unknown` with the failures of
    RunTask, or `States.TaskFailed` with the description of the stopped task. Step Functions cuts a cause at
    32,768 characters, so that description may end in the middle:
    https://docs.aws.amazon.com/step-functions/latest/apireference/API_TaskFailedEventDetails.html
    """
    document = _read_json(cause)
    words = _quotable(cause)

    if error == "States.Timeout":
        return _failure(Kind.TIMED_OUT, "The work took longer than allowed", words)
    if error == "States.HeartbeatTimeout":
        return _failure(Kind.TIMED_OUT, "The work sent no heartbeat in time", words)
    if error in CONFIGURATION_ERRORS:
        return _misconfigured(error, words)
    if error == "AmazonECS.Unknown":
        return _not_placed(document, words)
    if error.startswith("ECS."):
        return _refused_by_ecs(error, cause, words)
    if error.startswith("Lambda."):
        return _lambda_failure(error, cause, words)
    if "errorMessage" in document:
        return _exception(error, document)
    if error == "States.TaskFailed" and document:
        return _stopped_task(_Task.read(document), essential)
    if error == "States.TaskFailed" and _has(cause, START_TROUBLE_TEXTS):
        return _never_started(words)
    if error == "States.ExceedToleratedFailureThreshold":
        return _failure(Kind.APPLICATION, "More items of the map failed than are tolerated", words)
    return _failure(Kind.UNKNOWN, f"It failed with {error or 'no error name'}", words)


def _failure(kind: Kind, what: str, words: str, started: bool | None = None) -> Failure:
    """A failure without a task."""
    return Failure(kind, _sentence(what, words), started=started)


def _misconfigured(error: str, words: str) -> Failure:
    if path := re.search(r"JSONPath '(\$[^']*)'", words):
        what = f"The workflow looks for {path[1]}, and the state's input does not have it"
    elif error == "States.DataLimitExceeded":
        what = "What one state hands to the next is larger than 256 KiB"
    else:
        what = f"The workflow itself is at fault ({error})"
    return _failure(Kind.CONFIGURATION, what, words)


def _not_placed(document: Mapping[str, Any], words: str) -> Failure:
    reasons = [_string(failure, "Reason") for failure in _dicts(document.get("Failures"))]
    why = "; ".join(dict.fromkeys(filter(None, reasons))) or words
    what = "AWS had no capacity for the task" if _has(why, CAPACITY_TEXTS) else "ECS started no task"
    return _failure(Kind.NO_CAPACITY, what, why, started=False)


def _refused_by_ecs(error: str, cause: str, words: str) -> Failure:
    if _has(cause, CAPACITY_TEXTS):
        return _failure(Kind.NO_CAPACITY, "AWS had no capacity for the task", words, started=False)
    if _has(cause, THROTTLING_TEXTS):
        return _failure(Kind.THROTTLED, "Too many calls: ECS refused the launch", words, started=False)
    if error in ("ECS.ServerException", "ECS.SdkClientException"):
        # The answer got lost, and perhaps only the answer: `started` stays open.
        return _failure(Kind.NOT_STARTED, "ECS itself failed (5xx)", words)
    if error == "ECS.AmazonECSException" and not _has(cause, REFUSAL_TEXTS):
        return _failure(Kind.THROTTLED, "ECS refused the launch", words, started=False)
    return _failure(Kind.CONFIGURATION, f"ECS rejected the request ({error})", words, started=False)


def _lambda_failure(error: str, cause: str, words: str) -> Failure:
    if error == "Lambda.TooManyRequestsException":
        return _failure(Kind.THROTTLED, "Lambda had no free concurrency", words, started=False)
    if error in LAMBDA_REFUSALS:
        return _failure(Kind.CONFIGURATION, f"Lambda rejected the call ({error})", words, started=False)
    if error in LAMBDA_SERVICE_ERRORS:
        return _failure(Kind.UNKNOWN, "Lambda itself failed; the function may have run", words)
    if timeout := re.search(FUNCTION_TIMEOUT, cause):
        return _failure(Kind.TIMED_OUT, "The function took longer than allowed", timeout[0], started=True)
    return _failure(Kind.APPLICATION, f"The function failed ({error})", words, started=True)


def _exception(error: str, document: Mapping[str, Any]) -> Failure:
    """A Lambda function raised: its cause is {"errorMessage", "errorType", "stackTrace", ...}."""
    message = _string(document, "errorMessage", MAX_SENTENCE)
    if timeout := re.search(FUNCTION_TIMEOUT, message):
        return _failure(Kind.TIMED_OUT, "The function took longer than allowed", timeout[0], started=True)
    name = _string(document, "errorType") or error
    return _failure(Kind.APPLICATION, f"The application raised {name}", message, started=True)


@dataclass(frozen=True)
class _Container:
    name: str
    exit_code: int | None
    reason: str

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "_Container":
        reason = _string(document, "Reason", MAX_SENTENCE)
        return cls(_string(document, "Name"), _integer(document.get("ExitCode")), reason)

    @property
    def out_of_memory(self) -> bool:
        return "OutOfMemory" in self.reason


@dataclass(frozen=True)
class _Task:
    """What counts in the description of a stopped ECS task, or in the part of it that is left."""

    arn: str | None
    stop_code: str
    reason: str
    containers: tuple[_Container, ...]
    started: bool | None

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "_Task":
        described = _dicts(document.get("Containers"))
        containers = tuple(_Container.read(each) for each in described)
        # Containers repeat the ARN of their task and come first: theirs may survive a cut.
        arns = [_string(each, "TaskArn") for each in (*described, document)]
        reasons = [_string(document, "StoppedReason", MAX_SENTENCE), *(each.reason for each in containers)]
        ran = "StartedAt" in document or any(each.exit_code is not None for each in containers)
        return cls(
            arn=next((arn for arn in arns if ":task/" in arn and not arn.endswith("…")), None),
            stop_code=_string(document, "StopCode"),
            reason="; ".join(dict.fromkeys(each for each in reasons if each not in EMPTY_REASONS)),
            containers=containers,
            started=True if ran else None,
        )


def _stopped_task(task: _Task, essential: Sequence[str]) -> Failure:
    exit_codes = {each.name: each.exit_code for each in task.containers}
    ran = any(code is not None for code in exit_codes.values())
    if task.stop_code == "TaskFailedToStart":
        return _never_started(task.reason, task)
    if not task.stop_code and not ran and _has(task.reason, START_TROUBLE_TEXTS):
        return _never_started(task.reason, task)
    if task.stop_code in INTERRUPTIONS:
        summary = _sentence(INTERRUPTIONS[task.stop_code], task.reason)
        return Failure(Kind.INTERRUPTED, summary, task_arn=task.arn, started=task.started)

    deciding = [each for each in task.containers if not essential or each.name in essential]
    if failed := [each for each in deciding if each.exit_code]:
        return _application(min(failed, key=_blame), task)

    # A missing exit code is not success, and neither is an essential container that the cut took away.
    silent = [name for name in (essential or exit_codes) if exit_codes.get(name) is None]
    container = silent[0] if silent else None
    if silent:
        what = f"Container {container!r} has no exit code"
    elif task.stop_code != "EssentialContainerExited" or not deciding:
        what = "The task stopped, and what AWS reports does not say why"
    elif sidecar := next((each for each in task.containers if each.exit_code), None):
        what = (
            f"Only the sidecar {sidecar.name!r} failed (exit code {sidecar.exit_code}): "
            "all essential containers ended with exit code 0"
        )
    else:
        what = "The task is reported as failed, although its essential containers ended with exit code 0"
    return Failure(
        Kind.UNKNOWN,
        _sentence(what, task.reason),
        container=container,
        task_arn=task.arn,
        started=task.started,
    )


def _never_started(reason: str, task: _Task | None = None) -> Failure:
    if _has(reason, CAPACITY_TEXTS):
        kind, what = Kind.NO_CAPACITY, "AWS had no capacity for the task"
    elif _has(reason, NETWORK_TEXTS):
        kind, what = Kind.NETWORK, "The task had no working network to start with"
    elif _has(reason, IMAGE_TEXTS):
        kind, what = Kind.IMAGE, "The container image could not be pulled"
    else:
        kind, what = Kind.NOT_STARTED, "The task could not be started"
    containers = task.containers if task else ()
    return Failure(
        kind,
        _sentence(what, reason),
        container=next((each.name for each in containers if each.reason), None),
        task_arn=task.arn if task else None,
        started=False,
    )


def _application(container: _Container, task: _Task) -> Failure:
    code = container.exit_code
    if container.out_of_memory:
        what = f"Container {container.name!r} ran out of memory (exit code {code}): give the task more memory"
    else:
        what = f"Container {container.name!r} ended with exit code {code}"
        if code in EXIT_CODES:
            what += f" ({EXIT_CODES[code]})"
    return Failure(
        Kind.APPLICATION,
        _sentence(what, container.reason),
        exit_code=code,
        container=container.name,
        task_arn=task.arn,
        started=True,
    )


def _blame(container: _Container) -> int:
    """The lower, the likelier it is that this container ended the others."""
    if container.out_of_memory:
        return 0
    return 2 if container.exit_code in STOPPED_BY_SIGNAL else 1


# --- The message -----------------------------------------------------------------------------------------

# By partition: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-cn": "console.amazonaws.cn",
    "aws-us-gov": "console.amazonaws-us-gov.com",
}

# The counters that a state machine keeps in `$.launch`: every one is a launch before the last.
REFUSALS = {
    "throttled": "throttled",
    "noCapacity": "refused for lack of capacity",
    "neverStarted": "never started",
    "application": "failed",
    "timedOut": "timed out",
    "configuration": "refused as misconfigured",
}

TIME_FORMAT = "%Y-%m-%d %H:%M:%S UTC"

# Keys that a state machine puts beside its input.
OUR_KEYS = ("error", "launch", "result", "StatusChange")


@dataclass(frozen=True)
class LogStream:
    """Where the deciding container wrote its log."""

    group: str
    stream: str


@dataclass(frozen=True)
class Alert:
    """All that is known, and the message made of it.

    Times are UTC, None where the event does not tell. `log_text` is the end of the log, or why there is none.
    """

    job: str
    kind: Kind
    summary: str
    launches: int | None
    refusals: tuple[str, ...]
    started_at: str | None
    ended_at: str | None
    exit_code: int | None
    container: str | None
    task_arn: str | None
    execution_arn: str | None
    execution_link: str | None
    log_stream: LogStream | None
    log_link: str | None
    log_text: str
    input: str

    def with_log(self, lines: Iterable[str]) -> "Alert":
        """The same alert with the end of the log; of a long log the newest characters are kept."""
        text = _printable("\n".join(line.rstrip() for line in lines))
        if len(text) > MAX_LOG:
            text = "…" + text[1 - MAX_LOG :]
        return replace(self, log_text=text or "The log is empty.")

    def without_log(self, why: str) -> "Alert":
        """The same alert with the reason why the log could not be read."""
        return replace(self, log_text=_sentence("The log could not be read", why))

    @property
    def subject(self) -> str:
        """Short enough and plain enough for SNS: ASCII, one line, below 100 characters."""
        exit_code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        subject = f"{_short(self.job, 50)} {self._outcome()}{exit_code}"
        return subject.replace("…", "...").encode("ascii", "replace").decode()[:MAX_SUBJECT]

    @property
    def text(self) -> str:
        """The message, several lines long."""
        facts = (
            ("Tried", self._launches()),
            ("Started", self.started_at),
            ("Ended", self.ended_at),
            ("Container", self.container),
            ("Exit code", self.exit_code),
            ("Task", self.task_arn),
            ("Execution", self.execution_link or self.execution_arn),
            ("Log", self.log_link),
        )
        return "\n".join(
            (
                f"{self.job} {self._outcome()}",
                self.summary,
                "",
                *(f"{name + ':':<11}{value}" for name, value in facts if value is not None),
                "",
                "Last log lines:",
                self.log_text,
                "",
                "Input of the execution:",
                self.input,
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it. The log and the input are in the text, and nowhere else: they may be long."""
        fields = {name: value for name, value in asdict(self).items() if name not in ("log_text", "input")}
        strings = {"kind": str(self.kind), "subject": self.subject, "text": self.text}
        return {**fields, **strings, "refusals": list(self.refusals)}

    def _outcome(self) -> str:
        return self.kind if self.kind is Kind.SUCCEEDED else f"failed: {self.kind}"

    def _launches(self) -> str | None:
        if self.launches is None:
            return None
        return f"{self.launches} launches: {', '.join(self.refusals)}" if self.refusals else "1 launch"


def alert_from(event: object) -> Alert:
    """The alert for whatever a state machine, or the rule that watches its endings, hands over."""
    body = _dict(event)
    response, job = _dict(body.get("Response")), _dict(body.get("Job"))
    context = _dict(body.get("Execution"))
    execution, change = _dict(context.get("Execution")), _dict(response.get("StatusChange"))

    containers = _dicts(job.get("containers"))
    essential = [_string(each, "name") for each in containers if each.get("essential") is not False]
    failure = _outcome(response, essential)
    deciding = failure.container or next(iter(essential), None)
    stream, no_log = _log_stream(failure, _named(containers, deciding))

    arn = _string(execution, "Id", 2_000) or _string(change, "executionArn", 2_000)
    launches, refusals = _launches(response)
    ended = change.get("stopDate") or _dict(context.get("State")).get("EnteredTime")
    return Alert(
        job=" ".join(_string(job, "name").split()) or "Unnamed job",
        kind=failure.kind,
        summary=failure.summary,
        launches=None if change else launches,
        refusals=refusals,
        started_at=_time(execution.get("StartTime") or change.get("startDate")),
        ended_at=_time(ended),
        exit_code=failure.exit_code,
        container=failure.container,
        task_arn=failure.task_arn,
        execution_arn=arn or None,
        execution_link=_execution_link(arn),
        log_stream=stream,
        log_link=_log_link(stream, failure.task_arn or arn),
        log_text=no_log,
        input=_input(response, execution, change),
    )


def _outcome(response: Mapping[str, Any], essential: Sequence[str]) -> Failure:
    change, failed = _dict(response.get("StatusChange")), _dict(response.get("error"))
    if change:
        return _ending(change, essential)
    # The result decides: after a relaunch that succeeded, the error of the launch before is still beside it.
    if "result" in response:
        return _success(_Task.read(_dict(response["result"])), essential)
    if "error" in response:
        return classify(_text(failed.get("Error")), _text(failed.get("Cause")), essential)
    return Failure(Kind.UNKNOWN, "The event holds neither an error nor a result.")


def _ending(change: Mapping[str, Any], essential: Sequence[str]) -> Failure:
    """An execution that ended where no state could catch it."""
    status, error, cause = (_text(change.get(key)) for key in ("status", "error", "cause"))
    if status == "ABORTED":
        why = ": ".join(filter(None, (error, _quotable(cause))))
        return _failure(Kind.ABORTED, "Somebody stopped the execution", why)
    if status == "TIMED_OUT":
        return _failure(Kind.TIMED_OUT, "The execution took longer than allowed", _quotable(cause))
    if status == "SUCCEEDED":
        return Failure(Kind.SUCCEEDED, "The execution ended well.")
    return classify(error, cause, essential)


def _success(task: _Task, essential: Sequence[str]) -> Failure:
    name = essential[0] if len(essential) == 1 else None
    code = next((each.exit_code for each in task.containers if each.name == name), None)
    return Failure(Kind.SUCCEEDED, "The work is done.", code, name, task.arn, task.started)


def _launches(response: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    counters = _dict(response.get("launch"))
    counts = {meaning: _integer(counters.get(key)) or 0 for key, meaning in REFUSALS.items()}
    spent = {meaning: count for meaning, count in counts.items() if count > 0}
    return 1 + sum(spent.values()), tuple(f"{count} {meaning}" for meaning, count in spent.items())


def _log_stream(failure: Failure, container: Mapping[str, Any]) -> tuple[LogStream | None, str]:
    """The stream of the awslogs driver, `prefix/container/task id`; or None and the reason.

    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/specify-log-config.html
    """
    if failure.started is False:
        return None, "The work never started, so there is no log."
    if not container:
        return None, "It is not known which container's log to show."
    group, prefix = _string(container, "logGroup", 512), _string(container, "logStreamPrefix", 512)
    if not group or not prefix:
        return None, f"Container {_string(container, 'name')!r} has no awslogs configuration."
    if not failure.task_arn:
        return None, "AWS does not say which task it was, so its log is not known."
    task_id = failure.task_arn.rsplit("/", 1)[-1]
    return LogStream(group, f"{prefix}/{_string(container, 'name')}/{task_id}"), ""


def _execution_link(arn: str) -> str | None:
    console, region = _console(arn)
    return f"{console}/states/home?region={region}#/v2/executions/details/{arn}" if console else None


def _log_link(stream: LogStream | None, arn: str) -> str | None:
    console, region = _console(arn)
    if stream is None or console is None:
        return None
    group, name = _fragment(stream.group), _fragment(stream.stream)
    page = f"logsV2:log-groups/log-group/{group}/log-events/{name}"
    return f"{console}/cloudwatch/home?region={region}#{page}"


def _console(arn: str) -> tuple[str | None, str]:
    partition, region = (*arn.split(":"), "", "", "", "")[1:4:2]
    domain = CONSOLES.get(partition)
    return (f"https://{region}.{domain}", region) if domain and region else (None, region)


def _fragment(text: str) -> str:
    """The CloudWatch console wants names encoded twice, with a dollar for the per cent: `/` is `$252F`."""
    return quote(quote(text, safe=""), safe="").replace("%", "$")


def _input(response: Mapping[str, Any], execution: Mapping[str, Any], change: Mapping[str, Any]) -> str:
    if "Input" in execution:
        value = execution["Input"]
    elif change:
        value = change.get("input") or "not recorded"
    else:
        value = {key: value for key, value in response.items() if key not in OUR_KEYS}
    with suppress(ValueError, TypeError, RecursionError):
        value = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _short(_text(value), MAX_INPUT)


def _time(value: Any) -> str | None:
    """Step Functions writes ISO 8601, EventBridge milliseconds; people want to read it."""
    with suppress(TypeError, ValueError, OverflowError, OSError):
        if isinstance(value, str):
            return datetime.fromisoformat(value).astimezone(UTC).strftime(TIME_FORMAT)
        return datetime.fromtimestamp(value / 1000, UTC).strftime(TIME_FORMAT)
    return None


# --- Reading what may be anything ------------------------------------------------------------------------


def _dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _named(containers: Iterable[Mapping[str, Any]], name: str | None) -> Mapping[str, Any]:
    return next((each for each in containers if name is not None and _string(each, "name") == name), {})


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _string(mapping: Mapping[str, Any], key: str, limit: int = MAX_NAME) -> str:
    return _short(_text(mapping.get(key)), limit)


def _integer(value: object) -> int | None:
    """A number of JSON, small enough to be printed; True is none."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    return None


def _has(text: str, any_of: Iterable[str]) -> bool:
    return any(each in text for each in any_of)


# What AWS puts between its own words and the data that it quotes.
_QUOTATION = " :='\""

_UNPRINTABLE = re.compile(r"[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _printable(text: str) -> str:
    """Without control characters and halves of surrogate pairs, which no transport of a message accepts."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _short(text: str, limit: int) -> str:
    text = _printable(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _sentence(what: str, text: str) -> str:
    """Our words, then AWS's own."""
    words = " ".join(text.split()).rstrip(".")
    sentence = _short(f"{what}: {words}" if words else what, MAX_SENTENCE)
    return sentence if sentence.endswith("…") else f"{sentence}."


def _quotable(cause: str) -> str:
    """AWS's own words in a plain cause: up to the first brace, where somebody's data begins."""
    words, brace, _ = cause.partition("{")
    return f"{words.rstrip(_QUOTATION)} …" if brace and words.strip() else words


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?P<end>")?|[][{},]', re.DOTALL)


def _read_json(cause: str) -> Mapping[str, Any]:
    """The JSON object in a cause, or what is left of it when the cause was cut; empty when there is none."""
    if not cause.lstrip().startswith("{"):
        return {}
    for candidate in (cause, *_mended(cause)):
        with suppress(ValueError, RecursionError):
            return _dict(json.loads(candidate))
    return {}


def _mended(cut: str) -> Iterator[str]:
    """Closes what the cut left open.

    A string that was cut ends with an ellipsis and is worth having. Any other value that was cut is dropped:
    13 may have been 137.
    """
    closing: list[str] = []
    whole, whole_closing = 0, ""
    in_string = False
    for token in _TOKEN.finditer(cut):
        match token[0][0]:
            case "{":
                closing.append("}")
            case "[":
                closing.append("]")
            case "}" | "]":
                del closing[-1:]
            case ",":
                whole, whole_closing = token.start(), "".join(reversed(closing))
            case _:
                in_string = token["end"] is None
    if in_string:
        yield cut + '…"' + "".join(reversed(closing))
    yield cut[:whole] + whole_closing
