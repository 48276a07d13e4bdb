"""What a construct is called in metrics, and how its metrics are drawn."""

from collections.abc import Mapping, Sequence

from aws_cdk import Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct


def deployed_name(construct: Construct) -> str:
    """Its path, with the name of the stack and not its id: an account may have the same app twice."""
    stack = Stack.of(construct)
    return construct.node.path.replace(stack.node.path, stack.stack_name, 1)


def graphs(name: str, metrics: Mapping[str, Sequence[cloudwatch.IMetric]]) -> list[cloudwatch.IWidget]:
    """A graph for each title, three in a row of a dashboard."""
    return [
        cloudwatch.GraphWidget(title=f"{name}: {title}", left=list(each), width=8) for title, each in metrics.items()
    ]
