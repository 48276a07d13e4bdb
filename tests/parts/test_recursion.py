"""A job whose output would start it again: refused, warned of, or left alone."""

from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3

from constructs_lib.parts.recursion import is_same_bucket
from tests.parts.test_launch_quota import warnings
from tests.pipelines import chain, fargate_job, function, pipeline
from tests.scheduled import template_of
from tests.templates import resources

ABOUT = "constructs-lib:recursion"


def told(stack: cdk.Stack) -> list[str]:
    return warnings(stack, ABOUT)


# --- the same bucket --------------------------------------------------------------------------------------


def test_a_bucket_is_recognised_by_what_is_known_of_it(app: cdk.App) -> None:
    stack, other = cdk.Stack(app, "Stack"), cdk.Stack(app, "Other")
    named, unnamed = s3.Bucket(stack, "Named", bucket_name="data"), s3.Bucket(stack, "Unnamed")
    same_id = s3.Bucket(other, "Unnamed")
    imported = s3.Bucket.from_bucket_name(stack, "Imported", "data")
    by_arn = s3.Bucket.from_bucket_arn(other, "ByArn", "arn:aws:s3:::data")
    parameter = cdk.CfnParameter(stack, "Name").value_as_string
    one, again = (s3.Bucket.from_bucket_name(stack, id_, parameter) for id_ in ("One", "Again"))
    for first, second in ((named, named), (named, imported), (imported, by_arn), (unnamed, unnamed), (one, again)):
        assert is_same_bucket(first, second)
    for first, second in ((named, unnamed), (unnamed, same_id), (unnamed, imported), (one, imported)):
        assert not is_same_bucket(first, second)


# --- declared output --------------------------------------------------------------------------------------


def ignored(stack: cdk.Stack) -> str:
    [prefixes] = [
        one["Environment"]["Variables"]["IGNORED_PREFIXES"]
        for one in resources(template_of(stack), "AWS::Lambda::Function").values()
        if one["Handler"] == "pipeline.starter.handle"
    ]
    return str(prefixes)


def test_output_beside_the_input_is_ignored_at_run_time_as_well(stack: cdk.Stack) -> None:
    pipeline(stack, prefixes=["in/"], output_prefix="out/")
    assert ignored(stack) == '["out/"]'
    assert told(stack) == []


def test_output_that_may_look_like_input_is_warned_of_and_ignored(stack: cdk.Stack) -> None:
    pipeline(stack, suffixes=[".csv"], output_prefix="out/")
    assert told(stack) == [
        "Some objects under output_prefix ('out/') look like those that start the job. Nothing under it starts the "
        "job, whoever wrote it. Pass prefixes that exclude it."
    ]
    assert ignored(stack) == '["out/"]'


def test_output_to_another_bucket_may_have_any_name(stack: cdk.Stack) -> None:
    pipeline(stack, output_bucket=s3.Bucket(stack, "Results"), output_prefix="in/", prefixes=["in/"])
    assert ignored(stack) == "[]"
    assert told(stack) == []


# --- unknown output ---------------------------------------------------------------------------------------

Grant = Callable[[cdk.Stack, s3.Bucket, iam.Role], object]


def statement(actions: list[str], resources: list[str], **more: Any) -> iam.PolicyStatement:
    return iam.PolicyStatement(actions=actions, resources=resources, **more)


def managed(name: str) -> Grant:
    return lambda stack, bucket, role: role.add_managed_policy(iam.ManagedPolicy.from_aws_managed_policy_name(name))


def add(actions: list[str], resource: Callable[[s3.Bucket], str]) -> Grant:
    return lambda stack, bucket, role: role.add_to_policy(statement(actions, [resource(bucket)]))


MAY_WRITE: dict[str, Grant] = {
    "a grant of the bucket": lambda stack, bucket, role: bucket.grant_read_write(role),
    "a grant for the prefix": lambda stack, bucket, role: bucket.grant_put(role, "in/*"),
    "a grant for a part of it": lambda stack, bucket, role: bucket.grant_put(role, "in/done/*"),
    "all actions": add(["*"], lambda bucket: "*"),
    "all actions of S3": add(["s3:*"], lambda bucket: bucket.arn_for_objects("*")),
    "a wildcard for the action": add(["s3:Put*"], lambda bucket: "arn:aws:s3:::*"),
    "in small letters": add(["s3:putobject"], lambda bucket: bucket.arn_for_objects("i*")),
    "all but others": lambda stack, bucket, role: role.add_to_policy(
        iam.PolicyStatement(not_actions=["iam:*"], resources=["*"])
    ),
    "a policy beside the role": lambda stack, bucket, role: iam.Policy(
        stack, "Beside", roles=[role], statements=[statement(["s3:PutObject"], [bucket.arn_for_objects("*")])]
    ),
    "a managed policy beside the role": lambda stack, bucket, role: iam.ManagedPolicy(
        stack, "Beside", roles=[role], statements=[statement(["s3:PutObject"], [bucket.arn_for_objects("*")])]
    ),
    "AWS's own for S3": managed("AmazonS3FullAccess"),
    "AWS's own for all": managed("AdministratorAccess"),
}
MAY_NOT: dict[str, Grant] = {
    "nothing": lambda stack, bucket, role: None,
    "reading": lambda stack, bucket, role: bucket.grant_read(role),
    "another prefix": lambda stack, bucket, role: bucket.grant_put(role, "out/*"),
    "another bucket": lambda stack, bucket, role: s3.Bucket(stack, "Results").grant_read_write(role),
    "another role": lambda stack, bucket, role: bucket.grant_put(
        iam.Role(stack, "Else", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    ),
    "a denial": lambda stack, bucket, role: role.add_to_policy(
        statement(["s3:PutObject"], [bucket.arn_for_objects("*")], effect=iam.Effect.DENY)
    ),
    "all but S3": lambda stack, bucket, role: role.add_to_policy(
        iam.PolicyStatement(not_actions=["s3:*"], resources=["*"])
    ),
    "AWS's own for reading": managed("AmazonS3ReadOnlyAccess"),
}


def with_role(stack: cdk.Stack, grant: Grant, **options: Any) -> None:
    bucket = s3.Bucket(stack, "Incoming")
    role = iam.Role(stack, "Job", assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"))
    job = fargate_job(stack, task_role=role)
    pipeline(stack, bucket=bucket, job=job, prefixes=["in/"], **options)
    # After the pipeline: what is granted later counts as well.
    grant(stack, bucket, role)


@pytest.mark.parametrize("how", MAY_WRITE)
def test_a_role_that_may_write_where_the_job_is_started_from_is_warned_of(how: str, stack: cdk.Stack) -> None:
    with_role(stack, MAY_WRITE[how])
    [warning] = told(stack)
    assert warning.startswith(
        "The role of the job, Stack/Job, may write objects that start the job (s3:PutObject on "
    ), warning
    assert warning.endswith("or narrow its policy.")


@pytest.mark.parametrize("how", MAY_NOT)
def test_a_role_that_may_not_is_not(how: str, stack: cdk.Stack) -> None:
    with_role(stack, MAY_NOT[how])
    assert told(stack) == []


def test_where_the_output_is_declared_the_role_is_not_looked_at(stack: cdk.Stack) -> None:
    with_role(stack, MAY_WRITE["a grant of the bucket"], output_prefix="out/")
    assert told(stack) == []


def test_the_role_of_a_task_definition_is_looked_at(stack: cdk.Stack) -> None:
    bucket, job = s3.Bucket(stack, "Incoming"), fargate_job(stack)
    pipeline(stack, bucket=bucket, job=job)
    bucket.grant_put(job.task_definition.task_role)
    assert len(told(stack)) == 1


def test_the_role_of_a_function_is_looked_at_also_behind_its_alias(stack: cdk.Stack) -> None:
    bucket, work = s3.Bucket(stack, "Incoming"), function(stack)
    alias = lambda_.Alias(stack, "Live", alias_name="live", version=work.current_version)
    pipeline(stack, bucket=bucket, job=alias)
    bucket.grant_put(work)
    assert len(told(stack)) == 1


def test_an_inline_policy_of_the_role_is_looked_at(stack: cdk.Stack) -> None:
    bucket = s3.Bucket(stack, "Incoming")
    document = iam.PolicyDocument(statements=[statement(["s3:PutObject"], [bucket.arn_for_objects("*")])])
    role = iam.Role(
        stack,
        "Job",
        assumed_by=iam.ServicePrincipal("ecs-tasks.amazonaws.com"),
        inline_policies={"Write": document},
    )
    pipeline(stack, bucket=bucket, job=fargate_job(stack, task_role=role))
    assert len(told(stack)) == 1


def test_the_bucket_may_be_in_another_stack_and_named_otherwise(app: cdk.App) -> None:
    storage, work = cdk.Stack(app, "Storage"), cdk.Stack(app, "Work")
    bucket = s3.Bucket(storage, "Incoming", bucket_name="data")
    job = fargate_job(work)
    pipeline(work, bucket=bucket, job=job)
    by_reference, by_name = fargate_role(work, "ByReference"), fargate_role(work, "ByName")
    pipeline(work, "Second", bucket=bucket, job=function(work, "One", role=by_reference))
    pipeline(work, "Third", bucket=bucket, job=function(work, "Two", role=by_name))
    by_reference.add_to_policy(statement(["s3:PutObject"], [bucket.arn_for_objects("*")]))
    by_name.add_to_policy(statement(["s3:PutObject"], ["arn:aws:s3:::data/*"]))
    assert len(told(work)) == 2


def fargate_role(stack: cdk.Stack, id_: str) -> iam.Role:
    return iam.Role(stack, id_, assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))


def test_of_a_chain_nobody_knows(stack: cdk.Stack) -> None:
    pipeline(stack, bucket=s3.Bucket(stack, "Incoming"), job=chain(stack))
    assert told(stack) == []


def test_a_warning_does_not_fail_the_synthesis(stack: cdk.Stack, app: cdk.App) -> None:
    with_role(stack, MAY_WRITE["all actions"])
    app.synth()
