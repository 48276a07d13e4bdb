"""The nightly report in plain CDK: the same resources and the same states, written by hand for this one job.

It says each thing once and directly, and checks nothing: what someone would write who knows beforehand what the
library makes of the defaults.
"""

from pathlib import Path
from typing import Any

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

HANDLERS = Path(__file__).parent.parent / "lambda_src"


def add_nightly_report(
    stack: Stack, cluster: ecs.Cluster, task_definition: ecs.FargateTaskDefinition, task_log: logs.LogGroup
) -> None:
    dead_letters = dead_letter_queue(stack, "DeadLetters")
    function, function_role = alert_function(stack)

    security_group = ec2.SecurityGroup(
        stack, "SecurityGroup", vpc=cluster.vpc, description="Fargate task of the nightly report"
    )
    state_machine = sfn.StateMachine(
        stack,
        "StateMachine",
        definition_body=sfn.DefinitionBody.from_chainable(
            run_task(
                stack,
                cluster,
                task_definition,
                security_group,
                on_failure=tell_of_failure(stack, function, dead_letters, cluster, task_log),
            )
        ),
        query_language=sfn.QueryLanguage.JSON_PATH,
        # Four runs of an hour, all pauses, and a quarter of an hour for the alert.
        timeout=Duration.seconds(18485),
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
    topic, key = alert_topic(stack)
    log_group = logs.LogGroup(
        stack, "FunctionLog", retention=logs.RetentionDays.THREE_MONTHS, removal_policy=RemovalPolicy.DESTROY
    )
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
    function.add_to_role_policy(
        iam.PolicyStatement(actions=["kms:Decrypt", "kms:GenerateDataKey"], resources=[key.key_arn])
    )
    alarm(stack, "Failing", function.metric_errors())
    return function, role


def alert_topic(stack: Stack) -> tuple[sns.Topic, kms.Key]:
    key = kms.Key(
        stack,
        "Key",
        description="Alerts of the nightly report",
        enable_key_rotation=True,
        removal_policy=RemovalPolicy.DESTROY,
    )
    key.add_to_resource_policy(
        iam.PolicyStatement(
            actions=["kms:Decrypt", "kms:GenerateDataKey*"],
            principals=[
                iam.ServicePrincipal("cloudwatch.amazonaws.com"),
                iam.ServicePrincipal("events.amazonaws.com"),
            ],
            resources=["*"],
        )
    )
    topic = sns.Topic(stack, "Topic", enforce_ssl=True, master_key=key)
    topic.add_to_resource_policy(
        iam.PolicyStatement(
            actions=["sns:Publish"],
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            resources=[topic.topic_arn],
            conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
        )
    )
    return topic, key


def run_task(
    stack: Stack,
    cluster: ecs.Cluster,
    task_definition: ecs.FargateTaskDefinition,
    security_group: ec2.SecurityGroup,
    *,
    on_failure: sfn.IChainable,
) -> sfn.CustomState:
    run = sfn.CustomState(
        stack,
        "Run task",
        state_json={
            "Type": "Task",
            "Resource": f"arn:{Aws.PARTITION}:states:::ecs:runTask.sync",
            "Parameters": {
                "Cluster": cluster.cluster_arn,
                "TaskDefinition": task_definition.task_definition_arn,
                "LaunchType": "FARGATE",
                "PlatformVersion": "LATEST",
                "NetworkConfiguration": {
                    "AwsvpcConfiguration": {
                        "Subnets": cluster.vpc.select_subnets(
                            subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS
                        ).subnet_ids,
                        "SecurityGroups": [security_group.security_group_id],
                        "AssignPublicIp": "DISABLED",
                    }
                },
                "EnableECSManagedTags": True,
                "PropagateTags": "TASK_DEFINITION",
            },
            "ResultPath": "$.result",
            "TimeoutSeconds": 3600,
        },
    )
    why = sfn.Choice(stack, "Why did it fail?")
    run.add_catch(why, errors=["States.ALL"], result_path="$.error")

    no_cause = sfn.Pass(
        stack, "No cause given", result=sfn.Result.from_string("AWS gave no cause."), result_path="$.error.Cause"
    )
    why.when(sfn.Condition.is_not_present("$.error.Cause"), no_cause.next(why))
    start_counting = sfn.Pass(
        stack,
        "Start counting",
        result=sfn.Result.from_object({"throttled": 0, "noCapacity": 0, "neverStarted": 0, "pause": 0}),
        result_path="$.launch",
    )
    why.when(sfn.Condition.is_not_present("$.launch"), start_counting.next(why))

    wait = sfn.Wait(stack, "Wait before relaunch", time=sfn.WaitTime.seconds_path("$.launch.pause"))
    wait.next(run)
    no_capacity = lacks_capacity()
    for counter, state, condition, pauses in (
        ("throttled", "Throttled", is_throttled(no_capacity), [5, 10, 20, 40, 80, 120, 120, 120]),
        ("noCapacity", "No capacity", no_capacity, [15, 30, 60, 120, 240] + 7 * [300]),
        ("neverStarted", "Never started", has_never_started(no_capacity), [15, 30, 60]),
    ):
        ceilings = ", ".join(map(str, pauses))
        count = sfn.Pass(
            stack,
            state,
            parameters={
                "throttled.$": "$.launch.throttled",
                "noCapacity.$": "$.launch.noCapacity",
                "neverStarted.$": "$.launch.neverStarted",
                f"{counter}.$": f"States.MathAdd($.launch.{counter}, 1)",
                "pause.$": "States.MathRandom(0, States.MathAdd("
                f"States.ArrayGetItem(States.Array({ceilings}), $.launch.{counter}), 1))",
            },
            result_path="$.launch",
        )
        budget_left = sfn.Condition.number_less_than(f"$.launch.{counter}", len(pauses))
        why.when(sfn.Condition.and_(condition, budget_left), count.next(wait))
    why.otherwise(on_failure)
    return run


def lacks_capacity() -> sfn.Condition:
    return sfn.Condition.or_(
        error_is("AmazonECS.Unknown"),
        sfn.Condition.and_(
            error_is("ECS.*"),
            cause_has("Capacity is unavailable", "RESOURCE:", "reached the limit on the number of"),
        ),
        sfn.Condition.and_(
            task_failed(),
            failed_to_start(),
            cause_has(
                '"StoppedReason":"Capacity is unavailable',
                '"StoppedReason":"RESOURCE:',
                '"StoppedReason":"reached the limit on the number of',
            ),
        ),
    )


def is_throttled(no_capacity: sfn.Condition) -> sfn.Condition:
    return sfn.Condition.and_(
        sfn.Condition.not_(no_capacity),
        sfn.Condition.or_(
            sfn.Condition.or_(error_is("ECS.ServerException"), error_is("ECS.SdkClientException")),
            sfn.Condition.and_(
                error_is("ECS.*"),
                cause_has("Rate exceeded", "Throttling", "Request limit exceeded", "RequestLimitExceeded"),
            ),
            sfn.Condition.and_(
                error_is("ECS.AmazonECSException"),
                sfn.Condition.not_(
                    cause_has("AccessDenied", "not authorized", "InvalidParameter", "ClientException", "NotFound")
                ),
            ),
        ),
    )


def has_never_started(no_capacity: sfn.Condition) -> sfn.Condition:
    return sfn.Condition.and_(
        task_failed(),
        sfn.Condition.not_(no_capacity),
        sfn.Condition.or_(
            failed_to_start(),
            sfn.Condition.and_(
                sfn.Condition.not_(sfn.Condition.string_matches("$.error.Cause", '*"StopCode"*')),
                sfn.Condition.not_(sfn.Condition.string_matches("$.error.Cause", '*"ExitCode"*')),
                cause_has(
                    "CannotPull",
                    "ResourceInitializationError",
                    "CannotStartContainerError",
                    "CannotCreateVolumeError",
                    "ContainerRuntimeTimeoutError",
                    "Timeout waiting for network interface",
                ),
            ),
        ),
    )


def task_failed() -> sfn.Condition:
    return sfn.Condition.string_equals("$.error.Error", "States.TaskFailed")


def failed_to_start() -> sfn.Condition:
    return cause_has('"StopCode":"TaskFailedToStart"', '"StopCode": "TaskFailedToStart"')


def error_is(pattern: str) -> sfn.Condition:
    return sfn.Condition.string_matches("$.error.Error", pattern)


def cause_has(*texts: str) -> sfn.Condition:
    return sfn.Condition.or_(*(sfn.Condition.string_matches("$.error.Cause", f"*{text}*") for text in texts))


def tell_of_failure(
    stack: Stack, function: lambda_.Function, dead_letters: sqs.Queue, cluster: ecs.Cluster, task_log: logs.LogGroup
) -> sfn.CustomState:
    failed = sfn.Fail(stack, "Failed", error_path="$.error.Error", cause_path="$.error.Cause")
    message = {
        "Response.$": "$",
        "Execution": {
            "Execution.$": "$$.Execution",
            "State.$": "$$.State",
            "StateMachine.$": "$$.StateMachine",
        },
    }
    tell = sfn.CustomState(
        stack,
        "Tell of the failure",
        state_json={
            "Type": "Task",
            "Resource": f"arn:{Aws.PARTITION}:states:::lambda:invoke",
            "Parameters": {
                "FunctionName": function.function_arn,
                "Payload": {**message, "Job": job_description(cluster, task_log)},
            },
            "ResultPath": sfn.JsonPath.DISCARD,
        },
    )
    keep = sfn.CustomState(
        stack,
        "Keep what was not told of the failure",
        state_json={
            "Type": "Task",
            "Resource": f"arn:{Aws.PARTITION}:states:::sqs:sendMessage",
            "Parameters": {"QueueUrl": dead_letters.queue_url, "MessageBody": message},
            "ResultPath": sfn.JsonPath.DISCARD,
        },
    )
    for state, on_error in ((tell, keep), (keep, failed)):
        state.add_retry(
            errors=["States.ALL"],
            interval=Duration.seconds(2),
            max_attempts=4,
            backoff_rate=2,
            max_delay=Duration.minutes(1),
            jitter_strategy=sfn.JitterType.FULL,
        )
        state.add_catch(on_error, errors=["States.ALL"], result_path=sfn.JsonPath.DISCARD)
        state.next(failed)
    return tell


def job_description(cluster: ecs.Cluster, task_log: logs.LogGroup) -> dict[str, Any]:
    return {
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
    }


def tell_of_unseen_endings(
    stack: Stack,
    state_machine: sfn.StateMachine,
    function: lambda_.Function,
    dead_letters: sqs.Queue,
    cluster: ecs.Cluster,
    task_log: logs.LogGroup,
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
                        "Job": job_description(cluster, task_log),
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
