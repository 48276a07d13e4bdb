"""What the alert says, without AWS."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alert.failure import Kind
from alert.message import Alert, alert_from
from tests.lambda_src.alert_cases import (
    CASES,
    LONG_ENVIRONMENT,
    TASK_ARN,
    TASK_ID,
    Case,
    container,
    not_placed,
    stopped_task,
)
from tests.lambda_src.alert_events import APP_FAILED, EXECUTION, JSON, SNS_LIMIT, ended, failed, job


def test_the_message_says_what_a_person_needs_to_act() -> None:
    alert = alert_from(APP_FAILED).with_log(["reading\n", "no such table: orders\n"])

    assert alert.text.splitlines() == [
        "NightlyReport failed: application",
        "Container 'app' ended with exit code 3.",
        "",
        "Tried:     1 launch",
        "Started:   2026-03-01 02:00:00 UTC",
        "Ended:     2026-03-01 02:07:30 UTC",
        "Container: app",
        "Exit code: 3",
        f"Task:      {TASK_ARN}",
        "Execution: https://eu-central-1.console.aws.amazon.com/states/home?region=eu-central-1"
        f"#/v2/executions/details/{EXECUTION}",
        "Log:       https://eu-central-1.console.aws.amazon.com/cloudwatch/home?region=eu-central-1"
        "#logsV2:log-groups/log-group/$252Fjobs$252Fnightly/log-events/report$252Fapp$252F" + TASK_ID,
        "",
        "Last log lines:",
        "reading",
        "no such table: orders",
        "",
        "Input of the execution:",
        '{"day": "2026-03-01"}',
    ]
    assert alert.subject == "NightlyReport failed: application, exit code 3"


def test_the_alert_is_json_with_its_message() -> None:
    alert = alert_from(APP_FAILED)

    record = json.loads(json.dumps(alert.to_dict()))

    assert record["kind"] == "application"
    assert record["exit_code"] == 3
    assert record["log_stream"] == {"group": "/jobs/nightly", "stream": f"report/app/{TASK_ID}"}
    assert (record["subject"], record["text"]) == (alert.subject, alert.text)


def test_refused_launches_are_counted_and_named() -> None:
    launch = {"throttled": 1, "noCapacity": 2, "neverStarted": 0, "pause": 7}

    alert = alert_from(failed("AmazonECS.Unknown", not_placed("Capacity is unavailable"), launch=launch))

    assert alert.launches == 4
    assert "Tried:     4 launches: 1 throttled, 2 refused for lack of capacity\n" in alert.text


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (failed("AmazonECS.Unknown", not_placed("RESOURCE:ENI")), "The work never started, so there is no log."),
        (failed("States.Timeout", ""), "AWS does not say which task it was, so its log is not known."),
        ({**APP_FAILED, "Job": job()}, "Container 'app' has no awslogs configuration."),
        ({**APP_FAILED, "Job": {}}, "It is not known which container's log to show."),
    ],
)
def test_where_there_is_no_log_the_message_says_why(event: object, why: str) -> None:
    alert = alert_from(event)

    assert alert.log_stream is None
    assert f"Last log lines:\n{why}\n" in alert.text


def test_of_a_function_the_log_group_is_told() -> None:
    of_function = {"name": "Resize", "kind": "lambda", "function": "resize", "logGroup": "/aws/lambda/resize"}
    event = failed("ValueError", '{"errorMessage": "no image", "errorType": "ValueError"}')

    alert = alert_from({**event, "Job": of_function})

    assert alert.log_stream is None
    assert alert.launches is None
    assert alert.log_link == (
        "https://eu-central-1.console.aws.amazon.com/cloudwatch/home?region=eu-central-1"
        "#logsV2:log-groups/log-group/$252Faws$252Flambda$252Fresize"
    )
    assert "Last log lines:\nWhich log stream it wrote to is not known.\n" in alert.text


def test_of_states_no_log_is_known() -> None:
    alert = alert_from({**failed("MyError", "why"), "Job": {"name": "Import", "kind": "chain"}})

    assert (alert.log_link, alert.launches) == (None, None)
    assert "It failed with MyError: why." in alert.text


def test_an_interrupted_task_shows_the_log_of_its_essential_container() -> None:
    alert = alert_from(failed("States.TaskFailed", stopped_task(container(), stop_code="SpotInterruption")))

    assert alert.log_stream is not None
    assert alert.log_stream.stream == f"report/app/{TASK_ID}"


@pytest.mark.parametrize(
    ("partition", "region", "console"),
    [
        ("aws", "eu-central-1", "https://eu-central-1.console.aws.amazon.com/states/"),
        ("aws-cn", "cn-north-1", "https://cn-north-1.console.amazonaws.cn/states/"),
        ("aws-us-gov", "us-gov-west-1", "https://us-gov-west-1.console.amazonaws-us-gov.com/states/"),
    ],
)
def test_links_lead_to_the_console_of_the_partition(partition: str, region: str, console: str) -> None:
    arn = f"arn:{partition}:states:{region}:111122223333:execution:NightlyReport:x"

    link = alert_from(ended("TIMED_OUT") | {"Execution": {"Execution": {"Id": arn}}}).execution_link

    assert link is not None
    assert link.startswith(console)


def test_a_partition_without_a_known_console_shows_the_arn() -> None:
    arn = "arn:aws-iso:states:us-iso-east-1:111122223333:execution:NightlyReport:x"

    alert = alert_from(ended("TIMED_OUT") | {"Execution": {"Execution": {"Id": arn}}})

    assert alert.execution_link is None
    assert f"Execution: {arn}\n" in alert.text


@pytest.mark.parametrize(
    ("status", "detail", "kind"),
    [
        ("TIMED_OUT", {}, Kind.TIMED_OUT),
        ("ABORTED", {}, Kind.ABORTED),
        ("SUCCEEDED", {}, Kind.SUCCEEDED),
        ("FAILED", {"error": "States.Runtime", "cause": "The JSONPath '$.a' …"}, Kind.CONFIGURATION),
        ("FAILED", {"error": "States.DataLimitExceeded"}, Kind.CONFIGURATION),
        ("FAILED", {}, Kind.UNKNOWN),
    ],
)
def test_an_ending_that_no_state_catches_is_told_as_well(status: str, detail: dict[str, str], kind: Kind) -> None:
    alert = alert_from(ended(status, **detail))

    assert alert.kind is kind
    assert alert.launches is None
    assert (alert.started_at, alert.ended_at) == ("2026-03-01 02:00:00 UTC", "2026-03-01 02:07:30 UTC")
    assert alert.input == '{"day":"2026-03-01"}'


def test_who_aborts_can_say_why() -> None:
    alert = alert_from(ended("ABORTED", error="Maintenance", cause="back at noon"))

    assert alert.summary == "Somebody stopped the execution: Maintenance: back at noon."


def test_a_success_is_told_as_one() -> None:
    event = failed("", "")
    event["Response"] = {"day": "2026-03-01", "result": json.loads(stopped_task(container(exit_code=0)))}

    alert = alert_from(event)

    assert (alert.kind, alert.exit_code) == (Kind.SUCCEEDED, 0)
    assert alert.subject == "NightlyReport succeeded, exit code 0"
    assert alert.log_stream is not None


def test_nothing_that_a_container_was_given_is_told() -> None:
    secrets = {"TOKEN": "s3cret"}
    causes = [
        stopped_task(container(exit_code=3), environment=secrets),
        stopped_task(container(exit_code=3), environment=secrets, cut_after="s3cr"),
        stopped_task(environment=secrets, cut_after="s3cr"),
        "the state was entered with the input '" + stopped_task(environment=secrets),
    ]
    for error in ("States.TaskFailed", "States.Runtime", "ECS.ClientException", "Lambda.Unknown", "Mine", ""):
        for cause in causes:
            assert "s3cr" not in json.dumps(alert_from(failed(error, cause)).to_dict())


@pytest.mark.parametrize("name", ["NightlyReport" * 20, "Täglicher\nBericht \x07", "レポート", " \n", ""])
@pytest.mark.parametrize("kind_of_failure", CASES[:1] + CASES[20:21], ids=lambda case: case.name)
def test_the_subject_is_one_that_sns_takes(name: str, kind_of_failure: Case) -> None:
    event = failed(kind_of_failure.error, kind_of_failure.cause) | {"Job": {"name": name}}

    subject = alert_from(event).subject

    assert 0 < len(subject) < 100
    assert subject.isascii()
    assert subject.isprintable()
    assert "never started" in subject


def test_whatever_is_long_is_shortened() -> None:
    # A clef is four bytes for SNS, and twelve where JSON is plain ASCII.
    event = failed("𝄞" * 50_000, "𝄞" * 50_000, **LONG_ENVIRONMENT)
    event["Execution"]["Execution"] |= {"Id": EXECUTION + "𝄞" * 50_000, "Input": "𝄞" * 200_000}
    event["Job"] = job(name="𝄞" * 50_000)

    alert = alert_from(event).with_log(["𝄞" * 50_000, "the end"])

    assert alert.text.count("the end") == 1
    assert len(alert.text.encode()) < SNS_LIMIT
    assert len(json.dumps(alert.to_dict())) < SNS_LIMIT


def test_characters_that_no_message_may_have_are_replaced() -> None:
    alert = alert_from(failed("Mine", "half a pair \ud83d")).with_log(["\x1b[31mred\x1b[0m\x00"])

    assert "half a pair \N{REPLACEMENT CHARACTER}" in alert.text
    assert "\N{REPLACEMENT CHARACTER}[31mred" in alert.text
    assert alert.text.encode()


def test_an_empty_log_is_called_empty() -> None:
    assert alert_from(APP_FAILED).with_log([]).log_text == "The log is empty."


def odd(*keys: str, known: dict[str, st.SearchStrategy[Any]] | None = None) -> st.SearchStrategy[Any]:
    """An object with some of our keys, and anything in them."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(keys, JSON) | (known or {})) | JSON


EVENTS = odd(
    known={
        "Response": odd(
            "launch",
            "result",
            known={
                "error": odd("Error", "Cause"),
                "result": odd("StopCode", "TaskArn", known={"Containers": st.lists(odd("Name", "ExitCode"))}),
                "StatusChange": odd("status", "error", "cause", "startDate", "stopDate", "input"),
            },
        ),
        "Execution": odd(known={"Execution": odd("Id", "StartTime", "Input"), "State": odd("EnteredTime")}),
        "Job": odd("name", known={"containers": st.lists(odd("name", "essential", "logGroup"), max_size=2)}),
    }
)


@given(event=EVENTS)
@settings(max_examples=150, deadline=None)
def test_no_event_is_too_odd_for_an_alert(event: object) -> None:
    alert = alert_from(event)

    assert isinstance(alert, Alert)
    assert json.dumps(alert.to_dict())
    assert alert.text.encode()


# --- a map ------------------------------------------------------------------------------------------------------------

MAP = {"name": "Stack/Map", "kind": "map", "again": "$.again", "work": {"kind": "lambda", "function": "own"}}
CAUSE = '37 of 10,000 items failed (allowed: 0). 30 times Lambda ValueError: no amount. Again: {"rerun": {}}'
ACCOUNT = {
    "failed": True,
    "counts": {"total": 10_000, "succeeded": 9_963, "failed": 37, "notRun": 0, "notices": 2},
    "error": {"Error": "ItemsFailed", "Cause": CAUSE},
    "summary": "s3://results/runs/night/summary.json",
    "notices": {
        "count": 2,
        "samples": [{"item": "a.csv", "notice": "empty"}, {"item": "b.csv", "notice": "old"}],
        "location": "s3://results/runs/night/notices.jsonl",
    },
}


def of_map(response: Mapping[str, Any]) -> dict[str, Any]:
    return {"Response": dict(response), "Execution": {"Execution": {"Id": EXECUTION}}, "Job": MAP}


def test_the_account_of_a_map_is_told_as_it_was_written() -> None:
    alert = alert_from(of_map(ACCOUNT))
    assert (alert.kind, alert.summary) == (Kind.APPLICATION, CAUSE)
    assert alert.subject == "Stack/Map failed: application"
    # Of many items, there is neither one launch nor one log.
    assert "Tried" not in alert.text
    assert "Each item has a log of its own." in alert.text
    # What is told from outside has the account, and no input.
    assert alert.text.endswith("Input of the execution:\nnot recorded")


def test_a_long_account_is_told_as_a_whole() -> None:
    long = " ".join(f"{number} times Error{number}." for number in range(300))
    assert alert_from(of_map({**ACCOUNT, "error": {"Error": "ItemsFailed", "Cause": long}})).summary == long


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("Aborted", Kind.ABORTED),
        ("States.Timeout", Kind.TIMED_OUT),
        ("States.ItemReaderFailed", Kind.CONFIGURATION),
        ("States.ExceedToleratedFailureThreshold", Kind.APPLICATION),
        ("NoItems", Kind.APPLICATION),
    ],
)
def test_how_a_run_of_a_map_ended(error: str, kind: Kind) -> None:
    alert = alert_from(of_map({**ACCOUNT, "error": {"Error": error, "Cause": "why"}}))
    assert (alert.kind, alert.summary) == (kind, "why")


def test_notices_are_no_failure() -> None:
    alert = alert_from(of_map({name: ACCOUNT[name] for name in ("notices", "counts", "summary")}))
    assert alert.subject == "Stack/Map left notices"
    assert alert.summary == ("Notices: 2. a.csv: empty; b.csv: old. All: s3://results/runs/night/notices.jsonl.")


def test_a_map_that_went_well() -> None:
    alert = alert_from(of_map({**ACCOUNT, "failed": False, "error": None}))
    assert (alert.kind, alert.summary) == (Kind.SUCCEEDED, "9,963 of 10,000 items were processed.")


def test_a_map_that_failed_before_it_had_an_account() -> None:
    missing = {"Error": "ItemsNotFound", "Cause": '{"errorMessage": "no list.csv", "errorType": "ItemsNotFound"}'}
    alert = alert_from(of_map({"runDate": "2026-11-21", "error": missing}))
    assert alert.summary == "The application raised ItemsNotFound: no list.csv."
