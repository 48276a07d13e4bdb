"""One way to make an alarm."""

from collections.abc import Sequence

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct


def alarm_on(
    scope: Construct,
    id_: str,
    metric: cloudwatch.Metric,
    *,
    description: str,
    threshold: int = 1,
    actions: Sequence[cloudwatch.IAlarmAction] = (),
) -> cloudwatch.Alarm:
    """An alarm that rings as soon as `metric` reaches `threshold`, and rests while there is no data.

    Without actions it is still there to be seen in the console.
    """
    alarm = metric.create_alarm(
        scope,
        id_,
        alarm_description=description,
        threshold=threshold,
        evaluation_periods=1,
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
    )
    if actions:
        alarm.add_alarm_action(*actions)
    return alarm
