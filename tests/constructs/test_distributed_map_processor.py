"""What the map makes of its options."""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_stepfunctions as sfn

from asl_tools.resolve import state_machines
from constructs_lib import (
    AlertFunction,
    Batch,
    CsvItems,
    DistributedMapProcessor,
    ErrorSpool,
    FailureTolerance,
    InputItems,
    InventoryItems,
    JsonItems,
    JsonLinesItems,
    ParquetItems,
    S3Objects,
    Semaphore,
)
from tests.distributed_maps import chain, full_options, guarded, processor
from tests.pipelines import bucket, fargate_job, function
from tests.scheduled import make_app, template_of
from tests.templates import FLAGS, as_list, only, resources, statements

Template = Mapping[str, Any]

RESULT_WRITER_V2 = "@aws-cdk/aws-stepfunctions:useDistributedMapResultWriterV2"
MINIMIZE = "@aws-cdk/aws-iam:minimizePolicies"

VARIANTS: dict[str, Callable[[cdk.Stack], dict[str, Any]]] = {
    "bare": lambda stack: {},
    "full": full_options,
    "function": lambda stack: {"processor": function(stack)},
    "fargate": lambda stack: {"processor": fargate_job(stack)},
    "chain": lambda stack: {"processor": chain(stack)},
    "guarded": lambda stack: {"processor": function(stack), "semaphore": Semaphore(stack, "Quota", limit=5)},
    "csv": lambda stack: {"source": CsvItems(bucket=bucket(stack), key="lists/{date:%Y}/a*b.csv", max_items=7)},
    "json": lambda stack: {"source": JsonItems(bucket=bucket(stack), key="list.json")},
    "jsonl": lambda stack: {"source": JsonLinesItems(bucket=bucket(stack), key="list.jsonl", max_items=5)},
    "parquet": lambda stack: {"source": ParquetItems(bucket=bucket(stack), key="list.parquet")},
    "inventory": lambda stack: {
        "source": InventoryItems(bucket=bucket(stack), key="inv/src/daily/{date:%Y-%m-%d}T01-00Z/manifest.json")
    },
    "input": lambda stack: {"source": InputItems(path="$.detail.lines", max_items=10)},
    "collect": lambda stack: {"tolerance": FailureTolerance.collect()},
    "count": lambda stack: {"tolerance": FailureTolerance.count(3)},
    "bytes": lambda stack: {"batch": Batch(max_bytes=5000), "constants": {"a": 1}},
    "nobody to tell": lambda stack: {"failure_handlers": []},
    "everything": lambda stack: {
        "source": S3Objects(
            bucket=s3.Bucket(stack, "Incoming", encryption=s3.BucketEncryption.KMS),
            patterns=["*.csv"],
            min_size=1,
            max_size=1000,
            folder_markers=True,
            max_items=9,
        )
    },
}


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Each variant in a stack of its own, all in one app."""
    app = make_app(tmp_path_factory.mktemp("variants"))
    stacks = {}
    for number, (name, options) in enumerate(VARIANTS.items()):
        stacks[name] = cdk.Stack(app, f"Stack{number}")
        processor(stacks[name], **options(stacks[name]))
    return {name: template_of(stack) for name, stack in stacks.items()}


@pytest.fixture(scope="module")
def bare(templates: Mapping[str, Template]) -> Template:
    return templates["bare"]


def definition(template: Template, part: str = "Workflow") -> dict[str, Any]:
    [found] = [one for name, one in state_machines(template).items() if name.startswith("Map") and part in name]
    return found


def the_map(template: Template) -> dict[str, Any]:
    found: dict[str, Any] = definition(template)["States"]["Process items"]
    return found


def function_of(template: Template, handler: str) -> tuple[str, dict[str, Any]]:
    """The logical id and the properties of the function with this handler."""
    [found] = [
        (name, one)
        for name, one in resources(template, "AWS::Lambda::Function").items()
        if one["Handler"] == f"distributed_map.{handler}.handle"
    ]
    return found


def machine_of(template: Template, part: str = "Workflow") -> tuple[str, dict[str, Any]]:
    [found] = [
        (name, one)
        for name, one in resources(template, "AWS::StepFunctions::StateMachine").items()
        if name.startswith("Map") and part in name
    ]
    return found


def role_of(resource: Mapping[str, Any]) -> str:
    role: str = (resource.get("Role") or resource["RoleArn"])["Fn::GetAtt"][0]
    return role


def allowed(template: Template, role: str) -> dict[str, list[Any]]:
    """The resources for each action of a role."""
    found: dict[str, list[Any]] = {}
    for policy in resources(template, "AWS::IAM::Policy").values():
        if {"Ref": role} in policy["Roles"]:
            for one in policy["PolicyDocument"]["Statement"]:
                for action in as_list(one["Action"]):
                    found.setdefault(action, []).extend(as_list(one["Resource"]))
    return found


def text(arn: Any) -> str:
    """An ARN with names in angle brackets for what only the deployment tells."""
    if isinstance(arn, str):
        return arn
    if "Ref" in arn:
        return f"<{arn['Ref']}>"
    if "Fn::GetAtt" in arn:
        return f"<{'.'.join(arn['Fn::GetAtt'])}>"
    if "Fn::Join" in arn:
        return "".join(map(text, arn["Fn::Join"][1]))
    if "Fn::Select" in arn:
        return f"<name of {text(arn['Fn::Select'][1]['Fn::Split'][1])}>"
    return json.dumps(arn)


def texts(arns: list[Any]) -> set[str]:
    return {text(arn) for arn in arns}


def results_of(template: Template) -> str:
    [found] = [name for name in resources(template, "AWS::S3::Bucket") if name.startswith("MapResults")]
    return found


# --- where items come from -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variant", "config"),
    [
        ("bare", {"InputType": "JSONL"}),
        ("everything", {"InputType": "JSONL"}),
        ("input", {"InputType": "JSONL"}),
        ("json", {"InputType": "JSON"}),
        ("jsonl", {"InputType": "JSONL", "MaxItems": 5}),
        ("parquet", {"InputType": "PARQUET"}),
        ("inventory", {"InputType": "MANIFEST"}),
        ("csv", {"InputType": "CSV", "CSVHeaderLocation": "FIRST_ROW", "CSVDelimiter": "COMMA", "MaxItems": 7}),
        (
            "full",
            {
                "InputType": "CSV",
                "CSVHeaderLocation": "GIVEN",
                "CSVHeaders": ["id", "amount"],
                "CSVDelimiter": "SEMICOLON",
                "MaxItems": 1_000_000,
            },
        ),
    ],
)
def test_the_map_reads_what_was_planned(variant: str, config: Any, templates: Mapping[str, Template]) -> None:
    assert the_map(templates[variant])["ItemReader"] == {
        "Resource": "arn:${AWS::Partition}:states:::s3:getObject",
        "ReaderConfig": config,
        "Parameters": {"Bucket.$": "$.plan.items.bucket", "Key.$": "$.plan.items.key"},
    }


def test_what_the_planner_is_told(templates: Mapping[str, Template]) -> None:
    template = templates["bare"]
    states = definition(template)["States"]
    results = {"bucket": f"${{{results_of(template)}}}"}
    assert states["Plan"]["Parameters"] == {
        "FunctionName": f"${{{function_of(template, 'plan')[0]}.Arn}}",
        "Payload": {
            "input.$": "$$.Execution.Input",
            "execution": {
                "id.$": "$$.Execution.Id",
                "name.$": "$$.Execution.Name",
                "startTime.$": "$$.Execution.StartTime",
            },
            "source": {
                "kind": "objects",
                "bucket": "incoming",
                "prefix": "in/{date:%Y/%m/%d}/",
                "filters": {"patterns": [], "folderMarkers": False},
                "results": results,
                "timeZone": "Etc/UTC",
                "daysBack": 0,
                "emptyFails": False,
            },
            "state": {},
        },
    }
    # The same function goes on where its time was over.
    again = states["Go on planning"]["Parameters"]
    assert again["Payload"].pop("state.$") == "$.plan"
    first = states["Plan"]["Parameters"]
    assert first["Payload"].pop("state") == {}
    assert again == first


@pytest.mark.parametrize(
    ("variant", "source"),
    [
        (
            "everything",
            {
                "kind": "objects",
                "prefix": "",
                "filters": {
                    "patterns": ["*.csv"],
                    "minSize": 1,
                    "maxSize": 1000,
                    "folderMarkers": True,
                    "maxItems": 9,
                },
            },
        ),
        ("input", {"kind": "input", "path": "$.detail.lines", "filters": {"maxItems": 10}}),
        ("json", {"kind": "json", "bucket": "incoming", "key": "list.json", "filters": {}}),
        ("jsonl", {"kind": "jsonl", "bucket": "incoming", "key": "list.jsonl", "filters": {"maxItems": 5}}),
        ("parquet", {"kind": "parquet", "bucket": "incoming", "key": "list.parquet", "filters": {}}),
        ("csv", {"kind": "csv", "key": "lists/{date:%Y}/a*b.csv", "csv": {"delimiter": "COMMA"}}),
        (
            "full",
            {
                "kind": "csv",
                "key": "orders/{date:%Y-%m-%d}.csv",
                "csv": {"headers": ["id", "amount"], "delimiter": "SEMICOLON"},
                "timeZone": "Asia/Tokyo",
                "daysBack": 1,
                "emptyFails": True,
            },
        ),
        ("inventory", {"kind": "manifest", "key": "inv/src/daily/{date:%Y-%m-%d}T01-00Z/manifest.json"}),
    ],
)
def test_what_both_functions_know_of_the_source(
    variant: str, source: dict[str, Any], templates: Mapping[str, Template]
) -> None:
    states = definition(templates[variant])["States"]
    known = states["Plan"]["Parameters"]["Payload"]["source"]
    assert {name: known[name] for name in source} == source
    assert states["Account for all items"]["Parameters"]["Payload"]["settings"]["source"] == known


# --- the map -------------------------------------------------------------------------------------------------


def test_each_item_comes_with_the_facts_of_its_run(templates: Mapping[str, Template]) -> None:
    state = the_map(templates["bare"])
    assert state["ItemSelector"] == {"item.$": "$$.Map.Item.Value", "run.$": "$.plan.run", "constants": {}}
    assert "ItemBatcher" not in state


def test_each_batch_comes_with_the_facts_of_its_run(templates: Mapping[str, Template]) -> None:
    state = the_map(templates["full"])
    assert state["ItemBatcher"] == {
        "MaxItemsPerBatch": 50,
        "MaxInputBytesPerBatch": 100_000,
        "BatchInput": {
            "run.$": "$.plan.run",
            "constants": {"target": "archive", "retries": 3, "nested": {"list": [1, True, "a"]}},
        },
    }
    # Otherwise each item of a batch would have them, too.
    assert "ItemSelector" not in state
    assert the_map(templates["bytes"])["ItemBatcher"] == {
        "MaxInputBytesPerBatch": 5000,
        "BatchInput": {"run.$": "$.plan.run", "constants": {"a": 1}},
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_number_of_children_is_always_limited(variant: str, templates: Mapping[str, Template]) -> None:
    assert the_map(templates[variant])["MaxConcurrency"] == (40 if variant == "full" else 100)


@pytest.mark.parametrize(("variant", "kind", "label"), [("bare", "STANDARD", "items"), ("full", "EXPRESS", "orders")])
def test_what_the_children_are(variant: str, kind: str, label: str, templates: Mapping[str, Template]) -> None:
    state = the_map(templates[variant])
    assert state["ItemProcessor"]["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": kind}
    assert state["Label"] == label


@pytest.mark.parametrize(
    ("variant", "fields", "told"),
    [
        # Absent means none, for both.
        ("bare", {}, {"kind": "none"}),
        ("count", {"ToleratedFailureCount": 3}, {"kind": "count", "value": 3}),
        ("full", {"ToleratedFailurePercentage": 5}, {"kind": "percentage", "value": 5}),
        ("collect", {"ToleratedFailurePercentage": 100}, {"kind": "collect"}),
    ],
)
def test_how_many_may_fail(
    variant: str, fields: dict[str, Any], told: dict[str, Any], templates: Mapping[str, Template]
) -> None:
    state = the_map(templates[variant])
    assert {name: state[name] for name in state if name.startswith("Tolerated")} == fields
    account = definition(templates[variant])["States"]["Account for all items"]
    assert account["Parameters"]["Payload"]["settings"]["tolerance"] == told


def test_the_map_is_not_caught_so_that_it_can_be_redriven(templates: Mapping[str, Template]) -> None:
    for variant, template in templates.items():
        state = the_map(template)
        assert not {"Catch", "Retry"} & set(state), variant


def test_a_function_is_one_state_without_catch_and_its_answer_is_the_output(bare: Template) -> None:
    processor_ = the_map(bare)["ItemProcessor"]
    [(name, state)] = processor_["States"].items()
    assert processor_["StartAt"] == name
    assert (state["Type"], state["OutputPath"], state["End"]) == ("Task", "$.Payload", True)
    assert state["Parameters"]["Payload.$"] == "$"
    assert not {"Catch", "ResultPath", "ResultSelector"} & set(state)
    first = state["Retry"][0]
    assert first["ErrorEquals"] == ["Lambda.TooManyRequestsException"]
    assert (first["JitterStrategy"], first["MaxAttempts"] > 5) == ("FULL", True)


def test_a_chain_is_used_as_it_is(templates: Mapping[str, Template]) -> None:
    processor_ = the_map(templates["chain"])["ItemProcessor"]
    assert processor_["StartAt"] == "Call"
    assert set(processor_["States"]) == {"Call", "Publish"}
    # Its permissions are those of its own states.
    may = allowed(templates["chain"], role_of(machine_of(templates["chain"])[1]))
    assert {"sns:Publish", "lambda:InvokeFunction"} <= set(may)


# --- results: written whatever the flags of the app are ---------------------------------------------------------


def without(flags: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if name not in names}


FLAG_SETS: dict[str, dict[str, Any]] = {
    "true": {**FLAGS, RESULT_WRITER_V2: True},
    "false": {**FLAGS, RESULT_WRITER_V2: False},
    "absent": without(FLAGS, RESULT_WRITER_V2),
    "no flags at all": {},
}


@pytest.mark.parametrize("flags", FLAG_SETS)
def test_results_are_written_whatever_the_flags_of_the_app_are(flags: str, tmp_path: Path) -> None:
    app = make_app(tmp_path, FLAG_SETS[flags])
    stack = cdk.Stack(app, "Stack")
    processor(stack)
    template = template_of(stack)
    results = results_of(template)
    assert the_map(template)["ResultWriter"] == {
        "Resource": "arn:${AWS::Partition}:states:::s3:putObject",
        "Parameters": {
            "Bucket": f"${{{results}}}",
            "Prefix.$": "States.Format('runs/{}/map', $$.Execution.Name)",
        },
    }
    may = allowed(template, role_of(machine_of(template)[1]))
    for action in ("s3:PutObject", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"):
        assert f"<{results}.Arn>/runs/*" in texts(may[action])


def test_the_control_without_our_own_setting_cdk_leaves_the_writer_out(tmp_path: Path) -> None:
    """What the test above would miss if CDK changed its mind."""
    stack = cdk.Stack(make_app(tmp_path, FLAG_SETS["absent"]), "Stack")
    loop = sfn.DistributedMap(stack, "Each", result_writer_v2=sfn.ResultWriterV2(bucket=bucket(stack)))
    loop.item_processor(sfn.Pass(stack, "Nothing"))
    sfn.StateMachine(stack, "Machine", definition_body=sfn.DefinitionBody.from_chainable(loop))
    [asl] = state_machines(template_of(stack)).values()
    assert "ResultWriter" not in asl["States"]["Each"]


def test_the_flag_of_the_app_is_left_as_it_is(tmp_path: Path) -> None:
    """Other maps of the same app are not ours to change."""
    stack = cdk.Stack(make_app(tmp_path, FLAG_SETS["false"]), "Stack")
    processor(stack)
    loop = sfn.DistributedMap(stack, "Each", result_writer_v2=sfn.ResultWriterV2(bucket=bucket(stack)))
    loop.item_processor(sfn.Pass(stack, "Nothing"))
    sfn.StateMachine(stack, "Machine", definition_body=sfn.DefinitionBody.from_chainable(loop))
    [asl] = [one for one in state_machines(template_of(stack)).values() if "Each" in one["States"]]
    assert "ResultWriter" not in asl["States"]["Each"]


def test_the_bucket_of_results(bare: Template) -> None:
    template = bare
    name = results_of(template)
    properties = resources(template, "AWS::S3::Bucket")[name]
    assert properties["LifecycleConfiguration"]["Rules"] == [
        {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}, "ExpirationInDays": 90, "Status": "Enabled"}
    ]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["BucketEncryption"]
    assert template["Resources"][name]["DeletionPolicy"] == "Retain"
    [policy] = [one for one in resources(template, "AWS::S3::BucketPolicy").values() if one["Bucket"] == {"Ref": name}]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_how_long_results_are_kept(stack: cdk.Stack) -> None:
    processor(stack, results_retention=Duration.days(7))
    [rule] = only(template_of(stack), "AWS::S3::Bucket")["LifecycleConfiguration"]["Rules"]
    assert rule["ExpirationInDays"] == 7


# --- permissions ---------------------------------------------------------------------------------------------


def test_what_the_state_machine_may(bare: Template) -> None:
    id_, machine = machine_of(bare)
    may = allowed(bare, role_of(machine))
    plan, account = (function_of(bare, name)[0] for name in ("plan", "account"))
    executions = "arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution"
    runs = f"<{results_of(bare)}.Arn>/runs/*"
    expected = {
        "lambda:InvokeFunction": {
            f"<{plan}.Arn>",
            f"<{account}.Arn>",
            "arn:aws:lambda:eu-central-1:111122223333:function:own",
            f"<{next(n for n in resources(bare, 'AWS::Lambda::Function') if 'Alert' in n)}.Arn>",
        },
        # What AWS says a distributed map needs, and not more.
        "states:StartExecution": {f"<{id_}>"},
        "states:DescribeExecution": {f"{executions}:<name of <{id_}>>:*"},
        "states:StopExecution": {f"{executions}:<name of <{id_}>>:*"},
        "states:RedriveExecution": {f"{executions}:<name of <{id_}>>/items:*"},
        "s3:GetObject": {runs},
        "s3:PutObject": {runs},
        "s3:AbortMultipartUpload": {runs},
        "s3:ListMultipartUploadParts": {runs},
    }
    others = {action for action in may if action.startswith(("logs:", "xray:", "sqs:"))}
    assert {action: texts(arns) for action, arns in may.items() if action not in others} == expected


@pytest.mark.parametrize(
    ("variant", "readable"),
    [
        ("csv", "lists/*/a?b.csv"),
        ("json", "list.json"),
        ("inventory", "inv/src/daily/*"),
    ],
)
def test_of_a_file_the_map_and_its_planner_may_read_that_file_only(
    variant: str, readable: str, templates: Mapping[str, Template]
) -> None:
    template = templates[variant]
    arn = f"arn:<AWS::Partition>:s3:::incoming/{readable}"
    runs = f"<{results_of(template)}.Arn>/runs/*"
    for resource in (machine_of(template)[1], function_of(template, "plan")[1]):
        may = allowed(template, role_of(resource))
        assert texts(may["s3:GetObject"]) == {arn, runs}
        assert texts(may["s3:PutObject"]) == {runs}


def test_the_planner_of_a_listing_may_list_and_not_read(bare: Template) -> None:
    may = [
        one
        for policy in resources(bare, "AWS::IAM::Policy").values()
        if {"Ref": role_of(function_of(bare, "plan")[1])} in policy["Roles"]
        for one in policy["PolicyDocument"]["Statement"]
    ]
    listing = {text(one["Resource"]): one.get("Condition") for one in may if one["Action"] == "s3:ListBucket"}
    assert listing == {
        "arn:<AWS::Partition>:s3:::incoming": {"StringLike": {"s3:prefix": "in/*/*"}},
        f"<{results_of(bare)}.Arn>": None,
    }
    reading = allowed(bare, role_of(function_of(bare, "plan")[1]))["s3:GetObject"]
    assert texts(reading) == {f"<{results_of(bare)}.Arn>/runs/*"}


def test_what_the_functions_may_ask(bare: Template) -> None:
    id_, _ = machine_of(bare)
    executions = f"arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:<{id_}.Name>:*"
    map_runs = f"arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:mapRun:<{id_}.Name>/items:*"
    questions = {
        "states:DescribeExecution": {executions},
        "states:ListMapRuns": {executions},
        "states:DescribeMapRun": {map_runs},
    }
    commands = {
        "states:ListExecutions": {f"<{id_}>"},
        "states:StartExecution": {f"<{id_}>"},
        "states:RedriveExecution": {executions},
        "states:UpdateMapRun": {map_runs},
    }
    for name, expected in {"plan": questions, "account": questions, "operate": {**questions, **commands}}.items():
        may = allowed(bare, role_of(function_of(bare, name)[1]))
        assert {action: texts(arns) for action, arns in may.items() if action.startswith("states:")} == expected
    written = {"s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}
    for name in ("plan", "account", "operate"):
        may = allowed(bare, role_of(function_of(bare, name)[1]))
        others = {"operate": set()}.get(name, written)
        assert {action for action in may if action.startswith("s3:")} == {"s3:GetObject", "s3:ListBucket"} | others


def test_keys_of_encrypted_buckets_are_allowed_to_those_who_need_them(templates: Mapping[str, Template]) -> None:
    template = templates["full"]
    keys = resources(template, "AWS::KMS::Key")
    [of_source] = [name for name in keys if name.startswith("Orders")]
    [of_results] = [name for name in keys if name.startswith("Key")]
    uses = {
        "map": allowed(template, role_of(machine_of(template)[1])),
        **{name: allowed(template, role_of(function_of(template, name)[1])) for name in ("plan", "account", "operate")},
    }
    source, results = f"<{of_source}.Arn>", f"<{of_results}.Arn>"
    ours = {source, results}
    decrypt = {name: texts(may.get("kms:Decrypt", [])) & ours for name, may in uses.items()}
    assert decrypt == {"map": ours, "plan": ours, "account": {results}, "operate": {results}}
    generate = {name: texts(may.get("kms:GenerateDataKey", [])) & ours for name, may in uses.items()}
    assert generate == {"map": {results}, "plan": {results}, "account": {results}, "operate": set()}


def test_a_listing_of_an_encrypted_bucket_needs_no_key(templates: Mapping[str, Template]) -> None:
    template = templates["everything"]
    for resource in (machine_of(template)[1], function_of(template, "plan")[1]):
        assert "kms:Decrypt" not in allowed(template, role_of(resource))


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_policy_allows_every_action_of_a_service(variant: str, templates: Mapping[str, Template]) -> None:
    for one in statements(templates[variant]):
        actions = as_list(one["Action"])
        assert not [action for action in actions if action == "*" or action.endswith(":*")], one


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_log_delivery_and_traces_are_allowed_on_every_resource(
    variant: str, templates: Mapping[str, Template]
) -> None:
    for name, policy in resources(templates[variant], "AWS::IAM::Policy").items():
        for one in policy["PolicyDocument"]["Statement"]:
            if name.startswith("Map") and "*" in as_list(one["Resource"]):
                assert all(action.startswith(("logs:", "xray:")) for action in one["Action"]), one


def test_nothing_depends_on_itself(templates: Mapping[str, Template]) -> None:
    """CloudFormation would refuse a circle, and synthesis does not see it."""
    for variant, template in templates.items():
        everything = template["Resources"]
        needs = {name: references(one) & set(everything) for name, one in everything.items()}
        while free := [name for name, needed in needs.items() if not needed & set(needs)]:
            for name in free:
                del needs[name]
        assert needs == {}, variant


def references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(references, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    found = set().union(*(references(inner) for inner in value.values())) if value else set()
    if isinstance(value.get("Ref"), str):
        found.add(value["Ref"])
    if "Fn::GetAtt" in value:
        found.add(value["Fn::GetAtt"][0])
    return found | set(as_list(value.get("DependsOn", [])) if "Type" in value else [])


# --- functions -----------------------------------------------------------------------------------------------


def test_the_functions(bare: Template) -> None:
    plan, account, operate = (function_of(bare, name)[1] for name in ("plan", "account", "operate"))
    assert (plan["Timeout"], account["Timeout"], operate["Timeout"]) == (900, 900, 300)
    assert (plan["MemorySize"], account["MemorySize"]) == (1024, 1024)
    # All they must know is in what they are called with.
    assert "Environment" not in plan
    assert "Environment" not in account
    assert operate["Environment"]["Variables"] == {
        "STATE_MACHINE_ARN": {"Ref": machine_of(bare)[0]},
        "RESULTS_BUCKET": {"Ref": results_of(bare)},
    }


@pytest.mark.parametrize(
    ("variant", "anew"),
    [("function", False), ("chain", False), ("failing chain", True), ("fargate", True), ("guarded", True)],
)
def test_the_operator_knows_whether_children_have_to_begin_anew(variant: str, anew: bool, stack: cdk.Stack) -> None:
    if variant == "failing chain":
        options: dict[str, Any] = {"processor": chain(stack).next(sfn.Fail(stack, "Bad"))}
    else:
        options = VARIANTS[variant](stack)
    processor(stack, **options)
    variables = function_of(template_of(stack), "operate")[1]["Environment"]["Variables"]
    assert ("CHILDREN_BEGIN_ANEW" in variables) == anew


@pytest.mark.parametrize("handler", ["plan", "account", "operate"])
def test_every_handler_is_there(handler: str) -> None:
    module = __import__(f"distributed_map.{handler}", fromlist=["handle"])
    assert list(inspect.signature(module.handle).parameters) == ["event", "context"] or callable(module.handle)


def test_answers_are_not_asked_again_and_all_else_is(bare: Template) -> None:
    for name in ("Plan", "Go on planning", "Account for all items"):
        state = definition(bare)["States"][name]
        answers, anything = state["Retry"]
        assert {"BadInput", "ItemsNotFound", "RunNotEnded"} < set(answers["ErrorEquals"])
        assert answers["MaxAttempts"] == 0
        assert (anything["ErrorEquals"], anything["MaxAttempts"]) == (["States.ALL"], 5)
        # Longer than the function may take.
        assert state["TimeoutSeconds"] > 900


# --- who is told ---------------------------------------------------------------------------------------------


def rule(template: Template, part: str) -> dict[str, Any]:
    [found] = [one for name, one in resources(template, "AWS::Events::Rule").items() if part in name]
    return found


def test_failures_of_the_map_are_told_by_an_event_to_the_report(bare: Template) -> None:
    found = rule(bare, "MapWorkflowUnseenEndings")
    assert found["EventPattern"]["detail"] == {
        "stateMachineArn": [{"Ref": machine_of(bare)[0]}],
        "$or": [
            {"status": ["TIMED_OUT", "ABORTED"]},
            {
                "status": ["FAILED"],
                "error": ["States.Runtime", "States.DataLimitExceeded", {"prefix": "States."}, {"exists": False}],
            },
        ],
    }
    [target] = found["Targets"]
    assert target["Arn"] == {"Ref": machine_of(bare, "Report")[0]}
    # The event as it is, which is what the report reads.
    assert not {"Input", "InputPath", "InputTransformer"} & set(target)
    assert "DeadLetterConfig" in target


def test_a_spool_gets_the_event_itself_and_the_others_the_report(templates: Mapping[str, Template]) -> None:
    template = templates["full"]
    targets = [text(one["Arn"]) for one in rule(template, "MapWorkflowUnseenEndings")["Targets"]]
    [inlet] = [
        name
        for name, one in resources(template, "AWS::Lambda::Function").items()
        if one["Handler"] == "spool.inlet.handle"
    ]
    assert targets == [f"<{machine_of(template, 'Report')[0]}>", f"<{inlet}.Arn>"]
    told = [name for name in definition(template, "Report")["States"] if name.startswith("Tell")]
    # The own function, the alert function and the topic; and of notices who is told of them.
    assert sorted(told) == [
        "Tell 1 of the failure",
        "Tell 2 of the failure",
        "Tell 3 of the failure",
        "Tell of the ending alone",
        "Tell of the notices",
    ]


def test_notices_are_told_to_those_who_are_told_of_failures_unless_said_otherwise(
    templates: Mapping[str, Template],
) -> None:
    bare = definition(templates["bare"])["States"]
    alert = bare["Tell of the failure"]["Parameters"]["FunctionName"]
    assert bare["Tell of the notices"]["Parameters"]["FunctionName"] == alert
    business = definition(templates["full"])["States"]["Tell of the notices"]["Parameters"]["TopicArn"]
    assert business.startswith("${Business")


def test_a_spool_is_not_told_of_notices(stack: cdk.Stack) -> None:
    processor(stack, failure_handlers=[ErrorSpool(stack, "Spool"), AlertFunction(stack, "Alert")])
    states = definition(template_of(stack))["States"]
    assert "QueueUrl" not in states["Tell of the notices"]["Parameters"]
    assert {"Tell 1 of the failure", "Tell 2 of the failure"} <= set(states)


def test_with_a_spool_alone_there_is_nothing_to_report_to(stack: cdk.Stack) -> None:
    construct = processor(stack, failure_handlers=[ErrorSpool(stack, "Spool")])
    assert construct.report is None
    template = template_of(stack)
    assert len(rule(template, "MapWorkflowUnseenEndings")["Targets"]) == 1
    assert "Are there notices?" not in definition(template)["States"]


def test_where_nobody_is_told_there_is_neither_rule_nor_report(templates: Mapping[str, Template]) -> None:
    template = templates["nobody to tell"]
    assert resources(template, "AWS::Events::Rule") == {}
    assert len(resources(template, "AWS::StepFunctions::StateMachine")) == 1


def test_who_is_told_of_notices_alone_is_told_of_those_of_failed_runs_too(stack: cdk.Stack) -> None:
    construct = processor(stack, failure_handlers=[], notice_handlers=[sns.Topic(stack, "Business")])
    assert construct.report is not None
    template = template_of(stack)
    assert len(rule(template, "MapWorkflowUnseenEndings")["Targets"]) == 1
    assert "Tell of the notices" in definition(template, "Report")["States"]


def test_the_spool_restarts_with_the_failed_items_alone(templates: Mapping[str, Template]) -> None:
    states = definition(templates["full"])["States"]
    [envelope] = [
        one["Parameters"]["MessageBody"]
        for name, one in states.items()
        if name.startswith("Tell") and "schemaVersion" in one["Parameters"].get("MessageBody", {})
    ]
    assert envelope["input.$"] == "$.again"


# --- triggers ------------------------------------------------------------------------------------------------


def test_a_schedule_of_the_scheduler(templates: Mapping[str, Template]) -> None:
    schedule = only(templates["full"], "AWS::Scheduler::Schedule")
    assert schedule["ScheduleExpressionTimezone"] == "Asia/Tokyo"
    assert schedule["Target"]["Arn"] == {"Ref": machine_of(templates["full"])[0]}
    assert schedule["Target"]["Input"] == "{}"
    assert "DeadLetterConfig" in schedule["Target"]


def test_a_schedule_that_is_a_rule(stack: cdk.Stack) -> None:
    construct = processor(stack, schedule=events.Schedule.rate(Duration.hours(1)))
    assert construct.rule is not None
    assert construct.schedule is None
    found = rule(template_of(stack), "Trigger")
    assert found["ScheduleExpression"] == "rate(1 hour)"


def test_an_event_is_the_input(templates: Mapping[str, Template]) -> None:
    found = rule(templates["full"], "MapOnEvent")
    assert found["EventPattern"] == {"source": ["my.orders"]}
    [target] = found["Targets"]
    assert target["Arn"] == {"Ref": machine_of(templates["full"])[0]}
    assert not {"Input", "InputPath", "InputTransformer"} & set(target)
    assert "DeadLetterConfig" in target


def test_without_a_trigger_it_runs_when_it_is_started(bare: Template) -> None:
    # Only that of the unseen endings.
    assert len(resources(bare, "AWS::Events::Rule")) == 1
    assert definition(bare)["TimeoutSeconds"] == 365 * 86_400


def test_how_long_a_run_may_take(templates: Mapping[str, Template]) -> None:
    assert definition(templates["full"])["TimeoutSeconds"] == 2 * 86_400


# --- a semaphore of the children -------------------------------------------------------------------------------


def test_the_semaphore_knows_the_children(templates: Mapping[str, Template]) -> None:
    template = templates["guarded"]
    id_, machine = machine_of(template)
    found = rule(template, "PermitsOf")
    assert [text(arn) for arn in found["EventPattern"]["detail"]["stateMachineArn"]] == [f"<{id_}>/items"]
    [quota] = [
        one
        for one in resources(template, "AWS::Lambda::Function").values()
        if one["Handler"] == "semaphore.handler.handle"
    ]
    may = allowed(template, role_of(quota))
    children = f"arn:<AWS::Partition>:states:<AWS::Region>:<AWS::AccountId>:execution:<{id_}.Name>/items:*"
    # The sweeper asks after those of which no event tells.
    assert texts(may["states:DescribeExecution"]) == texts(may["states:GetExecutionHistory"]) == {children}
    assert texts(may["states:SendTaskSuccess"]) == {f"<{id_}>/items"}
    assert any("Quota" in arn for arn in texts(allowed(template, role_of(machine))["lambda:InvokeFunction"]))


def test_a_guarded_function_answers_as_one_without_a_permit(templates: Mapping[str, Template]) -> None:
    states = the_map(templates["guarded"])["ItemProcessor"]["States"]
    assert states["Release quota"]["OutputPath"] == "$.result.Payload"
    assert states["Leave quota to the sweeper"]["InputPath"] == "$.result.Payload"
    assert states["Item failed"] == {"Type": "Fail", "ErrorPath": "$.error.Error", "CausePath": "$.error.Cause"}


def test_the_semaphore_may_lie_in_another_stack(app: cdk.App) -> None:
    shared, stack = cdk.Stack(app, "Shared"), cdk.Stack(app, "Stack")
    quota, incoming = Semaphore(shared, "Quota", limit=5), s3.Bucket(shared, "Incoming")
    processor(stack, source=S3Objects(bucket=incoming), semaphore=quota, results_bucket=s3.Bucket(shared, "Results"))
    template = template_of(stack)
    assert resources(template, "AWS::DynamoDB::Table") == {}
    assert resources(template, "AWS::S3::Bucket") == {}


def test_guarded_is_clean_at_synthesis(app: cdk.App, stack: cdk.Stack) -> None:
    guarded(stack)
    app.synth()


# --- alarms, metrics, dashboard --------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["bare", "full", "nobody to tell"])
def test_every_alarm_can_be_reached(variant: str, stack: cdk.Stack) -> None:
    construct = processor(stack, **VARIANTS[variant](stack))
    reached = len(construct.alarms)
    alarms = resources(template_of(stack), "AWS::CloudWatch::Alarm")
    ours = [one for name, one in alarms.items() if name.startswith("Map")]
    assert reached == len(ours)
    assert all(bool(one.get("AlarmActions")) is (variant == "full") for one in ours)


def test_what_has_an_alarm(bare: Template) -> None:
    found = sorted(
        (name.removeprefix("Map")[:6], one["MetricName"])
        for name, one in resources(bare, "AWS::CloudWatch::Alarm").items()
    )
    assert found == [
        ("Accoun", "Errors"),
        ("AlertD", "ApproximateNumberOfMessagesVisible"),
        ("AlertF", "Errors"),
        ("DeadLe", "ApproximateNumberOfMessagesVisible"),
        ("Operat", "Errors"),
        ("Report", "ExecutionsFailed"),
        ("Workfl", "ExecutionThrottled"),
        ("Workfl", "ExecutionsAborted"),
        ("Workfl", "ExecutionsFailed"),
        ("Workfl", "ExecutionsTimedOut"),
    ]


def test_the_metrics(stack: cdk.Stack) -> None:
    construct = processor(stack)
    metrics = {
        "Items": construct.metric_items(),
        "Succeeded": construct.metric_succeeded(),
        "Failed": construct.metric_failed(statistic="Maximum"),
        "NotRun": construct.metric_not_run(),
        "Notices": construct.metric_notices(period=Duration.hours(1)),
    }
    for name, metric in metrics.items():
        assert (metric.namespace, metric.metric_name) == ("ConstructsLib/DistributedMap", name)
        assert dict(metric.dimensions or {}) == {"Processor": "Stack/Map"}
    assert (metrics["Items"].statistic, metrics["Failed"].statistic) == ("Sum", "Maximum")
    assert metrics["Notices"].period.to_minutes() == 60


def test_it_is_named_for_people_after_the_stack_as_deployed(app: cdk.App) -> None:
    stack = cdk.Stack(app, "Stack", stack_name="production")
    construct = processor(stack)
    assert construct.name == "production/Map"
    # What the function that accounts calls it in its metrics.
    account = definition(template_of(stack))["States"]["Account for all items"]
    assert account["Parameters"]["Payload"]["settings"]["name"] == "production/Map"


def test_the_section_of_a_dashboard(stack: cdk.Stack) -> None:
    cloudwatch.Dashboard(stack, "Dashboard").add_widgets(*processor(stack).dashboard_widgets())
    body = only(template_of(stack), "AWS::CloudWatch::Dashboard")["DashboardBody"]
    shown = json.loads("".join(part if isinstance(part, str) else "…" for part in body["Fn::Join"][1]))["widgets"]
    titles = {
        one["properties"]["title"].rsplit(": ")[-1]: [metric[1] for metric in one["properties"]["metrics"]]
        for one in shown
    }
    assert titles == {
        "items": ["Items", "Succeeded", "Failed", "NotRun"],
        "notices": ["Notices"],
        "runs": ["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsAborted"],
        "children": ["ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut"],
        "function errors": ["Errors", "Errors", "Errors"],
        "dead letters": ["ApproximateNumberOfMessagesVisible"],
    }


# --- more than one ---------------------------------------------------------------------------------------------


def test_two_in_one_stack(stack: cdk.Stack) -> None:
    quota, results = Semaphore(stack, "Quota", limit=5), s3.Bucket(stack, "Results")
    for id_ in ("One", "Two"):
        processor(
            stack,
            id_,
            source=InputItems(),
            processor=function(stack, f"{id_}Work"),
            semaphore=quota,
            results_bucket=results,
        )
    template = template_of(stack)
    assert len(resources(template, "AWS::S3::Bucket")) == 1
    assert len(resources(template, "AWS::StepFunctions::StateMachine")) == 4


def test_no_physical_names_are_chosen(bare: Template) -> None:
    named = {
        (resource["Type"], name)
        for resource in bare["Resources"].values()
        for name in ("QueueName", "FunctionName", "BucketName", "StateMachineName", "TopicName", "RoleName")
        if resource["Type"] != "AWS::Lambda::Permission" and name in resource.get("Properties", {})
    }
    assert named == set()


def test_every_option_is_set_by_the_full_example(stack: cdk.Stack) -> None:
    parameters = inspect.signature(DistributedMapProcessor.__init__).parameters
    # Neither goes with what the example has.
    apart = {"semaphore", "results_retention"}
    assert set(full_options(stack)) == set(parameters) - {"self", "scope", "id_"} - apart


def test_what_is_inside_can_be_reached(stack: cdk.Stack) -> None:
    construct = processor(stack, processor=fargate_job(stack), source=S3Objects(bucket=bucket(stack)))
    assert len(construct.security_groups) == 1
    assert construct.alert is not None
    assert construct.report is not None
    assert construct.operate is construct.operator.function
    assert construct.plan is not construct.account
    assert (construct.rule, construct.schedule, construct.event_rule) == (None, None, None)


def test_an_own_key_may_lie_in_another_stack(app: cdk.App) -> None:
    shared, stack = cdk.Stack(app, "Shared"), cdk.Stack(app, "Stack")
    results = s3.Bucket(shared, "Results", encryption_key=kms.Key(shared, "Key"))
    processor(stack, results_bucket=results)
    template = template_of(stack)
    keys = texts(allowed(template, role_of(machine_of(template)[1]))["kms:GenerateDataKey"])
    assert any("ImportValue" in arn for arn in keys)
