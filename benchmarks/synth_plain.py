"""The nightly report in plain CDK: the same resources, written by hand as briefly as they can be.

The state machine comes ready from a file. Nobody could make it with fewer calls to the kernel, so this is the
fastest thing that the library can be compared with.
"""

from pathlib import Path

from aws_cdk import Aws, Duration, RemovalPolicy, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_stepfunctions as sfn

DEFINITION = Path(__file__).with_suffix(".asl.json")
HANDLERS = Path(__file__).parent.parent / "lambda_src"


def add_nightly_report(
    stack: Stack, cluster: ecs.Cluster, task_definition: ecs.FargateTaskDefinition, task_log: logs.LogGroup
) -> None:
    dead_letters = dead_letter_queue(stack, "DeadLetters")
    function, function_role = alert_function(stack)

    security_group = ec2.SecurityGroup(
        stack, "SecurityGroup", vpc=cluster.vpc, description="Fargate task of the nightly report"
    )
    subnets = cluster.vpc.select_subnets(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS).subnet_ids
    state_machine = sfn.StateMachine(
        stack,
        "StateMachine",
        definition_body=sfn.DefinitionBody.from_string(DEFINITION.read_text()),
        definition_substitutions={
            "Partition": Aws.PARTITION,
            "ClusterArn": cluster.cluster_arn,
            "Cluster": cluster.cluster_name,
            "TaskDefinition": task_definition.task_definition_arn,
            "Subnet1": subnets[0],
            "Subnet2": subnets[1],
            "SecurityGroup": security_group.security_group_id,
            "Function": function.function_arn,
            "Queue": dead_letters.queue_url,
            "LogGroup": task_log.log_group_name,
        },
        logs=sfn.LogOptions(
            destination=logs.LogGroup(
                stack,
                "Log",
                log_group_name=f"/aws/vendedlogs/states/{Aws.STACK_NAME}/nightly-report",
                retention=logs.RetentionDays.THREE_MONTHS,
                removal_policy=RemovalPolicy.DESTROY,
            ),
            level=sfn.LogLevel.ALL,
            include_execution_data=True,
        ),
        tracing_enabled=True,
    )
    for statement in (
        iam.PolicyStatement(
            actions=["ecs:RunTask"],
            resources=[task_definition.task_definition_arn],
            conditions={"ArnEquals": {"ecs:cluster": cluster.cluster_arn}},
        ),
        iam.PolicyStatement(
            actions=["ecs:StopTask", "ecs:DescribeTasks"],
            resources=[stack.format_arn(service="ecs", resource="task", resource_name="*")],
            conditions={"ArnEquals": {"ecs:cluster": cluster.cluster_arn}},
        ),
        iam.PolicyStatement(
            actions=["ecs:TagResource"],
            resources=[stack.format_arn(service="ecs", resource="task", resource_name="*")],
            conditions={"StringEquals": {"ecs:CreateAction": "RunTask"}},
        ),
        iam.PolicyStatement(
            actions=["iam:PassRole"],
            resources=[task_definition.task_role.role_arn, task_definition.obtain_execution_role().role_arn],
            conditions={"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
        ),
        iam.PolicyStatement(
            actions=["events:PutTargets", "events:PutRule", "events:DescribeRule"],
            resources=[
                stack.format_arn(
                    service="events", resource="rule", resource_name="StepFunctionsGetEventsForECSTaskRule"
                )
            ],
        ),
        iam.PolicyStatement(actions=["lambda:InvokeFunction"], resources=[function.function_arn]),
    ):
        state_machine.add_to_role_policy(statement)
    dead_letters.grant_send_messages(state_machine)
    iam.Policy(
        stack,
        "ReadLog",
        roles=[function_role],
        statements=[iam.PolicyStatement(actions=["logs:GetLogEvents"], resources=[task_log.log_group_arn])],
    )

    tell_of_unseen_endings(stack, state_machine, function, dead_letters, cluster, task_log)
    for name, metric in {
        "Failed": state_machine.metric_failed(),
        "TimedOut": state_machine.metric_timed_out(),
        "Aborted": state_machine.metric_aborted(),
        "Throttled": state_machine.metric_throttled(),
    }.items():
        alarm(stack, name, metric)
    events.Rule(
        stack,
        "Schedule",
        schedule=events.Schedule.cron(minute="0", hour="3"),
        targets=[
            targets.SfnStateMachine(
                state_machine,
                input=events.RuleTargetInput.from_object({}),
                dead_letter_queue=dead_letters,
                retry_attempts=185,
                max_event_age=Duration.hours(1),
            )
        ],
    )


def alert_function(stack: Stack) -> tuple[lambda_.Function, iam.Role]:
    topic = sns.Topic(
        stack, "Topic", enforce_ssl=True, master_key=kms.Alias.from_alias_name(stack, "Key", "alias/aws/sns")
    )
    log_group = logs.LogGroup(stack, "FunctionLog", retention=logs.RetentionDays.THREE_MONTHS)
    role = iam.Role(stack, "FunctionRole", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
    log_group.grant_write(role)
    function = lambda_.Function(
        stack,
        "Function",
        runtime=lambda_.Runtime.PYTHON_3_14,
        architecture=lambda_.Architecture.ARM_64,
        handler="alert.handler.handle",
        code=lambda_.Code.from_asset(str(HANDLERS), exclude=["**/__pycache__", "**/*.pyc"]),
        environment={"ALERT_TOPIC_ARN": topic.topic_arn},
        role=role,
        log_group=log_group,
        logging_format=lambda_.LoggingFormat.JSON,
        timeout=Duration.seconds(30),
        memory_size=256,
        dead_letter_queue=dead_letter_queue(stack, "FunctionDeadLetters"),
        description="Alerts of the nightly report",
    )
    function.add_to_role_policy(iam.PolicyStatement(actions=["sns:Publish"], resources=[topic.topic_arn]))
    alarm(stack, "Failing", function.metric_errors())
    return function, role


def tell_of_unseen_endings(
    stack: Stack,
    state_machine: sfn.StateMachine,
    function: lambda_.Function,
    dead_letters: sqs.Queue,
    cluster: ecs.Cluster,
    task_log: logs.ILogGroup,
) -> None:
    events.Rule(
        stack,
        "UnseenEndings",
        description="Endings that the state machine cannot see",
        event_pattern=events.EventPattern(
            source=["aws.states"],
            detail_type=["Step Functions Execution Status Change"],
            detail={
                "stateMachineArn": [state_machine.state_machine_arn],
                "$or": [
                    {"status": ["TIMED_OUT", "ABORTED"]},
                    {"status": ["FAILED"], "error": ["States.Runtime", "States.DataLimitExceeded", {"exists": False}]},
                ],
            },
        ),
        targets=[
            targets.LambdaFunction(
                function,
                dead_letter_queue=dead_letters,
                event=events.RuleTargetInput.from_object(
                    {
                        "Response": {"StatusChange": events.EventField.from_path("$.detail")},
                        "Execution": {
                            "Execution": {
                                "Id": events.EventField.from_path("$.detail.executionArn"),
                                "Name": events.EventField.from_path("$.detail.name"),
                                "StartTime": events.EventField.from_path("$.detail.startDate"),
                            },
                            "StateMachine": {"Id": events.EventField.from_path("$.detail.stateMachineArn")},
                        },
                        "Job": {
                            "name": "Stack/Nightly",
                            "kind": "fargate",
                            "cluster": cluster.cluster_name,
                            "containers": [
                                {
                                    "name": "report",
                                    "essential": True,
                                    "logGroup": task_log.log_group_name,
                                    "logStreamPrefix": "nightly",
                                }
                            ],
                        },
                    }
                ),
            )
        ],
    )


def dead_letter_queue(stack: Stack, id_: str) -> sqs.Queue:
    queue = sqs.Queue(
        stack,
        id_,
        encryption=sqs.QueueEncryption.SQS_MANAGED,
        enforce_ssl=True,
        retention_period=Duration.days(14),
    )
    waiting = queue.metric_approximate_number_of_messages_visible(period=Duration.minutes(1), statistic="Maximum")
    alarm(stack, f"{id_}Waiting", waiting)
    return queue


def alarm(stack: Stack, id_: str, metric: cloudwatch.Metric) -> None:
    metric.create_alarm(
        stack,
        f"{id_}Alarm",
        alarm_description=f"The nightly report: {id_}",
        threshold=1,
        evaluation_periods=1,
        comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
    )
