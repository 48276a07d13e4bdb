"""The log of a state machine's executions."""

from aws_cdk import Aws, Names, RemovalPolicy
from aws_cdk import aws_logs as logs
from constructs import Construct


def execution_log(scope: Construct, id_: str, *, retention: logs.RetentionDays) -> logs.LogGroup:
    """A log group whose name begins as that of a state machine's log should.

    The prefix keeps the resource policy of vended logs below its size limit:
    https://docs.aws.amazon.com/step-functions/latest/dg/bp-cwl.html
    """
    unique = Names.unique_resource_name(scope, max_length=80, separator="-")
    return logs.LogGroup(
        scope,
        id_,
        log_group_name=f"/aws/vendedlogs/states/{Aws.STACK_NAME}/{unique}",
        retention=retention,
        # Its name is fixed: kept, it would stand in the way of the next deployment of the same stack.
        removal_policy=RemovalPolicy.DESTROY,
    )
