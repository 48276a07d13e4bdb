"""The line that CloudWatch takes metrics from."""

from embedded_metrics import metrics_record


def test_a_line_names_each_metric_with_its_unit_and_its_value() -> None:
    record = metrics_record(
        namespace="Library/Part",
        dimensions={"Part": "Launches"},
        metrics={"Started": ("Count", 2), "Waited": ("Seconds", [0.5, 1.5])},
        now=1_795_000_000.1234,
    )

    assert record == {
        "_aws": {
            "Timestamp": 1_795_000_000_123,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Library/Part",
                    "Dimensions": [["Part"]],
                    "Metrics": [{"Name": "Started", "Unit": "Count"}, {"Name": "Waited", "Unit": "Seconds"}],
                }
            ],
        },
        "Part": "Launches",
        "Started": 2,
        "Waited": [0.5, 1.5],
    }


def test_of_many_values_as_many_are_kept_as_a_line_may_hold() -> None:
    values = [float(number) for number in range(101)]

    record = metrics_record(namespace="N", dimensions={"D": "d"}, metrics={"Waited": ("Seconds", values)}, now=0)

    assert record is not None
    assert record["Waited"] == values[:100]


def test_where_nothing_was_measured_there_is_no_line() -> None:
    assert metrics_record(namespace="N", dimensions={"D": "d"}, metrics={}, now=0) is None
