"""Makes the message of what happened. Pure: no AWS call, no environment, no clock, no logging.

`alert_from` does not raise on an event of an odd shape: an alert that says less is better than none.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from alert.failure import Failure, Kind, account, classify, ending, success
from alert.reading import as_integer, as_object, as_objects, as_sentence, as_text, printable, shortened, text_at

# The message has to pass SNS (256 KiB with its attributes) and the alert has to pass as the result of a
# state (256 KiB as JSON).
MAX_INPUT = 2_000
MAX_LOG = 8_000

# "less than 100 characters long": https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
MAX_SUBJECT = 99

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

# Kinds of jobs that are not launched: of these nobody counts how often they were tried.
NOT_LAUNCHED = ("lambda", "chain", "map")

# Kinds of what is told of that are no failures.
GOOD = (Kind.SUCCEEDED, Kind.NOTICES)

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
        text = printable("\n".join(line.rstrip() for line in lines))
        if len(text) > MAX_LOG:
            text = "…" + text[1 - MAX_LOG :]
        return replace(self, log_text=text or "The log is empty.")

    def without_log(self, why: str) -> "Alert":
        """The same alert with the reason why the log could not be read."""
        return replace(self, log_text=as_sentence("The log could not be read", why))

    @property
    def subject(self) -> str:
        """Short enough and plain enough for SNS: ASCII, one line, below 100 characters."""
        exit_code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        subject = f"{shortened(self.job, 50)} {self._outcome()}{exit_code}"
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
        return self.kind if self.kind in GOOD else f"failed: {self.kind}"

    def _launches(self) -> str | None:
        if self.launches is None:
            return None
        return f"{self.launches} launches: {', '.join(self.refusals)}" if self.refusals else "1 launch"


def alert_from(event: object) -> Alert:
    """The alert for whatever a state machine, or the rule that watches its endings, hands over."""
    body = as_object(event)
    response, job = as_object(body.get("Response")), as_object(body.get("Job"))
    context = as_object(body.get("Execution"))
    execution, change = as_object(context.get("Execution")), as_object(response.get("StatusChange"))

    containers = as_objects(job.get("containers"))
    essential = [text_at(each, "name") for each in containers if each.get("essential") is not False]
    kind, group = text_at(job, "kind"), text_at(job, "logGroup", 512)
    failure = _outcome(response, essential, kind)
    deciding = failure.container or next(iter(essential), None)
    if kind == "map":
        stream, no_log = None, "Each item has a log of its own."
    elif kind in NOT_LAUNCHED:
        stream, no_log = None, "Which log stream it wrote to is not known."
    else:
        stream, no_log = _log_stream(failure, _named(containers, deciding))

    arn = text_at(execution, "Id", 2_000) or text_at(change, "executionArn", 2_000)
    launches, refusals = _launches(response)
    ended = change.get("stopDate") or as_object(context.get("State")).get("EnteredTime")
    return Alert(
        job=" ".join(text_at(job, "name").split()) or "Unnamed job",
        kind=failure.kind,
        summary=failure.summary,
        launches=None if change or kind in NOT_LAUNCHED else launches,
        refusals=refusals,
        started_at=_time(execution.get("StartTime") or change.get("startDate")),
        ended_at=_time(ended),
        exit_code=failure.exit_code,
        container=failure.container,
        task_arn=failure.task_arn,
        execution_arn=arn or None,
        execution_link=execution_link(arn),
        log_stream=stream,
        log_link=_log_link(stream, failure.task_arn or arn) if stream else _group_link(group, arn),
        log_text=no_log,
        input=_input(response, execution, change),
    )


def _outcome(response: Mapping[str, Any], essential: Sequence[str], kind: str) -> Failure:
    change, failed = as_object(response.get("StatusChange")), as_object(response.get("error"))
    if change:
        return ending(change, essential)
    # Where a map failed before it had an account, there is its input instead.
    if kind == "map" and _is_account(response):
        return account(response)
    # The result decides: after a relaunch that succeeded, the error of the launch before is still beside it.
    if "result" in response:
        return success(as_object(response["result"]), essential)
    if "error" in response:
        return classify(as_text(failed.get("Error")), as_text(failed.get("Cause")), essential)
    return Failure(Kind.UNKNOWN, "The event holds neither an error nor a result.")


def _is_account(response: Mapping[str, Any]) -> bool:
    return {"counts", "summary"} <= set(response)


def _launches(response: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    counters = as_object(response.get("launch"))
    counts = {meaning: as_integer(counters.get(key)) or 0 for key, meaning in REFUSALS.items()}
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
    group, prefix = text_at(container, "logGroup", 512), text_at(container, "logStreamPrefix", 512)
    if not group or not prefix:
        return None, f"Container {text_at(container, 'name')!r} has no awslogs configuration."
    if not failure.task_arn:
        return None, "AWS does not say which task it was, so its log is not known."
    task_id = failure.task_arn.rsplit("/", 1)[-1]
    return LogStream(group, f"{prefix}/{text_at(container, 'name')}/{task_id}"), ""


def execution_link(arn: str) -> str | None:
    console, region = _console(arn)
    return f"{console}/states/home?region={region}#/v2/executions/details/{arn}" if console else None


def _log_link(stream: LogStream, arn: str) -> str | None:
    group = _group_link(stream.group, arn)
    return f"{group}/log-events/{_fragment(stream.stream)}" if group else None


def _group_link(group: str, arn: str) -> str | None:
    console, region = _console(arn)
    if not group or console is None:
        return None
    return f"{console}/cloudwatch/home?region={region}#logsV2:log-groups/log-group/{_fragment(group)}"


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
    elif change or _is_account(response):
        value = change.get("input") or "not recorded"
    else:
        value = {key: value for key, value in response.items() if key not in OUR_KEYS}
    with suppress(ValueError, TypeError, RecursionError):
        value = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shortened(as_text(value), MAX_INPUT)


def _time(value: Any) -> str | None:
    """Step Functions writes ISO 8601, EventBridge milliseconds; people want to read it."""
    with suppress(TypeError, ValueError, OverflowError, OSError):
        if isinstance(value, str):
            return datetime.fromisoformat(value).astimezone(UTC).strftime(TIME_FORMAT)
        return datetime.fromtimestamp(value / 1000, UTC).strftime(TIME_FORMAT)
    return None


def _named(containers: Iterable[Mapping[str, Any]], name: str | None) -> Mapping[str, Any]:
    return next((each for each in containers if name is not None and text_at(each, "name") == name), {})
