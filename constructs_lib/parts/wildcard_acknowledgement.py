"""Says why a policy names all of something, also of something in another stack."""

import jsii
from aws_cdk import Stack
from constructs import IConstruct, IValidation

from .acknowledgements import acknowledge, as_in_findings


def acknowledge_wildcard(construct: IConstruct, arn: str, reason: str) -> None:
    """Acknowledges the finding on `arn`, a resource with a wildcard in a policy on `construct` or below it.

    Not at once: how a policy names what is in another stack is known when all of the app is there.
    """
    construct.node.add_validation(_Acknowledged(construct, arn, reason))


@jsii.implements(IValidation)
class _Acknowledged:
    """Acknowledges when constructs are validated, which is when references between stacks are made."""

    def __init__(self, construct: IConstruct, arn: str, reason: str) -> None:
        self._construct = construct
        self._arn = arn
        self._reason = reason

    def validate(self) -> list[str]:
        """No problems: nothing is wrong with it."""
        arn = as_in_findings(Stack.of(self._construct), self._arn)
        acknowledge(self._construct, {f"AwsSolutions-IAM5[Resource::{arn}]": self._reason})
        return []
