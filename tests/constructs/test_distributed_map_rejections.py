"""What cannot work is refused at synthesis, with a message that says what to write instead."""

import datetime
import re
from collections.abc import Callable
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import Duration
from aws_cdk import aws_events as events
from aws_cdk import aws_stepfunctions as sfn
from aws_cdk import aws_stepfunctions_tasks as tasks

from constructs_lib import (
    Batch,
    ConfigurationError,
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
from tests.distributed_maps import chain, processor
from tests.pipelines import bucket, fargate_job, function, imported_function
from tests.scheduled import template_of

Options = Callable[[cdk.Stack], dict[str, Any]]

EXPRESS = sfn.ProcessorType.EXPRESS
PREFIX = "Pass for example 'incoming/{date:%Y/%m/%d}/'; a brace itself is written twice."
KEY = "Pass for example 'lists/{date:%Y-%m-%d}.csv'; a brace itself is written twice."
CONSTANTS = "Pass for example constants={'target': 'archive'}."
TOLERANCE = "Pass for example FailureTolerance.percentage(5)."
LABEL = "Pass for example 'orders', or leave it out."
HEADERS = "Pass for example ['id', 'name'], or leave it out where the first row has the names."


def objects(**fields: Any) -> Options:
    return lambda stack: {"source": S3Objects(**{"bucket": bucket(stack), **fields})}


def csv(**fields: Any) -> Options:
    return lambda stack: {"source": CsvItems(**{"bucket": bucket(stack), "key": "list.csv", **fields})}


def token(stack: cdk.Stack) -> str:
    return cdk.CfnParameter(stack, "Text").value_as_string


def waiting_chain(stack: cdk.Stack) -> sfn.IChainable:
    run = tasks.StepFunctionsStartExecution(
        stack,
        "Run another",
        state_machine=sfn.StateMachine(
            stack, "Other", definition_body=sfn.DefinitionBody.from_chainable(sfn.Pass(stack, "Nothing"))
        ),
        integration_pattern=sfn.IntegrationPattern.RUN_JOB,
    )
    return sfn.Pass(stack, "First").next(run)


# The message follows the path of the construct and a colon.
REJECTIONS: list[tuple[Options, str]] = [
    # Where items come from
    (
        lambda stack: {"source": bucket(stack)},
        "source must be of type ItemSource, got ",
    ),
    (
        objects(bucket="incoming"),
        "source.bucket must be a bucket, got 'incoming'. Pass for example s3.Bucket(self, 'Incoming').",
    ),
    (objects(prefix=5), f"source.prefix must be of type str, got 5. {PREFIX}"),
    (
        lambda stack: {"source": S3Objects(bucket=bucket(stack), prefix=token(stack))},
        f"source.prefix must be known at synthesis, got a token. {PREFIX}",
    ),
    (
        objects(prefix="in/{date"),
        "source.prefix cannot be read: expected '}' before end of string, got 'in/{date'. " + PREFIX,
    ),
    (objects(prefix="in/{}/"), f"source.prefix must have nothing but the date in braces, got 'in/{{}}/'. {PREFIX}"),
    (
        objects(prefix="in/{day}/"),
        f"source.prefix must have nothing but the date in braces, got 'in/{{day}}/'. {PREFIX}",
    ),
    (
        objects(prefix="in/{date.year}/"),
        f"source.prefix must have nothing but the date in braces, got 'in/{{date.year}}/'. {PREFIX}",
    ),
    (
        objects(prefix="in/{date!r}/"),
        f"source.prefix must have nothing but the date in braces, got 'in/{{date!r}}/'. {PREFIX}",
    ),
    (
        objects(prefix="in/{date:%H}/"),
        f"source.prefix must have a format of a date, as strftime knows it, got 'in/{{date:%H}}/'. {PREFIX}",
    ),
    (
        objects(prefix="in/{date:%Y{date}}/"),
        f"source.prefix must have a format of a date, as strftime knows it, got 'in/{{date:%Y{{date}}}}/'. {PREFIX}",
    ),
    (objects(prefix="ü" * 513), f"source.prefix must have 0 to 1024 bytes, got {'ü' * 513!r}. {PREFIX}"),
    (objects(patterns="*.csv"), "source.patterns must be a list of texts, got '*.csv'. Pass for example ['*.csv']."),
    (objects(patterns=[""]), "source.patterns must have 1 to 1024 bytes each, got ''. Pass for example ['*.csv']."),
    (
        objects(patterns=["**"]),
        "source.patterns cannot be read: two * must not follow each other, got '**'. Pass for example ['*.csv'].",
    ),
    (
        objects(min_size=-1),
        "source.min_size must be a whole number from 0 to 53687091200000, got -1. Pass for example 1.",
    ),
    (
        objects(min_size=10, max_size=9),
        "source.max_size must not be less than min_size (10), got 9. Swap the two, or leave one out.",
    ),
    (objects(folder_markers="yes"), "source.folder_markers must be of type bool, got 'yes'. Pass True or False."),
    (
        objects(max_items=0),
        "source.max_items must be a whole number from 1 to 100000000, got 0. Pass for example 1.",
    ),
    (csv(key=""), f"source.key must have 1 to 1024 bytes, got ''. {KEY}"),
    (
        csv(key="{date:%Q}.csv"),
        f"source.key must have a format of a date, as strftime knows it, got '{{date:%Q}}.csv'. {KEY}",
    ),
    (csv(headers="id"), f"source.headers must be a list of texts, got 'id'. {HEADERS}"),
    (csv(headers=[]), f"source.headers must be names, each once, got []. {HEADERS}"),
    (csv(headers=["id", "id"]), f"source.headers must be names, each once, got ['id', 'id']. {HEADERS}"),
    (
        csv(headers=[f"{number:04}{'x' * 1000}" for number in range(11)]),
        "source.headers must have at most 10 KiB together, got ",
    ),
    (
        csv(delimiter=","),
        "source.delimiter must be of type CsvDelimiter, got ','. Pass for example sfn.CsvDelimiter.TAB.",
    ),
    (
        lambda stack: {"source": InputItems(path="items")},
        "source.path must be a path of names into the input, got 'items'. Pass for example '$.items'.",
    ),
    (
        lambda stack: {"source": InputItems(path="$.items[*]")},
        "source.path must be a path of names into the input, got '$.items[*]'. Pass for example '$.items'.",
    ),
    # What is done with them
    (
        lambda stack: {"processor": "function"},
        "processor must be a FargateJob, a function or a chain of states, got 'function'. "
        "Pass for example FargateJob(cluster=…, task_definition=…).",
    ),
    (
        lambda stack: {"processor": fargate_job(stack, environment={"KEY": sfn.JsonPath.string_at("$.object.key")})},
        "processor must take from the input what is there: $.item, $.run, $.constants, got '$.object.key'. "
        "Correct the path, for example $.item.",
    ),
    (
        lambda stack: {
            "processor": fargate_job(stack, environment={"KEY": sfn.JsonPath.string_at("$.item.Key")}),
            "batch": Batch(max_bytes=4096),
        },
        "processor must take from the input what is there: $.Items, $.BatchInput, got '$.item.Key'. "
        "Correct the path, for example $.Items.",
    ),
    (lambda stack: {"batch": 100}, "batch must be of type Batch, got 100. Pass for example Batch(max_items=100)."),
    (
        lambda stack: {"batch": Batch()},
        "batch must say how many items or bytes, got Batch(max_items=None, max_bytes=None). "
        "Pass for example max_items=100.",
    ),
    (
        lambda stack: {"batch": Batch(max_items=0)},
        "batch.max_items must be a whole number from 1 to 100000, got 0. Pass for example 1.",
    ),
    (
        lambda stack: {"batch": Batch(max_bytes=262_145)},
        "batch.max_bytes must be a whole number from 1 to 262144, got 262145. Pass for example 1.",
    ),
    (
        lambda stack: {"processor": fargate_job(stack), "batch": Batch(max_items=10)},
        "batch.max_bytes must be at most 4096 with a FargateJob, whose container gets its items in its environment, "
        "got None. Pass max_bytes=4096.",
    ),
    (lambda stack: {"constants": ["a"]}, f"constants must be of type Mapping, got ['a']. {CONSTANTS}"),
    (
        lambda stack: {"constants": {"a": {"path.$": "$.x"}}},
        "constants must be JSON: the key 'path.$' would be taken for a path, got {'a': {'path.$': '$.x'}}. "
        f"{CONSTANTS}",
    ),
    (
        lambda stack: {"constants": {"a": [None]}},
        f"constants must be JSON: None is left out, got {{'a': [None]}}. {CONSTANTS}",
    ),
    (
        lambda stack: {"constants": {5: "a"}},
        f"constants must be JSON: the key 5 is no text, got {{5: 'a'}}. {CONSTANTS}",
    ),
    (
        lambda stack: {"constants": {"day": datetime.date(2026, 11, 21)}},
        "constants must be JSON: datetime.date(2026, 11, 21) is none, got {'day': datetime.date(2026, 11, 21)}. "
        f"{CONSTANTS}",
    ),
    (
        lambda stack: {"constants": {"a": float("nan")}},
        f"constants must be JSON: nan is no number in JSON, got {{'a': nan}}. {CONSTANTS}",
    ),
    # How
    (
        lambda stack: {"execution_type": "EXPRESS"},
        "execution_type must be of type ProcessorType, got 'EXPRESS'. Pass for example sfn.ProcessorType.STANDARD.",
    ),
    (
        lambda stack: {"processor": fargate_job(stack), "execution_type": EXPRESS},
        "processor must not be a FargateJob with Express children, which cannot wait for a task, got 'Stack/Task'. "
        "Leave out execution_type.",
    ),
    (
        lambda stack: {"processor": function(stack, timeout=Duration.seconds(301)), "execution_type": EXPRESS},
        "processor must not have a timeout above 5 minutes with Express children, which take no longer, "
        "got Duration of 5 minutes 1 second. Shorten it. Or: Leave out execution_type.",
    ),
    (
        lambda stack: {"processor": waiting_chain(stack), "execution_type": EXPRESS},
        "processor must not wait for a task with Express children, which cannot, got 'Run another'. "
        "Leave out execution_type.",
    ),
    (
        lambda stack: {"semaphore": Semaphore(stack, "Quota", limit=5), "execution_type": EXPRESS},
        "semaphore must not be given with Express children, which cannot wait for a permit, got 'Stack/Quota'. "
        "Leave out execution_type, or limit them with max_concurrency.",
    ),
    (
        lambda stack: {"semaphore": 5},
        "semaphore must be of type SharedSemaphore, got 5. Pass for example Semaphore(self, 'Quota', limit=5).",
    ),
    (
        lambda stack: {"max_concurrency": 0},
        "max_concurrency must be a whole number from 1 to 10000, got 0. Pass for example 1.",
    ),
    (
        lambda stack: {"max_concurrency": 10_001},
        "max_concurrency must be a whole number from 1 to 10000, got 10001. Pass for example 1.",
    ),
    (
        lambda stack: {"tolerance": 5},
        f"tolerance must be of type FailureTolerance, got 5. {TOLERANCE}",
    ),
    (
        lambda stack: {"tolerance": FailureTolerance("strict")},  # type: ignore[arg-type]
        f"tolerance must be one of none, count, percentage, collect, got 'strict'. {TOLERANCE}",
    ),
    (
        lambda stack: {"tolerance": FailureTolerance.count(-1)},
        "tolerance must be a whole number from 0 to 100000000, got -1. Pass for example 1.",
    ),
    (
        lambda stack: {"tolerance": FailureTolerance.percentage(101)},
        "tolerance must be a whole number from 0 to 100, got 101. Pass for example 1.",
    ),
    (
        lambda stack: {"tolerance": FailureTolerance.percentage(float("nan"))},  # type: ignore[arg-type]
        "tolerance must be a whole number from 0 to 100, got nan. Pass for example 1.",
    ),
    (
        lambda stack: {"tolerance": FailureTolerance.percentage("5")},  # type: ignore[arg-type]
        "tolerance must be a whole number from 0 to 100, got '5'. Pass for example 1.",
    ),
    (
        lambda stack: {"on_empty": "ignore"},
        "on_empty must be 'succeed' or 'fail', got 'ignore'. Leave it out to succeed.",
    ),
    (lambda stack: {"label": "a b"}, f"label must have 1 to 40 letters, digits, - or _, got 'a b'. {LABEL}"),
    (lambda stack: {"label": "x" * 41}, f"label must have 1 to 40 letters, digits, - or _, got {'x' * 41!r}. {LABEL}"),
    (lambda stack: {"label": "größe"}, f"label must have 1 to 40 letters, digits, - or _, got 'größe'. {LABEL}"),
    (lambda stack: {"label": token(stack)}, f"label must have 1 to 40 letters, digits, - or _, got a token. {LABEL}"),
    # When
    (
        lambda stack: {"time_zone": "Asia/Tokyo"},
        "time_zone must be of type TimeZone, got 'Asia/Tokyo'. Pass for example TimeZone.EUROPE_BERLIN.",
    ),
    (
        lambda stack: {"days_back": -1},
        "days_back must be a whole number from 0 to 3650, got -1. Pass for example 1.",
    ),
    (
        lambda stack: {"schedule": events.Schedule.expression("every day")},
        "schedule must be a schedule expression: neither rate(…), cron(…) nor at(…), got 'every day'. "
        "Write for example rate(5 minutes) or cron(0 3 * * ? *).",
    ),
    (
        lambda stack: {"source": InputItems(), "schedule": events.Schedule.rate(Duration.hours(1))},
        "schedule is of no use with InputItems: a schedule starts runs without any, got 'rate(1 hour)'. "
        "Leave it out, or take the items from S3.",
    ),
    (
        lambda stack: {"event_pattern": {"source": ["my.orders"]}},
        "event_pattern must be of type EventPattern, got {'source': ['my.orders']}. "
        "Pass for example events.EventPattern(source=['my.orders']).",
    ),
    (
        lambda stack: {"execution_timeout": Duration.days(366)},
        "execution_timeout must be at most 365 days, got Duration of 366 days. "
        "Pass Duration.seconds(31536000) or less.",
    ),
    # Where results go
    (
        lambda stack: {"results_bucket": "results"},
        "results_bucket must be a bucket, got 'results'. Pass for example s3.Bucket(self, 'Results').",
    ),
    (
        lambda stack: {"results_bucket": bucket(stack, "results"), "results_retention": Duration.days(5)},
        "results_retention must not be given beside results_bucket, which has lifecycle rules of its own, "
        "got Duration of 5 days. Leave it out.",
    ),
    (
        lambda stack: {"results_retention": Duration.hours(36)},
        "results_retention must be in whole days, got Duration of 1 day 12 hours. Pass for example Duration.days(30).",
    ),
    # Who is told
    (
        lambda stack: {"failure_handlers": ["on-call@example.com"]},
        "failure_handlers must be functions, topics or handlers, got 'on-call@example.com'. "
        "Pass for example [AlertFunction(self, 'Alert')].",
    ),
    (
        lambda stack: {"notice_handlers": [5]},
        "notice_handlers must be functions, topics or handlers, got 5. "
        "Pass for example [AlertFunction(self, 'Alert')].",
    ),
]


@pytest.mark.parametrize(("options", "message"), REJECTIONS, ids=[message[:60] for _, message in REJECTIONS])
def test_what_cannot_work_is_refused(options: Options, message: str, stack: cdk.Stack) -> None:
    # What has no words of its own, or too many, is at the end of the expected text.
    end = "" if message.endswith("got ") else "$"
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'Stack/Map: {message}')}{end}"):
        processor(stack, **options(stack))


def test_an_id_that_is_taken_is_refused(stack: cdk.Stack) -> None:
    processor(stack)
    message = "Stack: id must be unique within its scope, got 'Map'. Give this construct another id."
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        DistributedMapProcessor(stack, "Map", source=InputItems(), processor=imported_function(stack))


def test_a_spool_is_told_of_failures_only(stack: cdk.Stack) -> None:
    spool = ErrorSpool(stack, "Spool")
    for argument in ("success_handlers", "notice_handlers"):
        with pytest.raises(ConfigurationError, match=f"{argument} must not have an error spool, got 'Stack/Spool'"):
            processor(stack, f"Map{argument[:3]}", **{argument: [spool]})


ACCEPTED: list[Options] = [
    objects(prefix="", patterns=["*.csv", "a\\*b"], min_size=0, max_size=0, folder_markers=True, max_items=100_000_000),
    objects(prefix="in/{{x}}/{date:%Y-%m-%d}/{date:%-d}"),
    objects(prefix="{date}"),
    csv(key="orders.csv"),
    lambda stack: {"source": JsonItems(bucket=bucket(stack), key="a/{date:%j}.json", max_items=1)},
    lambda stack: {"source": JsonLinesItems(bucket=bucket(stack), key="a.jsonl")},
    lambda stack: {"source": ParquetItems(bucket=bucket(stack), key="a.parquet")},
    lambda stack: {"source": InventoryItems(bucket=bucket(stack), key="manifest.json")},
    lambda stack: {"source": InputItems(path="$.detail.order_lines", max_items=10)},
    lambda stack: {"processor": chain(stack), "execution_type": EXPRESS},
    lambda stack: {"processor": function(stack, timeout=Duration.minutes(5)), "execution_type": EXPRESS},
    lambda stack: {"execution_type": EXPRESS},
    lambda stack: {"processor": fargate_job(stack), "batch": Batch(max_bytes=4096)},
    lambda stack: {"processor": fargate_job(stack, environment={"KEY": sfn.JsonPath.string_at("$.item.any.thing")})},
    lambda stack: {"constants": {"arn": token(stack), "empty": {}, "zero": 0, "no": False}},
    lambda stack: {"tolerance": FailureTolerance.count(0), "max_concurrency": 10_000, "label": "x" * 40},
    lambda stack: {"tolerance": FailureTolerance.percentage(100), "failure_handlers": [], "on_empty": "fail"},
    lambda stack: {"results_retention": Duration.days(1), "days_back": 3650},
    lambda stack: {"schedule": events.Schedule.rate(Duration.hours(1))},
]


@pytest.mark.parametrize("number", range(len(ACCEPTED)))
def test_nothing_legal_is_refused(number: int, stack: cdk.Stack) -> None:
    processor(stack, **ACCEPTED[number](stack))
    assert template_of(stack)
