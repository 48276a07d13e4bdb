"""Orders and reports that need an unreliable neighbour: what fails is kept, what is new is held, and all gets done."""

from aws_cdk import Acknowledgment, CfnOutput, Duration, RemovalPolicy, Stack, Validations
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks
from constructs import Construct

from constructs_lib import ErrorSpool, ErrorSpoolReprocessor, Hold, Semaphore
from stacks.neighbour import Neighbour


class SpoolExample(Stack):
    """Two state machines of the user's own, which do a step and then call the neighbour, and what looks after them.

    Args:
        scope: The app.
        id_: The stack's id.
    """

    def __init__(self, scope: Construct, id_: str) -> None:
        super().__init__(scope, id_)
        self._neighbour = Neighbour(self, "Neighbour")

        # No more than two orders at the neighbour, and none while it is down: they wait, and that costs nothing.
        # (An example is to leave nothing behind. Where work depends on it, keep the default.)
        capacity = Semaphore(self, "Capacity", limit=2, removal_policy=RemovalPolicy.DESTROY)
        call = capacity.guard(self, "Permit", self._call("Book the order"))
        orders = self._make_machine("Orders", self._prepare("Take the order").next(call))
        capacity.connect(orders)
        # To make a report takes hours, to send it does not: nobody would like to make it twice.
        reports = self._make_machine("Reports", self._prepare("Make the report").next(self._call("Send the report")))

        spool = ErrorSpool(self, "Spool", key="$.name", removal_policy=RemovalPolicy.DESTROY)
        spool.attach(orders)
        spool.attach(reports)
        hold = Hold(self, "Hold", semaphore=capacity, failures_in_a_row=5, probe_every=Duration.minutes(1))
        again = ErrorSpoolReprocessor(
            self,
            "Again",
            spool=spool,
            targets=[orders, reports],
            # Reports go on where they failed. Orders begin anew: their guard catches what fails, to free the permit.
            mode="redrive",
            starts_per_second=5,
            hold=hold,
        )
        # With the buttons, and the runbook.
        cloudwatch.Dashboard(self, "Operations").add_widgets(*again.dashboard_widgets())

        assert hold.breaker is not None
        for name, value in {
            "OrdersArn": orders.state_machine_arn,
            "ReportsArn": reports.state_machine_arn,
            "MoodName": self._neighbour.mood.parameter_name,
            "BookingsName": self._neighbour.bookings.table_name,
            "SpoolUrl": spool.queue.queue_url,
            "QuarantineUrl": spool.quarantine.queue_url,
            # To be invoked with {"action": "list"}, "reprocess", "park", "release" or "drop".
            "ReprocessorName": again.function.function_name,
            "WidgetName": again.widget.function_name,
            "CapacityFunctionName": capacity.function.function_name,
            "BreakerName": hold.breaker.function_name,
        }.items():
            CfnOutput(self, name, value=value)

    def _prepare(self, name: str) -> tasks.DynamoUpdateItem:
        """The first step, which counts how often it is done."""
        return tasks.DynamoUpdateItem(
            self,
            name,
            table=self._neighbour.bookings,
            key={"name": tasks.DynamoAttributeValue.from_string(sfn.JsonPath.string_at("$.name"))},
            update_expression="ADD prepared :one",
            expression_attribute_values={":one": tasks.DynamoAttributeValue.from_number(1)},
            result_path=sfn.JsonPath.DISCARD,
        )

    def _call(self, name: str) -> tasks.LambdaInvoke:
        return tasks.LambdaInvoke(self, name, lambda_function=self._neighbour.function, result_path="$.answer")

    def _make_machine(self, id_: str, definition: sfn.IChainable) -> sfn.StateMachine:
        machine = sfn.StateMachine(self, id_, definition_body=sfn.DefinitionBody.from_chainable(definition))
        function = ".".join(self.resolve(self._neighbour.function.function_arn)["Fn::GetAtt"])
        for finding, reason in {
            "AwsSolutions-SF1": "The history of an execution tells all that its log would.",
            "AwsSolutions-SF2": "One call is all that there would be to trace.",
            f"AwsSolutions-IAM5[Resource::<{function}>:*]": "Step Functions is allowed any version of this function.",
        }.items():
            Validations.of(machine).acknowledge(Acknowledgment(id=finding, reason=reason))
        return machine
