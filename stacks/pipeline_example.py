"""Compresses each new object of a bucket, five at a time: a pipeline that is fit for use."""

from pathlib import Path

from aws_cdk import Acknowledgment, CfnOutput, RemovalPolicy, Stack, Validations
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct, IConstruct

from constructs_lib import AlertFunction, FargateJob, S3TriggeredThrottledPipeline
from stacks.cluster import make_cluster

_JOB = Path(__file__).parent / "sample_job" / "compress.py"

IMAGE = "public.ecr.aws/lambda/python:3.13"
"""A public image that has boto3."""


class PipelineExample(Stack):
    """Runs the sample job for each new object.

    Args:
        scope: The app.
        id_: The stack's id.
        image: The image of the task; it has Python with boto3.
    """

    def __init__(self, scope: Construct, id_: str, *, image: str = IMAGE) -> None:
        super().__init__(scope, id_)
        # Two of them: what the job writes can never start it again.
        incoming, compressed = self._make_bucket("Incoming"), self._make_bucket("Compressed")
        alert = AlertFunction(self, "SharedAlert")
        compression = S3TriggeredThrottledPipeline(
            self,
            "Compression",
            bucket=incoming,
            job=FargateJob(
                cluster=make_cluster(self),
                task_definition=self._make_task_definition(image, reads=incoming, writes=compressed),
                # Which object to read, the pipeline adds to this.
                environment={"OUTPUT_BUCKET": compressed.bucket_name},
                assign_public_ip=True,
            ),
            max_concurrency=5,
            output_bucket=compressed,
            failure_handlers=[alert],
        )
        _explain(
            self.node.find_child("BucketNotificationsHandler050a0587b7544547bf325f094a3db834"),
            "AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole]",
            "It is of the function with which the CDK sets the bucket's notifications.",
        )
        for name, value in {
            "IncomingBucketName": incoming.bucket_name,
            "CompressedBucketName": compressed.bucket_name,
            "StateMachineArn": compression.state_machine.state_machine_arn,
            "BackfillArn": compression.backfill.state_machine.state_machine_arn,
            "BufferUrl": compression.queue.queue_url,
            # To be invoked with {"action": "status"}, "pause" or "resume", or with another limit.
            "QuotaFunctionName": compression.semaphore.function.function_name,
            "AlertTopicArn": alert.topic.topic_arn,
        }.items():
            CfnOutput(self, name, value=value)

    def _make_bucket(self, id_: str) -> s3.Bucket:
        # CDK's default: it stays, with what is in it, when the stack is removed.
        bucket = s3.Bucket(self, id_, encryption=s3.BucketEncryption.S3_MANAGED, enforce_ssl=True)
        _explain(bucket, "AwsSolutions-S1", "What is read and written here, the executions of the job tell.")
        return bucket

    def _make_task_definition(self, image: str, *, reads: s3.IBucket, writes: s3.IBucket) -> ecs.FargateTaskDefinition:
        task_definition = ecs.FargateTaskDefinition(self, "Task", cpu=256, memory_limit_mib=512)
        log_group = logs.LogGroup(
            self, "TaskLog", retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY
        )
        task_definition.add_container(
            "Compress",
            image=ecs.ContainerImage.from_registry(image),
            # The whole job travels in the definition: nothing to build, nothing to push.
            entry_point=["python", "-c", _JOB.read_text()],
            logging=ecs.LogDriver.aws_logs(stream_prefix="compress", log_group=log_group),
        )
        for action, bucket in {"s3:GetObject": reads, "s3:PutObject": writes}.items():
            task_definition.add_to_task_role_policy(
                iam.PolicyStatement(actions=[action], resources=[bucket.arn_for_objects("*")])
            )
            finding = f"AwsSolutions-IAM5[Resource::<{'.'.join(self.resolve(bucket.bucket_arn)['Fn::GetAtt'])}>/*]"
            _explain(task_definition.task_role, finding, "Which objects will come, nobody knows before.")
        return task_definition


def _explain(construct: IConstruct, finding: str, reason: str) -> None:
    """Says why a finding of cdk-nag is right as it is."""
    Validations.of(construct).acknowledge(Acknowledgment(id=finding, reason=reason))
