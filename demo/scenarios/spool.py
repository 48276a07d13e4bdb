"""The error spool: a neighbour that is down for a while, an input that never works, a redrive, and the button."""

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from demo import browser, widget
from demo.bookings import Bookings
from demo.concurrency import peak
from demo.play import Facts, Record, Scenario
from demo.quota import Quota
from demo.runs import Run, StateMachine
from demo.stage import Stage
from demo.waiting import eventually

_STACK = "SpoolExample"

# Of the example: how many orders may be at the neighbour, and after how many failures new ones are held.
_LIMIT, _FAILURES_IN_A_ROW = 2, 5
_HELD = 7
_SLOW = 0.5  # seconds
_REPORTS = 2
_MOST_CALLS = 5
_MARKUP = "<script>alert(1)</script>"

_WIDTH, _HEIGHT = 1100, 740
_PICTURE = f"{_WIDTH} x {_HEIGHT}"
_NO_PICTURE = "left out, as there is no chromium: only the HTML was looked at"

_NOTHING_LEFT: Facts = {
    "in the spool at the end": 0,
    "in quarantine at the end": 0,
    "in the dead letters": 0,
    "breaker at the end": "closed, 0 failures in a row",
}


def scenarios(stage: Stage) -> Sequence[Scenario]:
    """The scenarios of this part."""
    spool = _Spool(stage)
    scenario = partial(Scenario, turn=threading.Lock())
    inputs = _FAILURES_IN_A_ROW + _HELD
    return [
        scenario(
            "spool/every input processed exactly once when the neighbour is back",
            {
                "failed while it is down": _FAILURES_IN_A_ROW,
                "in the spool": _FAILURES_IN_A_ROW,
                "held before the call after that": _HELD,
                "executions of these inputs in the end": f"{inputs} SUCCEEDED, {_FAILURES_IN_A_ROW} FAILED",
                "started again without anybody's doing": _FAILURES_IN_A_ROW,
                "at the neighbour at once, at the most": _LIMIT,
                "inputs processed exactly once": inputs,
                "other inputs": 0,
                "in use at the end": 0,
                **_NOTHING_LEFT,
            },
            spool.neighbour_is_back,
        ),
        scenario(
            "spool/a poison input ends in quarantine",
            {
                "executions of it": "3 FAILED",
                "in the spool": 0,
                "in quarantine": 1,
                "why": "it failed 3 times",
                "failures in its history": 3,
                "an operator drops it": "dropped",
                "a sound input": "SUCCEEDED",
                **_NOTHING_LEFT,
            },
            spool.poison,
        ),
        scenario(
            "spool/a redrive does not run finished steps again",
            {
                "executions while it is down": f"{_REPORTS} FAILED",
                "what became of them": f"redriven: {_REPORTS}",
                "the same executions in the end": f"{_REPORTS} SUCCEEDED",
                "redrives of each": ", ".join("1" for _ in range(_REPORTS)),
                "first step entered": ", ".join("1" for _ in range(_REPORTS)),
                "first step done": ", ".join("1" for _ in range(_REPORTS)),
                "inputs processed exactly once": _REPORTS,
                **_NOTHING_LEFT,
            },
            spool.redrive,
        ),
        scenario(
            "spool/the button",
            {
                "in the table": "NeighbourDownError: 3, RefusedError: 1",
                "buttons": "Park: 2, Reprocess: 2, Reprocess 2: 1, Reprocess all: 1",
                "buttons that do not ask first": 0,
                "markup in an input": "shown as text",
                "picture": _PICTURE if browser.there_is_one() else _NO_PICTURE,
                "in quarantine after Park": 1,
                "inputs processed once after Reprocess all": 3,
                "in the spool after Release all": 1,
                **_NOTHING_LEFT,
            },
            spool.button,
        ),
    ]


class _Spool:
    """The deployed example, and what can be seen of it from outside."""

    def __init__(self, stage: Stage) -> None:
        stack = stage.stack(_STACK)
        self._build = stage.build
        self._orders = StateMachine(stage.aws, stack.output("OrdersArn"), work=["Book the order"])
        self._reports = StateMachine(stage.aws, stack.output("ReportsArn"), work=["Send the report"])
        self._neighbour = Bookings(stage.aws, stack.output("MoodName"), stack.output("BookingsName"))
        self._capacity = Quota(stage.aws, stack.output("CapacityFunctionName"))
        self._spool, self._quarantine = stack.output("SpoolUrl"), stack.output("QuarantineUrl")
        self._dead_letters = stack.physical_id("AWS::SQS::Queue", "SpoolDeadLetters")
        self._reprocessor, self._widget = stack.output("ReprocessorName"), stack.output("WidgetName")
        self._breaker = stack.output("BreakerName")
        self._counter = stack.physical_id("AWS::DynamoDB::Table", "HoldCounter")
        self._probe = stack.physical_id("AWS::Events::Rule", "HoldProbe")
        self._states: Any = stage.aws.client("stepfunctions")
        self._sqs: Any = stage.aws.client("sqs")
        self._lambda: Any = stage.aws.client("lambda")
        self._events: Any = stage.aws.client("events")
        self._dynamodb: Any = stage.aws.client("dynamodb")

    # --- scenarios --------------------------------------------------------------------------------------

    def neighbour_is_back(self, record: Record) -> Facts:
        record.limit, record.definition = _LIMIT, self._orders.definition
        before = set(self._orders.executions())
        names = [f"order {number}" for number in range(_FAILURES_IN_A_ROW + _HELD)]
        # It would probe while the neighbour is still down.
        self._events.disable_rule(Name=self._probe)
        try:
            with self._neighbour.down(seconds=_SLOW):
                for name in names[:_FAILURES_IN_A_ROW]:
                    self._order(name)
                eventually(self._breaker_is, lambda breaker: breaker.startswith("open"))
                for name in names[_FAILURES_IN_A_ROW:]:
                    self._order(name)
                held = self._capacity.settles(waiting=_HELD, inUse=0)["waiting"]
                spooled = self._settled(self._spool, _FAILURES_IN_A_ROW)
                failed = Counter(self._orders.statuses()[arn] for arn in self._new(before))["FAILED"]
        finally:
            self._events.enable_rule(Name=self._probe)
        # As the rule does every minute.
        self._ask(self._breaker, {"action": "probe"})
        booked = eventually(lambda: self._neighbour.counted("booked", names), lambda counts: 0 not in counts.values())
        runs = [self._orders.finish(arn, _label(arn)) for arn in reversed(self._new(before))]
        record.runs += runs
        return {
            "failed while it is down": failed,
            "in the spool": spooled,
            "held before the call after that": held,
            "executions of these inputs in the end": _ends(runs),
            "started again without anybody's doing": sum(run.label.startswith("again-") for run in runs),
            "at the neighbour at once, at the most": peak(runs),
            "inputs processed exactly once": _once(booked),
            "other inputs": len(booked) - _once(booked),
            "in use at the end": self._capacity.settles(inUse=0)["inUse"],
            **self._left(),
        }

    def poison(self, record: Record) -> Facts:
        record.definition = self._orders.definition
        before = set(self._orders.executions())
        self._order("poison", amount=0)
        for _ in range(_MOST_CALLS):
            at_rest = eventually(self._rests, lambda counts: sum(counts) == 1)
            if at_rest == (0, 1):
                break
            self._reprocess({})
        runs = [self._orders.finish(arn, "poison") for arn in reversed(self._new(before))]
        record.runs += runs
        spooled, parked = self._settled(self._spool, 0), self._settled(self._quarantine, 1)
        notes = self._notes()
        dropped = self._ask(self._reprocessor, {"action": "drop", "id": notes["id"], "confirm": True})["outcomes"]
        sound = self._orders.finish(self._order("sound, after the poison"), "sound")
        return {
            "executions of it": _ends(runs),
            "in the spool": spooled,
            "in quarantine": parked,
            "why": notes["reason"],
            "failures in its history": len(json.loads(notes["history"])),
            "an operator drops it": ", ".join(dropped),
            "a sound input": sound.status,
            **self._left(),
        }

    def redrive(self, record: Record) -> Facts:
        record.definition = self._reports.definition
        names = [f"report {number}" for number in range(_REPORTS)]
        with self._neighbour.down(seconds=_SLOW):
            arns = [self._report(name) for name in names]
            failed = [self._reports.finish(arn, name) for arn, name in zip(arns, names, strict=True)]
            self._settled(self._spool, _REPORTS)
        outcomes = self._reprocess({"stateMachine": self._reports.arn})["outcomes"]
        booked = eventually(lambda: self._neighbour.counted("booked", names), lambda counts: 0 not in counts.values())
        runs = [self._reports.finish(arn, f"{name}, redriven") for arn, name in zip(arns, names, strict=True)]
        record.runs += runs
        redrives = [self._states.describe_execution(executionArn=arn)["redriveCount"] for arn in arns]
        return {
            "executions while it is down": _ends(failed),
            "what became of them": _listed(outcomes),
            "the same executions in the end": _ends(runs),
            "redrives of each": ", ".join(map(str, redrives)),
            "first step entered": ", ".join(str(run.visits["Make the report"]) for run in runs),
            "first step done": ", ".join(map(str, self._neighbour.counted("prepared", names).values())),
            "inputs processed exactly once": _once(booked),
            **self._left(),
        }

    def button(self, record: Record) -> Facts:
        names = ["order of Monday", "report of Monday", f"report of {_MARKUP}"]
        self._orders.finish(self._order("order of nothing", amount=0), "")
        with self._neighbour.down():
            self._orders.finish(self._order(names[0]), "")
            for name in names[1:]:
                self._reports.finish(self._report(name), "")
            self._settled(self._spool, len(names) + 1)
        shown = widget.read(self._page())
        self._press(shown.button("Park", error="RefusedError"))
        parked = self._settled(self._quarantine, 1)
        self._settled(self._spool, len(names))
        page = self._page()
        picture = self._take_picture(record, page)
        self._press(shown.button("Reprocess all"))
        booked = eventually(lambda: self._neighbour.counted("booked", names), lambda counts: 0 not in counts.values())
        self._settled(self._spool, 0)
        self._press(widget.read(page).button("Release all"))
        released = self._settled(self._spool, 1)
        self._settled(self._quarantine, 0)
        # Only what is in quarantine can be dropped.
        self._ask(self._reprocessor, {"action": "park", "error": "RefusedError"})
        self._ask(self._reprocessor, {"action": "drop", "id": self._notes()["id"], "confirm": True})
        return {
            "in the table": ", ".join(f"{row[0]}: {row[1]}" for row in sorted(shown.rows)),
            "buttons": _listed(Counter(button.label for button in shown.buttons)),
            "buttons that do not ask first": sum(not button.question for button in shown.buttons),
            "markup in an input": "shown as text" if _MARKUP in shown.text and "script" not in shown.tags else "lost",
            "picture": picture,
            "in quarantine after Park": parked,
            "inputs processed once after Reprocess all": _once(booked),
            "in the spool after Release all": released,
            **self._left(),
        }

    # --- doing ------------------------------------------------------------------------------------------

    def _order(self, name: str, *, amount: int = 1) -> str:
        return self._orders.start(name, {"name": name, "amount": amount})

    def _report(self, name: str) -> str:
        return self._reports.start(name, {"name": name, "amount": 1})

    def _reprocess(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return dict(self._ask(self._reprocessor, {"action": "reprocess", **request}))

    def _page(self) -> str:
        """The widget's page, as CloudWatch gets it when a dashboard is opened."""
        return str(self._ask(self._widget, {"widgetContext": {"dashboardName": "Operations"}}))

    def _press(self, button: widget.Button) -> None:
        """What CloudWatch does when somebody presses a button and says yes."""
        self._ask(self._widget, {**button.event, "widgetContext": {"dashboardName": "Operations"}})

    def _take_picture(self, record: Record, page: str) -> str:
        html, picture = self._build / "widget.html", self._build / "widget.png"
        picture.unlink(missing_ok=True)
        html.write_text(
            widget.as_document(page, dashboard="Operations", title=f"{_STACK}/Spool: failures"), encoding="utf-8"
        )
        if not browser.there_is_one():
            return _NO_PICTURE
        record.picture = browser.take_picture(html, picture, width=_WIDTH, height=_HEIGHT)
        return " x ".join(map(str, browser.size_of(record.picture)))

    def _ask(self, function: str, request: Mapping[str, Any]) -> Any:
        reply = self._lambda.invoke(FunctionName=function, Payload=json.dumps(request))
        answer = json.loads(reply["Payload"].read())
        if "FunctionError" in reply:
            raise RuntimeError(f"{request}: {answer}")
        return answer

    # --- looking ----------------------------------------------------------------------------------------

    def _new(self, before: set[str]) -> list[str]:
        """The orders' executions since then, newest first."""
        return [arn for arn in self._orders.executions() if arn not in before]

    def _settled(self, queue: str, count: int) -> int:
        """How many messages can be received from a queue, as soon as they are so many and none is just being read."""
        return sum(eventually(lambda: self._counts(queue), lambda counts: counts == (count, 0)))

    def _counts(self, queue: str) -> tuple[int, int]:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        visible, hidden = (int(attributes[name]) for name in names)
        return visible, hidden

    def _rests(self) -> tuple[int, int]:
        """How many messages the spool and the quarantine have that nobody is just reading."""
        (spooled, _), (parked, _) = self._counts(self._spool), self._counts(self._quarantine)
        return spooled, parked

    def _notes(self) -> Mapping[str, str]:
        """What is noted beside the only message in quarantine. It stays there."""
        [message] = self._sqs.receive_message(
            QueueUrl=self._quarantine, VisibilityTimeout=0, MessageAttributeNames=["All"]
        )["Messages"]
        return {name: str(value["StringValue"]) for name, value in message["MessageAttributes"].items()}

    def _breaker_is(self) -> str:
        item = self._dynamodb.get_item(TableName=self._counter, Key={"id": {"S": "breaker"}}, ConsistentRead=True)
        if "Item" not in item:
            return "closed, 0 failures in a row"
        breaker = json.loads(item["Item"]["breaker"]["S"])
        # It notes its state first, and then sets the semaphore.
        state = breaker["state"] if breaker["applied"] else f"soon {breaker['state']}"
        return f"{state}, {breaker['failures']} failures in a row"

    def _left(self) -> Facts:
        """What is still there when all is over."""
        calm = _NOTHING_LEFT["breaker at the end"]
        return {
            "in the spool at the end": self._settled(self._spool, 0),
            "in quarantine at the end": self._settled(self._quarantine, 0),
            "in the dead letters": sum(self._counts(self._dead_letters)),
            "breaker at the end": eventually(self._breaker_is, lambda breaker: breaker == calm),
        }


def _label(arn: str) -> str:
    return arn.rsplit(":", 1)[-1]


def _ends(runs: Sequence[Run]) -> str:
    """How often executions ended in which way."""
    ends = Counter(run.status for run in runs)
    return ", ".join(f"{count} {status}" for status, count in sorted(ends.items(), reverse=True))


def _once(counts: Mapping[str, int]) -> int:
    return sum(count == 1 for count in counts.values())


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
