"""Finds at synthesis what would have a job start itself without end: its output beside what starts it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jsii
from aws_cdk import Annotations, Stack, Token
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct, IValidation

from .acknowledgements import as_in_findings
from .object_filter import ObjectFilter
from .validation import invalid, require_type
from .wildcards import ANY, Wildcard, have_common_text

_WARNING = "constructs-lib:recursion"
_PUT = "s3:PutObject"

# Policies of AWS's own that allow to write to any bucket.
_WRITING = ("/AdministratorAccess", "/PowerUserAccess", "/AmazonS3FullAccess")


def is_same_bucket(one: s3.IBucket, other: s3.IBucket) -> bool:
    """Whether both are the same bucket, as far as synthesis can tell: also where one of them is imported."""
    if one.node.path == other.node.path or one.bucket_name == other.bucket_name:
        return True
    return _known_name(one) is not None and _known_name(one) == _known_name(other)


def check_output(where: Construct, counts: ObjectFilter, prefix: str | None) -> str:
    """Refuses output to the same bucket that would start the job again; warns where that depends on the keys.

    Returns the prefix that must never start the job.

    Raises:
        ConfigurationError: objects under `prefix` start the job, or all that start it are under it.
    """
    remedy = "Pass a prefix that none of prefixes, suffixes and wildcards match, or write to another bucket."
    if prefix is None:
        raise invalid(
            where, "output_prefix", "must be given if the output goes to the bucket of the input", prefix, remedy
        )
    require_type(where, "output_prefix", prefix, str, remedy)
    if Token.is_unresolved(prefix):
        raise invalid(where, "output_prefix", "must be known at synthesis", prefix, remedy)
    if not prefix:
        raise invalid(where, "output_prefix", "must not be empty", prefix, remedy)
    match counts.counts_under(prefix):
        case "always":
            raise invalid(where, "output_prefix", "must not overlap with what starts the job", prefix, remedy)
        case "perhaps":
            Annotations.of(where).add_warning_v2(
                _WARNING,
                f"Some objects under output_prefix ({prefix!r}) look like those that start the job. Nothing under it "
                "starts the job, whoever wrote it. Pass prefixes that exclude it.",
            )
    return prefix


def warn_if_role_may_write(
    where: Construct, bucket: s3.IBucket, counts: ObjectFilter, roles: Sequence[iam.IRole]
) -> None:
    """At synthesis, warns if a policy of this app allows one of `roles` to write objects that start the job.

    It sees the policies in the stack of the role, those under it, and AWS's own that allow to write to all buckets.
    Conditions and denials are not looked at: a warning can be acknowledged.
    """
    where.node.add_validation(_NoRoleMayWrite(where, bucket, counts, roles))


@jsii.implements(IValidation)
class _NoRoleMayWrite:
    """Warns when all policies are complete, which is when constructs are validated."""

    def __init__(self, where: Construct, bucket: s3.IBucket, counts: ObjectFilter, roles: Sequence[iam.IRole]) -> None:
        self._where = where
        self._bucket = bucket
        self._counts = counts
        self._roles = roles

    def validate(self) -> list[str]:
        """No problems: a warning does not fail the synthesis."""
        for role in self._roles:
            if resource := next(self._writable(role), None):
                Annotations.of(self._where).add_warning_v2(
                    _WARNING,
                    f"The role of the job, {role.node.path}, may write objects that start the job ({_PUT} on "
                    f"{resource}): output among them would start it again without end. Pass output_prefix (and "
                    "output_bucket) to say where it writes to, or narrow its policy.",
                )
        return []

    def _writable(self, role: iam.IRole) -> Iterator[str]:
        for stack, policy in _policies(role):
            if isinstance(policy, str):
                if policy.endswith(_WRITING):
                    yield policy
                continue
            keys = self._objects(stack)
            for statement in _as_list(policy.get("Statement")):
                if statement.get("Effect") != "Allow" or not _allows_put(statement):
                    continue
                # What is not excluded is not known to be excluded.
                resources = _as_list(statement.get("Resource", "*"))
                for resource in (_plain(stack, one) for one in resources):
                    if any(have_common_text(_pattern(resource), key) for key in keys):
                        yield resource

    def _objects(self, stack: Stack) -> list[Wildcard]:
        """The ARNs of the objects that count, as a policy in `stack` would name them."""
        arn = _plain(stack, self._bucket.bucket_arn)
        # A wildcard for all buckets means also one whose name only the deployment tells.
        buckets = [arn, f"arn:aws:s3:::{_known_name(self._bucket) or arn}"]
        return [(*bucket, "/", *key) for bucket in buckets for key in self._counts.keys]


def _policies(role: iam.IRole) -> Iterator[tuple[Stack, Mapping[str, Any] | str]]:
    """The documents of what is attached to a role, and the ARNs of what others wrote."""
    stack = Stack.of(role)
    name = stack.resolve(role.role_name)
    for construct in stack.node.find_all():
        if isinstance(construct, iam.CfnPolicy | iam.CfnManagedPolicy):
            below = construct.node.path.startswith(f"{role.node.path}/")
            if below or name in _as_list(stack.resolve(construct.roles)):
                yield stack, stack.resolve(construct.policy_document)
        elif isinstance(construct, iam.CfnRole) and construct.node.path.startswith(f"{role.node.path}/"):
            for inline in _as_list(stack.resolve(construct.policies)):
                yield stack, inline.get("policyDocument") or inline.get("PolicyDocument")
            for arn in _as_list(stack.resolve(construct.managed_policy_arns)):
                yield stack, as_in_findings(stack, arn)


def _allows_put(statement: Mapping[str, Any]) -> bool:
    if "NotAction" in statement:
        return not any(_covers_put(action) for action in _as_list(statement["NotAction"]))
    return any(_covers_put(action) for action in _as_list(statement.get("Action")))


def _covers_put(action: str) -> bool:
    return have_common_text(_pattern(action.lower()), tuple(_PUT.lower()))


def _pattern(text: str) -> Wildcard:
    # A ? is one character: taken for any, a warning may be one too many.
    return tuple(ANY if character in "*?" else character for character in text)


def _plain(stack: Stack, arn: Any) -> str:
    return re.sub(r"^arn:[^:]+:", "arn:aws:", as_in_findings(stack, arn))


def _known_name(bucket: s3.IBucket) -> str | None:
    resource = bucket.node.default_child
    names = [bucket.bucket_name, *([resource.bucket_name] if isinstance(resource, s3.CfnBucket) else [])]
    return next((name for name in names if name is not None and not Token.is_unresolved(name)), None)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
