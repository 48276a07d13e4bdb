"""What `EmbeddedAws` promises apart from the corrections."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from botocore.exceptions import ClientError

from embedded_aws import EmbeddedAws
from embedded_aws.containers import DockerContainers
from tests.embedded_aws.machines import (
    ending,
    make_function,
    make_machine,
    make_task,
    run,
    run_task,
    start,
    stopped_task,
    task,
)


def test_environment_holds_this_account_only(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("https_proxy", "http://proxy")
    monkeypatch.setenv("KEPT", "1")

    environment = aws.environment

    assert environment["KEPT"] == "1"
    assert {name for name in environment if name.upper().startswith(("AWS_", "HTTPS_PROXY"))} == {
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
    }


@pytest.mark.parametrize(("answers", "chosen"), [(True, "container"), (False, "process")])
def test_auto_takes_containers_where_an_engine_answers(
    monkeypatch: pytest.MonkeyPatch, answers: bool, chosen: str
) -> None:
    monkeypatch.setattr(DockerContainers, "answers", lambda: answers)

    assert EmbeddedAws(tasks="auto").tasks == chosen


def test_clients_are_in_this_account(aws: EmbeddedAws) -> None:
    assert aws.client("sts").get_caller_identity()["Account"] == aws.account
    assert aws.client("sqs").meta.region_name == aws.region


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc")
def test_only_loopback_is_listened_on(aws: EmbeddedAws) -> None:
    assert aws._server is not None
    links = [str(link.readlink()) for link in Path(f"/proc/{aws._server.pid}/fd").iterdir()]
    sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
    listening = [
        fields[1]
        for table in ("tcp", "tcp6")
        for fields in (line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and fields[9] in sockets
    ]
    port = int(aws.endpoint.rsplit(":", 1)[1])
    assert listening == [f"0100007F:{port:04X}"]  # 127.0.0.1, in the byte order of the kernel.


def test_instances_know_nothing_of_each_other(aws: EmbeddedAws, stock: EmbeddedAws) -> None:
    aws.client("sqs").create_queue(QueueName="mine")

    assert aws.endpoint != stock.endpoint
    assert aws.log.parent != stock.log.parent
    assert not stock.client("sqs").list_queues(QueueNamePrefix="mine").get("QueueUrls")


def test_the_server_ends_with_everything_it_started() -> None:
    with EmbeddedAws() as own:
        start(own, {"Run": run_task(make_task(own, {"command": ["sleep", "123"]}))})
        run(own, {"Call": task("lambda:invoke", {"FunctionName": make_function(own, "return 1")})})
        assert own._server is not None
        session = own._server.pid
        directory = own.log.parent
        assert len(processes_of(session)) >= 3

    assert processes_of(session) == []
    assert not directory.exists()


def test_the_server_ends_when_its_parent_is_killed() -> None:
    program = (
        "import time\n"
        "from embedded_aws import EmbeddedAws\n"
        "with EmbeddedAws() as aws:\n"
        "    print(aws._server.pid, aws.log.parent, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as parent:
        assert parent.stdout is not None
        session = int(parent.stdout.readline().split()[0])
        parent.send_signal(signal.SIGKILL)

    deadline = time.monotonic() + 10
    while processes_of(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(session) == []


def processes_of(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == session and "State:\tZ" not in (entry / "status").read_text():
                found.append(int(entry.name))
        except (OSError, ProcessLookupError):
            continue
    return found


def test_reset_forgets_and_stops() -> None:
    with EmbeddedAws(stop_timeout=1.0) as own:
        family = make_task(own, {"command": ["sleep", "123"]})
        execution = start(own, {"Run": run_task(family)})
        stopped_task(own, family, within=0.5)
        assert own.launches(family)

        own.reset()

        assert own.launches(family) == []
        assert own.client("stepfunctions").list_state_machines()["stateMachines"] == []
        with pytest.raises(ClientError, match="ExecutionDoesNotExist"):
            ending(own, execution)
        assert own._server is not None
        deadline = time.monotonic() + 4
        while len(processes_of(own._server.pid)) > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes_of(own._server.pid) == [own._server.pid]


TRUST = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", '
    '"Principal": {"Service": "lambda.amazonaws.com"}}]}'
)


def test_roles_of_functions_are_enforced_on_request() -> None:
    with EmbeddedAws(enforce_iam=True) as own:
        role = own.client("iam").create_role(RoleName="powerless", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
        name = make_function(own, "return boto3.client('sqs').list_queues()", role=role)

        denied = json.load(own.client("lambda").invoke(FunctionName=name)["Payload"])

        assert denied["errorType"] == "ClientError"
        assert "AccessDenied" in denied["errorMessage"]


@pytest.mark.parametrize("corrections", [True, False])
def test_a_policy_may_demand_encrypted_requests(corrections: bool) -> None:
    with EmbeddedAws(enforce_iam=True, corrections=corrections) as own:
        queues = own.client("sqs")
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": "*",
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        queue = queues.create_queue(QueueName="encrypted", Attributes={"Policy": policy})["QueueUrl"]

        try:
            queues.send_message(QueueUrl=queue, MessageBody="x")
            answer = "accepted"
        except ClientError as error:
            answer = error.response["Error"]["Code"]

        assert answer == ("accepted" if corrections else "AccessDenied")


@pytest.mark.parametrize("corrections", [True, False])
def test_whoever_answers_for_a_token_needs_permission_for_its_state_machine(corrections: bool) -> None:
    with EmbeddedAws(enforce_iam=True, corrections=corrections) as own:
        iam = own.client("iam")
        # That of the state machines.
        iam.create_role(RoleName="any", AssumeRolePolicyDocument=TRUST)

        def answer(*, of_it: bool) -> str:
            """How an execution ends whose function may answer for its state machine, or for another one."""
            name = "permitted" if of_it else "denied"
            role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
            body = "boto3.client('stepfunctions').send_task_success(taskToken=event['token'], output='{}')"
            call = {"FunctionName": make_function(own, body, role=role), "Payload": {"token.$": "$$.Task.Token"}}
            states = {"Call": task("lambda:invoke.waitForTaskToken", call)}
            machine = make_machine(own, {"StartAt": "Call", "States": states})
            statement = {
                "Effect": "Allow",
                "Action": "states:SendTaskSuccess",
                "Resource": machine if of_it else f"{machine}-another",
            }
            policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_role_policy(RoleName=name, PolicyName="answer", PolicyDocument=policy)
            execution = own.client("stepfunctions").start_execution(stateMachineArn=machine)["executionArn"]
            return ending(own, execution, within=8 if corrections else 4).status

        # Stock MiniStack refuses whoever has not the permission for all state machines, and hangs.
        assert answer(of_it=True) == ("SUCCEEDED" if corrections else "RUNNING")
        assert not corrections or answer(of_it=False) == "FAILED"


@pytest.mark.parametrize("corrections", [True, False])
def test_whoever_may_send_a_message_may_send_a_batch(corrections: bool) -> None:
    with EmbeddedAws(enforce_iam=True, corrections=corrections) as own:
        iam, functions = own.client("iam"), own.client("lambda")
        queue = own.client("sqs").create_queue(QueueName="work")["QueueUrl"]
        role = iam.create_role(RoleName="sender", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
        arn = f"arn:aws:sqs:{own.region}:{own.account}:work"
        statement = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": arn}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_role_policy(RoleName="sender", PolicyName="send", PolicyDocument=policy)
        entries = "[{'Id': '1', 'MessageBody': 'x'}]"
        body = f"boto3.client('sqs').send_message_batch(QueueUrl='{queue}', Entries={entries}); return 'sent'"

        answer = json.load(functions.invoke(FunctionName=make_function(own, body, role=role))["Payload"])

        if corrections:
            assert answer == "sent"
        else:
            assert "AccessDenied" in answer["errorMessage"]


ASK_FOR_A_MAPPING = """
found = []
for action, more in (("get_event_source_mapping", {}), ("update_event_source_mapping", {"Enabled": False})):
    try:
        getattr(boto3.client("lambda"), action)(UUID=event["uuid"], **more)
        found.append("done")
    except Exception as error:
        found.append(error.response["Error"]["Code"])
return found
"""


@pytest.mark.parametrize("corrections", [True, False])
def test_whoever_changes_a_mapping_needs_permission_for_it(corrections: bool) -> None:
    with EmbeddedAws(enforce_iam=True, corrections=corrections) as own:
        iam, functions = own.client("iam"), own.client("lambda")
        own.client("sqs").create_queue(QueueName="work")
        queue = f"arn:aws:sqs:{own.region}:{own.account}:work"

        def outcomes(*actions: str) -> list[str]:
            """What a function with these permissions gets for its requests: get, then update."""
            role = iam.create_role(RoleName=f"role{len(actions)}", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
            name = make_function(own, ASK_FOR_A_MAPPING, role=role)
            uuid = functions.create_event_source_mapping(EventSourceArn=queue, FunctionName=name)["UUID"]
            arn = f"arn:aws:lambda:{own.region}:{own.account}:event-source-mapping:{uuid}"
            if actions:
                statement = {"Effect": "Allow", "Action": [f"lambda:{each}" for each in actions], "Resource": arn}
                policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
                iam.put_role_policy(RoleName=f"role{len(actions)}", PolicyName="mapping", PolicyDocument=policy)
            reply = functions.invoke(FunctionName=name, Payload=json.dumps({"uuid": uuid}))
            return list(json.load(reply["Payload"]))

        denied = "AccessDeniedException"
        assert outcomes() == ([denied, denied] if corrections else [denied, "done"])
        may_both = outcomes("GetEventSourceMapping", "UpdateEventSourceMapping")
        assert may_both == (["done", "done"] if corrections else [denied, "done"])


@pytest.mark.parametrize("corrections", [True, False])
def test_whoever_looks_at_a_map_run_needs_permission_for_it(corrections: bool) -> None:
    with EmbeddedAws(enforce_iam=True, corrections=corrections) as own:
        iam, functions, sfn = own.client("iam"), own.client("lambda"), own.client("stepfunctions")
        # That of the state machine.
        iam.create_role(RoleName="any", AssumeRolePolicyDocument=TRUST)
        config = {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
        child = {"ProcessorConfig": config, "StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}}
        each = {"Type": "Map", "ItemsPath": "$.items", "ItemProcessor": child, "End": True}
        execution = run(own, {"Each": each}, data={"items": [1]}).arn
        [map_run] = sfn.list_map_runs(executionArn=execution)["mapRuns"]

        def looks(role_name: str, resource: str) -> str:
            """What a function with permission for `resource` gets."""
            role = iam.create_role(RoleName=role_name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
            statement = {"Effect": "Allow", "Action": "states:DescribeMapRun", "Resource": resource}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_role_policy(RoleName=role_name, PolicyName="look", PolicyDocument=policy)
            body = (
                f"return boto3.client('stepfunctions').describe_map_run(mapRunArn='{map_run['mapRunArn']}')['status']"
            )
            reply = functions.invoke(FunctionName=make_function(own, body, role=role))
            answer = json.load(reply["Payload"])
            if "FunctionError" in reply:
                assert "AccessDenied" in answer["errorMessage"]
                return "denied"
            return str(answer)

        runs = map_run["mapRunArn"].rpartition(":")[0]
        assert looks("its-own", f"{runs}:*") == ("SUCCEEDED" if corrections else "denied")
        assert looks("another", f"{runs}-another:*") == "denied"


def test_functions_for_node_find_the_modules_of_this_repository(aws: EmbeddedAws) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("index.js", "exports.handle = async () => typeof require('@aws-sdk/client-s3').S3Client")
    aws.client("lambda").create_function(
        FunctionName="node",
        Runtime="nodejs22.x",
        Handler="index.handle",
        Role="arn:aws:iam::000000000000:role/any",
        Code={"ZipFile": archive.getvalue()},
    )

    assert (
        run(aws, {"Call": task("lambda:invoke", {"FunctionName": "node"}, OutputPath="$.Payload")}).output == "function"
    )


def test_functions_beyond_the_limit_wait_their_turn() -> None:
    from embedded_aws.corrections.lambda_functions import _Gate

    gate, order, release = _Gate(1), [], Event()

    def pass_through(name: str) -> None:
        with gate.passed():
            order.append(name)
            release.wait()

    threads = [Thread(target=pass_through, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    assert order == ["a"]
    release.set()
    for thread in threads:
        thread.join()
    assert order == ["a", "b", "c"]


def test_a_retry_with_full_jitter_waits_a_part_of_its_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    from ministack.services import stepfunctions as sfn

    from embedded_aws.corrections.step_functions_errors import a_retry_waits_as_it_says

    pauses: list[float] = []
    monkeypatch.setattr(sfn, "_scaled_sleep", pauses.append)
    retrier = {"IntervalSeconds": 10, "BackoffRate": 2.0, "MaxDelaySeconds": 15, "JitterStrategy": "FULL"}

    def stock(*_: Any) -> tuple[Any, int]:
        return retrier, 0

    for _ in range(100):
        a_retry_waits_as_it_says(stock, [retrier], "any", {0: 1})

    assert 0 <= min(pauses) < 5
    assert 10 < max(pauses) <= 15


def test_rules_are_looked_at_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    from ministack.services import eventbridge

    from embedded_aws.corrections.eventbridge import rules_are_looked_at_every_second

    monkeypatch.setattr(eventbridge, "_SCHEDULER_TICK_INTERVAL", 10)
    started: list[float] = []

    rules_are_looked_at_every_second(lambda: started.append(eventbridge._SCHEDULER_TICK_INTERVAL))

    assert started == [1.0]


def test_a_query_does_not_look_beyond_its_limit(aws: EmbeddedAws) -> None:
    table = aws.client("dynamodb")
    attributes = [{"AttributeName": name, "AttributeType": "S"} for name in ("line", "place")]
    table.create_table(
        TableName="long-lines",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": "line", "KeyType": "HASH"},
            {"AttributeName": "place", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=attributes,
    )
    for first_of_25 in range(0, 200, 25):
        items = [{"line": {"S": "a"}, "place": {"S": f"{n % 2}-{n:03}"}} for n in range(first_of_25, first_of_25 + 25)]
        table.batch_write_item(RequestItems={"long-lines": [{"PutRequest": {"Item": item}} for item in items]})
    query = {
        "TableName": "long-lines",
        "ConsistentRead": True,
        "KeyConditionExpression": "line = :line AND begins_with(place, :prefix)",
        "ExpressionAttributeValues": {":line": {"S": "a"}, ":prefix": {"S": "1-"}},
    }
    everything = table.query(**query)["Items"]

    first, enough = table.query(**query, Limit=3), table.query(**query, Limit=101)

    assert [item["place"]["S"] for item in first["Items"]] == ["1-001", "1-003", "1-005"]
    assert first["LastEvaluatedKey"]["place"]["S"] == "1-005"
    rest = table.query(**query, Limit=1000, ExclusiveStartKey=first["LastEvaluatedKey"])["Items"]
    assert first["Items"] + rest == everything
    assert len(everything) == 100
    assert enough["Items"] == everything
    assert "LastEvaluatedKey" not in enough


def test_a_query_takes_no_more_of_a_long_partition_than_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from ministack.services import dynamodb

    from embedded_aws.corrections.dynamodb import a_long_partition_is_as_quick_as_a_short_one

    places = [f"{n:03}" for n in range(200)]
    items = {"a": {place: {"line": {"S": "a"}, "place": {"S": place}} for place in reversed(places)}}
    table = {"pk_name": "line", "sk_name": "place", "items": items}
    monkeypatch.setattr(dynamodb, "_tables", {"lines": table})
    query = {
        "TableName": "lines",
        "ConsistentRead": True,
        "Limit": 3,
        "KeyConditionExpression": "line = :line AND place > :place",
        "ExpressionAttributeValues": {":line": {"S": "a"}, ":place": {"S": "004"}},
    }

    seen = a_long_partition_is_as_quick_as_a_short_one(lambda _: list(dynamodb._tables["lines"]["items"]["a"]), query)

    assert seen == ["005", "006", "007", "008"]
    assert dynamodb._tables["lines"] is table


def test_a_receive_does_not_look_beyond_what_it_takes() -> None:
    from ministack.services import sqs

    from embedded_aws.corrections.sqs import a_long_queue_is_as_quick_as_a_short_one

    now = time.time()
    messages: list[Any] = [{"body": str(n), "visible_at": now + (60 if n == 1 else -1)} for n in range(4)]
    never_looked_at = None
    queue = {"is_fifo": False, "messages": [*messages, never_looked_at]}

    taken = a_long_queue_is_as_quick_as_a_short_one(sqs._collect_msgs, queue, 3, 30)

    assert [message["body"] for message in taken] == ["0", "2", "3"]
    assert [message.get("receive_count") for message in messages] == [1, None, 1, 1]
    assert messages[0]["visible_at"] > now + 29
