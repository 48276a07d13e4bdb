"""What a state machine, and the rule that watches its endings, hand to the alert function."""

from typing import Any

from hypothesis import strategies as st

from tests.lambda_src.alert_cases import container, stopped_task

EXECUTION = "arn:aws:states:eu-central-1:111122223333:execution:NightlyReport:2026-03-01"
LOGGED = {"logGroup": "/jobs/nightly", "logStreamPrefix": "report"}

# https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
SNS_LIMIT = 256 * 1024


def job(**app: Any) -> dict[str, Any]:
    return {
        "name": "NightlyReport",
        "kind": "fargate",
        "cluster": "jobs",
        "containers": [{"name": "app", "essential": True, **app}, {"name": "proxy", "essential": False, **LOGGED}],
    }


def failed(error: str, cause: str, **more: Any) -> dict[str, Any]:
    """The event of a Catch: the state's input with the error beside it, and the context object."""
    input_ = {"day": "2026-03-01"}
    return {
        "Response": {**input_, "error": {"Error": error, "Cause": cause}, **more},
        "Execution": {
            "Execution": {
                "Id": EXECUTION,
                "Input": input_,
                "Name": "2026-03-01",
                "StartTime": "2026-03-01T02:00:00.123Z",
            },
            "State": {"EnteredTime": "2026-03-01T02:07:30Z", "Name": "Alert"},
            "StateMachine": {"Id": "arn:aws:states:…:NightlyReport", "Name": "NightlyReport"},
        },
        "Job": job(**LOGGED),
    }


def ended(status: str, **detail: Any) -> dict[str, Any]:
    """The event of the rule: "Step Functions Execution Status Change"."""
    change = {
        "executionArn": EXECUTION,
        "stateMachineArn": "arn:aws:states:eu-central-1:111122223333:stateMachine:NightlyReport",
        "name": "2026-03-01",
        "status": status,
        "startDate": 1_772_330_400_000,
        "stopDate": 1_772_330_850_000,
        "input": '{"day":"2026-03-01"}',
        "error": None,
        "cause": None,
        **detail,
    }
    return {
        "Response": {"StatusChange": change},
        "Execution": {
            "Execution": {"Id": EXECUTION, "Name": "2026-03-01", "StartTime": 1_772_330_400_000},
            "StateMachine": {"Id": change["stateMachineArn"]},
        },
        "Job": job(**LOGGED),
    }


APP_FAILED = failed("States.TaskFailed", stopped_task(container(exit_code=3)))

# Anything that an event may have in a place where something else is expected.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
