"""The alarm that rings when a run that should have succeeded did not."""

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .validation import require_duration

_DAY = Duration.days(1)
_WEEK = Duration.days(7)


def missed_run_alarm(
    scope: Construct,
    state_machine: sfn.StateMachine,
    *,
    expected_every: Duration,
    actions: Sequence[cloudwatch.IAlarmAction],
) -> cloudwatch.Alarm:
    """Rings when no execution succeeded for `expected_every`; also when none was ever started.

    Raises:
        ConfigurationError: CloudWatch cannot look back that far, or not that finely.
    """
    require_duration(scope, "expected_every", expected_every, at_least=Duration.minutes(1), at_most=_WEEK)
    # CloudWatch looks back one day, or seven days in periods of at least an hour:
    # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
    if expected_every.to_seconds() <= _DAY.to_seconds():
        period, periods = Duration.minutes(-(-int(expected_every.to_seconds()) // 60)), 1
    else:
        period, periods = Duration.hours(1), -(-int(expected_every.to_seconds()) // 3600)
    alarm = state_machine.metric_succeeded(period=period, statistic="Sum").create_alarm(
        scope,
        "MissedRunAlarm",
        alarm_description=f"{scope.node.path}: no run succeeded for {expected_every.to_human_string()}.",
        threshold=1,
        comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
        evaluation_periods=periods,
        datapoints_to_alarm=periods,
        treat_missing_data=cloudwatch.TreatMissingData.BREACHING,
    )
    if actions:
        alarm.add_alarm_action(*actions)
    return alarm
