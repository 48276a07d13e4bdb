"""What operators ask for: run again what was not done, change a run that is under way, and look at it."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, NoReturn

from botocore.exceptions import ClientError

from distributed_map.layout import Layout
from distributed_map.runs import GOING_ON, Runs, iso, stepfunctions
from distributed_map.store import Store, code_of
from pipeline.patience import Patience

FAILED = ("FAILED", "TIMED_OUT", "ABORTED")

UNCAUGHT = (
    "States.DataLimitExceeded",
    "States.ExceedToleratedFailureThreshold",
    "States.ItemReaderFailed",
    "States.ResultWriterFailed",
    "States.Runtime",
)
"""Errors that end a run at its map, where a redrive resumes it. After any other it would resume at the very end."""

MODES = ("auto", "redrive", "restart")
LONGEST_BEGINNING = 40
MOST_CONCURRENCY = 10_000


class InvalidRequestError(ValueError):
    """The event is not one that this function understands, or what it asks for cannot be done."""


def handle(event: object, context: Any) -> dict[str, Any]:
    """Does what an event asks for, and tells what was done, or `error` where it cannot be done.

    The event's `action`, with what else it takes:
        rerun: Processes what a run has not done. `execution`, the ARN of the run (default: the newest that failed);
            `mode`, `auto`, `redrive` or `restart`; `dryRun`, only tells what it would do. Twice, it starts one.
        update: Changes runs that are under way. `execution` (default: all of them); at least one of `maxConcurrency`
            (0 is no limit), `toleratedFailureCount`, `toleratedFailurePercentage`.
        status: The runs that are under way, with their items.

    Environment: `STATE_MACHINE_ARN`, `RESULTS_BUCKET`, `CHILDREN_BEGIN_ANEW` (any text, where a child that did not
    succeed is not to be resumed). What AWS refuses for reasons of its own is raised.
    """
    operator = Operator(
        machine=os.environ["STATE_MACHINE_ARN"],
        bucket=os.environ["RESULTS_BUCKET"],
        children_begin_anew=bool(os.environ.get("CHILDREN_BEGIN_ANEW")),
        patience=Patience.of(context),
    )
    actions: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
        "rerun": operator.rerun,
        "update": operator.update,
        "status": operator.status,
    }
    try:
        request = event if isinstance(event, dict) else _refuse("the event must be an object", event)
        action = request.get("action")
        if not isinstance(action, str) or action not in actions:
            _refuse(f"the event needs an action, one of {', '.join(actions)}", request)
        return actions[action](request)
    except InvalidRequestError as problem:
        return {"error": str(problem)}


class Operator:
    """Carries out one request.

    Args:
        machine: The ARN of the state machine.
        bucket: The results bucket.
        children_begin_anew: Whether a child that did not succeed must begin anew: a redrive would resume it in the Fail
            state that it ended in, or at its work, without the permit that it had.
        patience: How long a request is repeated.
    """

    def __init__(self, *, machine: str, bucket: str, children_begin_anew: bool, patience: Patience) -> None:
        self._machine = machine
        self._children_begin_anew = children_begin_anew
        self._patience = patience
        self._runs = Runs(patience)
        self._store = Store(bucket, patience)

    # --- rerun ------------------------------------------------------------------------------------------------------

    def rerun(self, event: Mapping[str, Any]) -> dict[str, Any]:
        _only(event, ("execution", "mode", "dryRun"))
        mode, dry_run = event.get("mode", "auto"), event.get("dryRun", False)
        if mode not in MODES:
            _refuse(f"mode must be one of {', '.join(MODES)}", mode)
        if type(dry_run) is not bool:
            _refuse("dryRun must be true or false", dry_run)
        found = self._chosen(event)
        arn = found["executionArn"]
        if found["status"] in GOING_ON:
            why = "it was redriven, and is under way" if found.get("redriveCount") else "it is still under way"
            return {"action": "rerun", "execution": arn, "started": None, "why": why}
        account = self._account(found)
        if account is not None and _is_done(account):
            return {"action": "rerun", "execution": arn, "started": None, "why": "all of its items were done"}
        way, why = self._way(mode, found, account)
        told = {"action": "rerun", "execution": arn, "mode": way, "why": why, **_missing(account)}
        if dry_run:
            return {**told, "started": None, "dryRun": True}
        return {**told, **(self._redrive(found) if way == "redrive" else self._restart(found))}

    def _chosen(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        arn = self._execution(event)
        if arn is None:
            arn = self._newest_failed()
        found = self._runs.describe(arn)
        return found if found is not None else _refuse("there is no such execution", arn)

    def _execution(self, event: Mapping[str, Any]) -> str | None:
        arn = event.get("execution")
        if arn is None:
            return None
        prefix = self._machine.replace(":stateMachine:", ":execution:", 1) + ":"
        if not isinstance(arn, str) or not arn.startswith(prefix):
            _refuse(f"execution must be the ARN of a run of this state machine, {prefix}...", arn)
        return arn

    def _newest_failed(self) -> str:
        """Also one that a call before this one has redriven: a call that comes twice must not go on to the next run."""
        failed = [each for status in FAILED for each in self._listed(status, most=1)]
        redriven = [each for each in self._listed("RUNNING", most=1000) if each.get("redriveCount")]
        if not failed and not redriven:
            raise InvalidRequestError("no run has failed: name the execution that is to run again")
        arn: str = max([*failed, *redriven], key=lambda each: each["startDate"])["executionArn"]
        return arn

    def _listed(self, status: str, *, most: int) -> list[Mapping[str, Any]]:
        """The newest executions with a status."""
        request = {"stateMachineArn": self._machine, "statusFilter": status, "maxResults": most}
        found: list[Mapping[str, Any]] = self._patience.ask(lambda: stepfunctions().list_executions(**request))[
            "executions"
        ]
        return found

    def _account(self, found: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The account of the run's last attempt; None where nobody has made it."""
        account: Mapping[str, Any] | None = self._store.read_json(Layout(found["name"]).summary)
        if account is None or account["redriveCount"] != found.get("redriveCount", 0):
            return None
        return account

    def _way(self, mode: str, found: Mapping[str, Any], account: Mapping[str, Any] | None) -> tuple[str, str]:
        """`redrive` or `restart`, and why."""
        way, why = self._wanted_way(mode, found, account)
        if way == "restart" and (against := _against_restart(account)):
            # A redrive does more than nothing, if AWS still does it.
            other = _against_redrive(found) or "ask for mode redrive"
            raise InvalidRequestError(f"{found['executionArn']} cannot be run again as a new run: {against}; {other}")
        return way, why

    def _wanted_way(self, mode: str, found: Mapping[str, Any], account: Mapping[str, Any] | None) -> tuple[str, str]:
        against = _against_redrive(found)
        answered = account["answeredFailures"] if account is not None else 0
        anew = 0
        if account is not None and self._children_begin_anew:
            anew = account["counts"]["failed"] - answered + account["counts"]["stopped"]
        if mode == "redrive":
            if against:
                raise InvalidRequestError(f"{found['executionArn']} cannot be redriven: {against}")
            left = f"; {answered:,} items that failed in children that succeeded stay as they are" if answered else ""
            left += f"; {anew:,} items failed or were stopped in children that it does not begin anew" if anew else ""
            return "redrive", f"as was asked for{left}"
        if mode == "restart":
            return "restart", "as was asked for"
        if against:
            return "restart", against
        if account is None:
            return "restart", "it has no account yet, so the new run makes it first"
        if answered:
            return (
                "restart",
                f"{answered:,} items failed in children that succeeded, which a redrive leaves as they are",
            )
        if anew:
            return "restart", f"{anew:,} items failed or were stopped in children that have to begin anew"
        return "redrive", "only what was not done is resumed, in the same run"

    def _redrive(self, found: Mapping[str, Any]) -> dict[str, Any]:
        arn = found["executionArn"]
        # The same token for the same attempt, so that two calls redrive it once:
        # https://docs.aws.amazon.com/step-functions/latest/apireference/API_RedriveExecution.html
        token = sha256(f"{arn}#{found.get('redriveCount', 0)}".encode()).hexdigest()
        try:
            self._patience.ask(lambda: stepfunctions().redrive_execution(executionArn=arn, clientToken=token))
        except ClientError as problem:
            if code_of(problem) != "ExecutionNotRedrivable":
                raise
            raise InvalidRequestError(f"{arn} cannot be redriven: {problem}") from problem
        return {"started": arn}

    def _restart(self, found: Mapping[str, Any]) -> dict[str, Any]:
        name = _name_for(found)
        arn = f"{self._machine.replace(':stateMachine:', ':execution:', 1)}:{name}"
        again = json.dumps({"rerun": {"execution": found["executionArn"]}})
        try:
            self._patience.ask(
                lambda: stepfunctions().start_execution(stateMachineArn=self._machine, name=name, input=again)
            )
        except ClientError as problem:
            if code_of(problem) != "ExecutionAlreadyExists":
                raise
            return {"started": None, "startedBefore": arn}
        return {"started": arn}

    # --- runs under way ---------------------------------------------------------------------------------------------

    def update(self, event: Mapping[str, Any]) -> dict[str, Any]:
        _only(event, ("execution", *_LIMITS))
        changes = {name: _number(event, name) for name in _LIMITS if name in event}
        if not changes:
            _refuse(f"update needs at least one of {', '.join(_LIMITS)}", event)
        arn = self._execution(event)
        updated = []
        for run in [arn] if arn is not None else self._running():
            for map_run in self._map_runs_under_way(run):
                map_run_arn = map_run["mapRunArn"]
                self._patience.ask(partial(stepfunctions().update_map_run, mapRunArn=map_run_arn, **changes))
                updated.append({"execution": run, "mapRun": map_run_arn})
        if not updated:
            raise InvalidRequestError(f"{arn or 'the state machine'} has no map under way")
        return {"action": "update", **changes, "updated": updated}

    def status(self, event: Mapping[str, Any]) -> dict[str, Any]:
        _only(event, ())
        return {"action": "status", "running": [self._told(run) for run in self._running()]}

    def _running(self) -> Iterator[str]:
        page: dict[str, str] = {}
        while True:
            request = {"stateMachineArn": self._machine, "statusFilter": "RUNNING", "maxResults": 100, **page}
            reply = self._patience.ask(partial(stepfunctions().list_executions, **request))
            for each in reply["executions"]:
                yield each["executionArn"]
            if "nextToken" not in reply:
                return
            page = {"nextToken": reply["nextToken"]}

    def _map_runs_under_way(self, execution: str) -> list[Mapping[str, Any]]:
        try:
            found = [self._runs.map_run(arn) for arn in self._runs.map_runs(execution)]
        except ClientError as problem:
            if code_of(problem) != "ExecutionDoesNotExist":
                raise
            _refuse("there is no such execution", execution)
        return [each for each in found if each["status"] == "RUNNING"]

    def _told(self, execution: str) -> dict[str, Any]:
        return {
            "execution": execution,
            "mapRuns": [
                {
                    "mapRun": each["mapRunArn"],
                    "startedAt": iso(each["startDate"]),
                    "maxConcurrency": each["maxConcurrency"],
                    "toleratedFailureCount": each["toleratedFailureCount"],
                    "toleratedFailurePercentage": each["toleratedFailurePercentage"],
                    "items": dict(each["itemCounts"]),
                }
                for each in self._map_runs_under_way(execution)
            ],
        }


# --- pure -------------------------------------------------------------------------------------------------------------

_LIMITS: Mapping[str, tuple[tuple[type, ...], float]] = {
    "maxConcurrency": ((int,), MOST_CONCURRENCY),
    "toleratedFailureCount": ((int,), 2**31 - 1),
    "toleratedFailurePercentage": ((int, float), 100),
}
"""What of a map run can be changed: its type, and its greatest value. The least is 0."""


def _is_done(account: Mapping[str, Any]) -> bool:
    counts = account["counts"]
    return bool(account["begun"]) and not account["incomplete"] and counts["failed"] + counts["notRun"] == 0


def _missing(account: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"failed": account["counts"]["failed"], "notRun": account["counts"]["notRun"]} if account else {}


def _against_redrive(found: Mapping[str, Any]) -> str:
    """Why a redrive would not process the items, empty where it would."""
    if found["status"] == "FAILED" and found.get("error") not in UNCAUGHT:
        return f"the run has dealt with its failure itself ({found.get('error') or 'no error name'})"
    if found["status"] not in FAILED:
        return f"the run has {found['status']}"
    if found.get("redriveStatus") != "REDRIVABLE":
        return found.get("redriveStatusReason") or "AWS does not redrive it any more"
    return ""


def _against_restart(account: Mapping[str, Any] | None) -> str:
    """Why a new run could not be given the items, empty where it could."""
    if account is None or not account["begun"]:
        return ""
    return account["incomplete"] or (
        "a file of Parquet cannot be made of them" if account["source"] == "parquet" else ""
    )


def _name_for(found: Mapping[str, Any]) -> str:
    """The same for the same attempt of the same run, so that it is started once; at most 80 characters."""
    beginning = re.sub(r"[^A-Za-z0-9_-]+", "-", found["name"])[:LONGEST_BEGINNING]
    digest = sha256(found["executionArn"].encode()).hexdigest()[:16]
    return f"rerun-{beginning}-{digest}-{found.get('redriveCount', 0)}"


def _number(event: Mapping[str, Any], name: str) -> float:
    value = event[name]
    types, most = _LIMITS[name]
    if type(value) not in types or not 0 <= value <= most:
        kind = "a whole number" if types == (int,) else "a number"
        _refuse(
            f"{name} must be {kind} from 0 to {most:g}" if most < 10**6 else f"{name} must be {kind} of at least 0",
            value,
        )
    number: float = value
    return number


def _only(event: Mapping[str, Any], names: Sequence[str]) -> None:
    if unknown := sorted(set(event) - {"action", *names}):
        _refuse(f"{event['action']} takes {', '.join(names) or 'nothing else'}", unknown)


def _refuse(rule: str, value: object) -> NoReturn:
    raise InvalidRequestError(f"{rule}, got {json.dumps(value, default=str)[:500]}")
