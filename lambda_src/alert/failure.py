"""Names what went wrong. Pure: no AWS call, no environment, no clock, no logging.

Nothing here raises on an error of an odd shape: an alert that says less is better than none.

Two rules keep secrets out of what is said. The description of a stopped task holds the environment overrides
of its containers, so only named fields of it are read and its text is never quoted. And where AWS quotes
somebody's data inside an error message, it does so as JSON, so a quotation ends before the first brace.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Any

from alert.reading import (
    MAX_SENTENCE,
    as_integer,
    as_object,
    as_objects,
    as_sentence,
    as_text,
    has_any,
    shortened,
    text_at,
)


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
    NOTICES = "left notices"  # Nor is this a failure.


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
# Errors of a whole run of a map; what else there is, is of its items.
ACCOUNTS = {
    "Aborted": Kind.ABORTED,
    "States.Timeout": Kind.TIMED_OUT,
    "States.ItemReaderFailed": Kind.CONFIGURATION,
    "States.ResultWriterFailed": Kind.CONFIGURATION,
}

# Longer than a sentence: it has the reasons of many items.
MAX_ACCOUNT = 8_000

FUNCTION_TIMEOUT = r"Task timed out after [\d.]+ seconds"


def classify(error: str, cause: str, essential: Sequence[str]) -> Failure:
    """Names the failure that Step Functions reports as `error` and `cause`.

    `essential` are the names of the containers that decide; without any, all of them do. A failure of ECS
    has one of three shapes: an API exception with plain text, `AmazonECS.Unknown` with the failures of
    RunTask, or `States.TaskFailed` with the description of the stopped task. Step Functions cuts a cause at
    32,768 characters, so that description may end in the middle:
    https://docs.aws.amazon.com/step-functions/latest/apireference/API_TaskFailedEventDetails.html
    """
    document = read_cause(cause)
    words = quotable(cause)

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
    if error == "States.TaskFailed" and has_any(cause, START_TROUBLE_TEXTS):
        return _never_started(words)
    if error == "States.ExceedToleratedFailureThreshold":
        return _failure(Kind.APPLICATION, "More items of the map failed than are tolerated", words)
    return _failure(Kind.UNKNOWN, f"It failed with {error or 'no error name'}", words)


def ending(change: Mapping[str, Any], essential: Sequence[str]) -> Failure:
    """An execution that ended where no state could catch it."""
    status, error, cause = (as_text(change.get(key)) for key in ("status", "error", "cause"))
    if status == "ABORTED":
        why = ": ".join(filter(None, (error, quotable(cause))))
        return _failure(Kind.ABORTED, "Somebody stopped the execution", why)
    if status == "TIMED_OUT":
        return _failure(Kind.TIMED_OUT, "The execution took longer than allowed", quotable(cause))
    if status == "SUCCEEDED":
        return Failure(Kind.SUCCEEDED, "The execution ended well.")
    return classify(error, cause, essential)


def success(result: Mapping[str, Any], essential: Sequence[str]) -> Failure:
    """No failure at all: `result` describes the task that ended well."""
    task = _Task.read(result)
    name = essential[0] if len(essential) == 1 else None
    code = next((each.exit_code for each in task.containers if each.name == name), None)
    return Failure(Kind.SUCCEEDED, "The work is done.", code, name, task.arn, task.started)


def account(told: Mapping[str, Any]) -> Failure:
    """What became of the items of a map: what it tells is written for people already."""
    counts, notices = as_object(told.get("counts")), as_object(told.get("notices"))
    if "error" not in told:
        samples = (f"{text_at(one, 'item')}: {text_at(one, 'notice')}" for one in as_objects(notices.get("samples")))
        where = text_at(notices, "location", MAX_SENTENCE)
        what = f"Notices: {as_integer(notices.get('count')) or 0:,}. {'; '.join(samples)}. All: {where}."
        return Failure(Kind.NOTICES, shortened(what, MAX_ACCOUNT))
    failed = as_object(told["error"])
    if not failed:
        done, total = (as_integer(counts.get(key)) or 0 for key in ("succeeded", "total"))
        return Failure(Kind.SUCCEEDED, f"{done:,} of {total:,} items were processed.")
    return Failure(ACCOUNTS.get(as_text(failed.get("Error")), Kind.APPLICATION), text_at(failed, "Cause", MAX_ACCOUNT))


def _failure(kind: Kind, what: str, words: str, started: bool | None = None) -> Failure:
    """A failure without a task."""
    return Failure(kind, as_sentence(what, words), started=started)


def _misconfigured(error: str, words: str) -> Failure:
    if path := re.search(r"JSONPath '(\$[^']*)'", words):
        what = f"The workflow looks for {path[1]}, and the state's input does not have it"
    elif error == "States.DataLimitExceeded":
        what = "What one state hands to the next is larger than 256 KiB"
    else:
        what = f"The workflow itself is at fault ({error})"
    return _failure(Kind.CONFIGURATION, what, words)


def _not_placed(document: Mapping[str, Any], words: str) -> Failure:
    reasons = [text_at(failure, "Reason") for failure in as_objects(document.get("Failures"))]
    why = "; ".join(dict.fromkeys(filter(None, reasons))) or words
    what = "AWS had no capacity for the task" if has_any(why, CAPACITY_TEXTS) else "ECS started no task"
    return _failure(Kind.NO_CAPACITY, what, why, started=False)


def _refused_by_ecs(error: str, cause: str, words: str) -> Failure:
    if has_any(cause, CAPACITY_TEXTS):
        return _failure(Kind.NO_CAPACITY, "AWS had no capacity for the task", words, started=False)
    if has_any(cause, THROTTLING_TEXTS):
        return _failure(Kind.THROTTLED, "Too many calls: ECS refused the launch", words, started=False)
    if error in ("ECS.ServerException", "ECS.SdkClientException"):
        # The answer got lost, and perhaps only the answer: `started` stays open.
        return _failure(Kind.NOT_STARTED, "ECS itself failed (5xx)", words)
    if error == "ECS.AmazonECSException" and not has_any(cause, REFUSAL_TEXTS):
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
    message = text_at(document, "errorMessage", MAX_SENTENCE)
    if timeout := re.search(FUNCTION_TIMEOUT, message):
        return _failure(Kind.TIMED_OUT, "The function took longer than allowed", timeout[0], started=True)
    name = text_at(document, "errorType") or error
    return _failure(Kind.APPLICATION, f"The application raised {name}", message, started=True)


@dataclass(frozen=True)
class _Container:
    name: str
    exit_code: int | None
    reason: str

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> "_Container":
        reason = text_at(document, "Reason", MAX_SENTENCE)
        return cls(text_at(document, "Name"), as_integer(document.get("ExitCode")), reason)

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
        described = as_objects(document.get("Containers"))
        containers = tuple(_Container.read(each) for each in described)
        # Containers repeat the ARN of their task and come first: theirs may survive a cut.
        arns = [text_at(each, "TaskArn") for each in (*described, document)]
        reasons = [text_at(document, "StoppedReason", MAX_SENTENCE), *(each.reason for each in containers)]
        ran = "StartedAt" in document or any(each.exit_code is not None for each in containers)
        return cls(
            arn=next((arn for arn in arns if ":task/" in arn and not arn.endswith("…")), None),
            stop_code=text_at(document, "StopCode"),
            reason="; ".join(dict.fromkeys(each for each in reasons if each not in EMPTY_REASONS)),
            containers=containers,
            started=True if ran else None,
        )


def _stopped_task(task: _Task, essential: Sequence[str]) -> Failure:
    exit_codes = {each.name: each.exit_code for each in task.containers}
    ran = any(code is not None for code in exit_codes.values())
    if task.stop_code == "TaskFailedToStart":
        return _never_started(task.reason, task)
    if not task.stop_code and not ran and has_any(task.reason, START_TROUBLE_TEXTS):
        return _never_started(task.reason, task)
    if task.stop_code in INTERRUPTIONS:
        summary = as_sentence(INTERRUPTIONS[task.stop_code], task.reason)
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
        as_sentence(what, task.reason),
        container=container,
        task_arn=task.arn,
        started=task.started,
    )


def _never_started(reason: str, task: _Task | None = None) -> Failure:
    if has_any(reason, CAPACITY_TEXTS):
        kind, what = Kind.NO_CAPACITY, "AWS had no capacity for the task"
    elif has_any(reason, NETWORK_TEXTS):
        kind, what = Kind.NETWORK, "The task had no working network to start with"
    elif has_any(reason, IMAGE_TEXTS):
        kind, what = Kind.IMAGE, "The container image could not be pulled"
    else:
        kind, what = Kind.NOT_STARTED, "The task could not be started"
    containers = task.containers if task else ()
    return Failure(
        kind,
        as_sentence(what, reason),
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
        as_sentence(what, container.reason),
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


# --- Reading a cause -----------------------------------------------------------------------------------

# What AWS puts between its own words and the data that it quotes.
_QUOTATION = " :='\""


def quotable(cause: str) -> str:
    """AWS's own words in a plain cause: up to the first brace, where somebody's data begins."""
    words, brace, _ = cause.partition("{")
    return f"{words.rstrip(_QUOTATION)} …" if brace and words.strip() else words


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*(?P<end>")?|[][{},]', re.DOTALL)


def read_cause(cause: str) -> Mapping[str, Any]:
    """The JSON object in a cause, or what is left of it when the cause was cut; empty when there is none."""
    if not cause.lstrip().startswith("{"):
        return {}
    for candidate in chain((cause,), _mended(cause)):
        with suppress(ValueError, RecursionError):
            return as_object(json.loads(candidate))
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
