"""AWS Step Functions: the distributed Map: its items, its batches, its map run with the children, and their results."""

import contextvars
import copy
import csv
import gzip
import io
import json
import threading
from collections import deque
from typing import Any

from ministack.core.responses import new_uuid, now_iso
from ministack.services import s3
from ministack.services import stepfunctions as sfn

from embedded_aws.corrections.payloads import LARGEST, size
from embedded_aws.corrections.progress import Progress, current_group
from embedded_aws.corrections.registry import AnyFunction, correction
from embedded_aws.corrections.scope import Scope, StoppedError, current_scope, scopes
from embedded_aws.corrections.step_functions_branches import run_states
from embedded_aws.corrections.step_functions_history import redrive_of

_MOST_AT_ONCE = 64
"""Children at once where the state has no limit, as in stock. AWS runs 10,000."""

_LOOK_EVERY = 0.05
"""Seconds between two looks for what UpdateMapRun has changed."""

_STATES = ("pending", "running", "succeeded", "failed", "timedOut", "aborted")
_OTHER_COUNTS = ("total", "resultsWritten", "failuresNotRedrivable", "pendingRedrive")


@correction(sfn, "_read_map_items", "(reader, effective, ctx)")
def an_inventory_lists_objects(stock: AnyFunction, reader: Any, effective: Any, ctx: Any) -> Any:
    """Stock: the items of an S3 inventory are the fields of its manifest; what cannot be read is `States.TaskFailed`
    or `States.Runtime`.

    AWS: each object of the inventory is an item, with the fields of the inventory's schema; `States.ItemReaderFailed`.
    Document: Step Functions Developer Guide, "ItemReader (Map)" and "Handling errors in Step Functions workflows".
    """
    config = reader.get("ReaderConfig") or {}
    try:
        if config.get("InputType") != "MANIFEST" and config.get("ManifestType") != "S3_INVENTORY":
            return stock(reader, effective, ctx)
        where = sfn._resolve_params_obj(reader.get("Parameters") or reader.get("Arguments"), effective, ctx)
        manifest = json.loads(_object(where["Bucket"], where["Key"]))
        bucket = manifest["destinationBucket"].removeprefix("arn:aws:s3:::")
        fields = [field.strip() for field in manifest["fileSchema"].split(",")]
        rows = [row for file in manifest["files"] for row in _rows(_object(bucket, file["key"]))]
    except (LookupError, TypeError, ValueError, OSError) as error:
        raise sfn._ExecutionError("States.ItemReaderFailed", str(error)) from error
    items = [dict(zip(fields, row, strict=False)) for row in rows]
    return items[: int(config["MaxItems"])] if config.get("MaxItems") else items


@correction(sfn, "_parse_reader_items", "(text, config)")
def backslashes_escape_in_a_csv_file(stock: AnyFunction, text: str, config: Any) -> Any:
    """Stock: a backslash in a CSV file is one.

    AWS: backslashes escape backslashes, quotation marks and delimiters; before anything else they are removed.
    Document: Step Functions Developer Guide, "How Step Functions parses input CSV files".
    """
    if config.get("InputType") == "CSV" and "\\" in text:
        delimiter = sfn._CSV_DELIMITERS.get(config.get("CSVDelimiter"), ",")
        plain = io.StringIO(newline="")
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, escapechar="\\")
        csv.writer(plain, delimiter=delimiter).writerows(rows)
        text = plain.getvalue()
    return stock(text, config)


def _object(bucket: str, key: str) -> bytes:
    status, _, body = s3._get_object(bucket, key, {}, {})
    if status != 200:
        raise ValueError(f"The specified key does not exist. (Bucket: {bucket}, Key: {key})")
    return bytes(body)


def _rows(data: bytes) -> list[list[str]]:
    text = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    return [row for row in csv.reader(io.StringIO(text.decode(), newline=""), escapechar="\\") if row]


@correction(sfn, "_run_distributed_map", "(state_def, raw_input, effective, iterator, execution, ctx)")
def a_map_run_is_complete(
    stock: AnyFunction, state_def: Any, raw_input: Any, effective: Any, iterator: Any, execution: Any, ctx: Any
) -> Any:
    """Stock: ignores `ItemBatcher`, `ResultWriter` and numbers given by paths; counts failures at the end; children run
    on when the parent is stopped; UpdateMapRun changes nothing; children have no history and the parent's context.

    AWS: items in batches; a map run fails as soon as it exceeds a threshold, and it ends with its parent: running
    children are ABORTED (after a failure those of type EXPRESS go on to their end), others stay pending; results are
    exported by status, with a manifest; UpdateMapRun changes a running map run. A redrive of the parent redrives the
    map run: only children that did not succeed run, those of type EXPRESS from their first state.
    Document: Step Functions Developer Guide, "Using Map state in Distributed mode", "ItemBatcher (Map)", "ResultWriter
    (Map)" and "Redriving Map Runs in Step Functions executions"; API Reference, "UpdateMapRun". (Not here: JSON Lines
    as `OutputType`, the folder of the results of a redrive, events about the status of children.)
    """
    progress = current_group().progress
    run = progress.map_run
    if run is None or run.record["status"] == "SUCCEEDED":
        run = progress.map_run = _MapRun(state_def, raw_input, effective, iterator, execution, ctx)
    with run.turn:
        run.tell()
        result = run.work()
    if sfn._state_query_language(state_def, ctx) == "JSONata":
        output = sfn._apply_jsonata_output(state_def, raw_input, ctx, result=result, default=result)
        sfn._apply_state_assign(state_def, raw_input, ctx, result=result)
    else:
        output = sfn._apply_result_path(state_def, raw_input, sfn._apply_result_selector(state_def, result))
        output = sfn._apply_output_path(state_def, output, ctx)
    return output, sfn._next_or_end(state_def)


class _Child:
    """A child of a map run: pending until it has a record, which is its execution."""

    def __init__(self, data: Any, items: int) -> None:
        self.data = data
        self.items = items
        self.state = "pending"
        self.record: dict[str, Any] = {}
        self.progress: Progress | None = None
        self.context: dict[str, Any] = {}


class _MapRun:
    """A map run. `turn` is held by the attempt that is at it: a redrive waits until what was stopped has ended."""

    def __init__(self, state: Any, raw_input: Any, effective: Any, iterator: Any, execution: Any, ctx: Any) -> None:
        self._state, self._iterator, self._execution, self._ctx = state, iterator, execution, ctx
        self._raw_input, self._effective = raw_input, effective
        self._express = iterator["ProcessorConfig"].get("ExecutionType") == "EXPRESS"
        self.turn = threading.Lock()
        self._changed = threading.Condition()
        self._children = self._make_children(self._items())
        self._writer = self._make_writer()
        *_, region, account, _, machine = execution["stateMachineArn"].split(":")
        self._id = new_uuid()
        self._label = f"{machine}/{state.get('Label') or new_uuid()}"
        self._arns = f"arn:aws:states:{region}:{account}"
        self.arn = f"{self._arns}:mapRun:{self._label}:{self._id}"
        self.record = {
            "mapRunArn": self.arn,
            "executionArn": execution["executionArn"],
            "status": "RUNNING",
            "startDate": now_iso(),
            "maxConcurrency": int(self._number(state, "MaxConcurrency", 0)),
            "toleratedFailurePercentage": float(self._number(state, "ToleratedFailurePercentage", 0)),
            "toleratedFailureCount": int(self._number(state, "ToleratedFailureCount", 0)),
            "itemCounts": self._counts(sum(child.items for child in self._children)),
            "executionCounts": self._counts(len(self._children)),
            "redriveCount": 0,
            "_stateMachineArn": f"{self._arns}:stateMachine:{self._label}",
        }
        sfn._map_runs[self.arn] = self.record

    def tell(self) -> None:
        """The history tells of the map run. In a redrive, what did not succeed is pending again."""
        record = self.record
        if "stopDate" not in record:
            details: dict[str, Any] = {"mapRunArn": self.arn}
            sfn._add_event(self._execution, "MapRunStarted", {"mapRunStartedEventDetails": details})
            return
        record.update(status="RUNNING", redriveCount=record["redriveCount"] + 1, redriveDate=now_iso())
        record.pop("stopDate", None)
        for child in self._children:
            if child.state not in ("pending", "succeeded"):
                self._count(child, "pending")
        details = {"mapRunArn": self.arn, "redriveCount": record["redriveCount"]}
        sfn._add_event(self._execution, "MapRunRedriven", {"mapRunRedrivenEventDetails": details})

    def work(self) -> Any:
        """Runs the children. Returns the result of the state, or raises its error."""
        around = current_scope()
        scope = Scope(around.execution, parent=around)
        with scope.entered(), self._changed:
            self._run_children(scope)
            scope.stop()
            for child in self._children:
                if child.state == "running":
                    self._end(child, "aborted")
        self.record["stopDate"] = now_iso()
        failed = self._exceeded()
        self.record["status"] = "ABORTED" if around.stopped else "FAILED" if failed else "SUCCEEDED"
        written = self._write() if self._writer else None
        around.check()
        if failed:
            error, cause = (
                "States.ExceedToleratedFailureThreshold",
                "The specified tolerated failure threshold was exceeded",
            )
            details = {"mapRunFailedEventDetails": {"error": error, "cause": cause}}
            sfn._add_event(self._execution, "MapRunFailed", details)
            raise sfn._ExecutionError(error, cause)
        sfn._add_event(self._execution, "MapRunSucceeded")
        return written or self._results(self._children, "COMPACT")

    def _run_children(self, scope: Scope) -> None:
        waiting = deque(child for child in self._children if child.state == "pending")
        running = 0
        while not scope.stopped:
            exceeded = self._exceeded()
            while waiting and not exceeded and running < (self.record["maxConcurrency"] or _MOST_AT_ONCE):
                self._start(waiting.popleft())
                running += 1
            if not running or (exceeded and not self._express):
                return
            self._changed.wait(_LOOK_EVERY)
            running = self.record["executionCounts"]["running"]

    def _exceeded(self) -> bool:
        counts, record = self.record["itemCounts"], self.record
        failed = counts["failed"] + counts["timedOut"]
        limits = {
            "toleratedFailureCount": failed > record["toleratedFailureCount"],
            "toleratedFailurePercentage": failed * 100 > record["toleratedFailurePercentage"] * counts["total"],
        }
        given = {name: limit for name, limit in limits.items() if record[name] or self._is_given(name)}
        return failed > 0 and any((given or limits).values())

    def _is_given(self, name: str) -> bool:
        name = name[0].upper() + name[1:]
        return name in self._state or f"{name}Path" in self._state

    def _start(self, child: _Child) -> None:
        self._count(child, "running")
        if child.progress is None:
            self._make_record(child)
        else:
            record = child.record
            count = record.get("redriveCount", 0) + 1
            for field in ("error", "cause"):
                record.pop(field, None)
            record.update(status="RUNNING", stopDate=None, redriveCount=count, redriveDate=now_iso())
            if self._express:
                child.progress = self._first_step(child)
            else:
                child.progress.redrive()
            child.context["Execution"].update(RedriveCount=count, RedriveTime=record["redriveDate"])
            details = {"executionRedrivenEventDetails": {"redriveCount": count}}
            sfn._add_event(record, "ExecutionRedriven", details)
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._run, child, child.progress, current_scope()), daemon=True).start()

    def _first_step(self, child: _Child) -> Progress:
        return Progress(self._iterator["StartAt"], copy.deepcopy(child.data))

    def _make_record(self, child: _Child) -> None:
        name, text = new_uuid(), json.dumps(child.data)
        child.record = {
            "executionArn": f"{self._arns}:execution:{self._label}:{name}",
            "stateMachineArn": self.record["_stateMachineArn"],
            "mapRunArn": self.arn,
            "name": name,
            "status": "RUNNING",
            "startDate": now_iso(),
            "stopDate": None,
            "input": text,
            "inputDetails": {"included": True},
            "output": None,
            "outputDetails": {"included": True},
            "testCase": self._execution.get("testCase"),
            "mockAttempts": {},
            "events": [],
        }
        role = self._ctx["Execution"]["RoleArn"]
        child.context = {
            "QueryLanguage": self._ctx["QueryLanguage"],
            "variables": copy.deepcopy(self._ctx["variables"]),
            "Execution": {
                "Id": child.record["executionArn"],
                "Input": copy.deepcopy(child.data),
                "Name": name,
                "RoleArn": role,
                "StartTime": child.record["startDate"],
                "RedriveCount": 0,
            },
            "StateMachine": {"Id": child.record["stateMachineArn"], "Name": self._label},
        }
        child.progress = self._first_step(child)
        sfn._executions[child.record["executionArn"]] = child.record
        details = {"executionStartedEventDetails": {"input": text, "roleArn": role}}
        sfn._add_event(child.record, "ExecutionStarted", details)

    def _run(self, child: _Child, progress: Progress, around: Scope) -> None:
        record = child.record
        arn = record["executionArn"]
        scope = scopes[arn] = Scope(record, parent=around)
        outcome: tuple[Any, ...]
        try:
            with scope.entered():
                outcome = "succeeded", run_states(self._iterator["States"], progress, record, child.context)
        except sfn._ExecutionError as error:
            outcome = "failed", error.error, error.cause
        except StoppedError:
            outcome = ("aborted",)
        except Exception as error:
            outcome = "failed", "States.Runtime", str(error)
        with self._changed:
            if scopes.get(arn) is scope:
                del scopes[arn]
                if child.state == "running":  # Otherwise the map run has ended it already.
                    self._end(child, *outcome)
            self._changed.notify()

    def _end(self, child: _Child, state: str, *outcome: Any) -> None:
        self._count(child, state)
        record = child.record
        if record["status"] != "RUNNING":
            return  # StopExecution has ended it, and has told of it.
        record["stopDate"] = now_iso()
        if state == "succeeded":
            record.update(status="SUCCEEDED", output=json.dumps(outcome[0]))
            details = {"executionSucceededEventDetails": {"output": record["output"]}}
            sfn._add_event(record, "ExecutionSucceeded", details)
        elif state == "failed":
            error, cause = outcome
            record.update(status="FAILED", error=error, cause=cause)
            sfn._add_event(record, "ExecutionFailed", {"executionFailedEventDetails": {"error": error, "cause": cause}})
        else:
            record["status"] = "ABORTED"
            scopes.pop(record["executionArn"], None)
            sfn._add_event(record, "ExecutionAborted", {"executionAbortedEventDetails": {}})

    def _counts(self, total: int) -> dict[str, int]:
        return {**dict.fromkeys((*_STATES, *_OTHER_COUNTS), 0), "total": total, "pending": total}

    def _count(self, child: _Child, state: str) -> None:
        for counts, amount in ((self.record["executionCounts"], 1), (self.record["itemCounts"], child.items)):
            counts[child.state] -= amount
            counts[state] += amount
        child.state = state

    # What goes in

    def _number(self, fields: Any, name: str, default: float) -> Any:
        if path := fields.get(f"{name}Path"):
            return sfn._resolve_path_or_ctx(path, self._effective, self._ctx)
        if self._jsonata and name in fields:
            return sfn._jsonata_state_field(fields, name, "number", self._raw_input, self._ctx)
        return fields.get(name, default)

    @property
    def _jsonata(self) -> bool:
        return bool(sfn._state_query_language(self._state, self._ctx) == "JSONata")

    def _template(self, template: Any, ctx: Any) -> Any:
        if self._jsonata:
            return sfn._apply_jsonata_template(template, self._raw_input, ctx)
        return sfn._resolve_params_obj(template, self._effective, ctx)

    def _items(self) -> list[Any]:
        if reader := self._state.get("ItemReader"):
            items = sfn._read_map_items(reader, self._effective, self._ctx)
        elif self._jsonata and "Items" in self._state:
            items = sfn._jsonata_state_field(self._state, "Items", "array", self._raw_input, self._ctx)
        else:
            items = sfn._resolve_path_or_ctx(self._state.get("ItemsPath", "$"), self._effective, self._ctx)
        return items if isinstance(items, list) else [items]

    def _make_children(self, items: list[Any]) -> list[_Child]:
        if selector := self._state.get("ItemSelector") or self._state.get("Parameters"):
            items = [
                self._template(selector, {**self._ctx, "Map": {"Item": {"Index": index, "Value": item}}})
                for index, item in enumerate(items)
            ]
        batcher = self._state.get("ItemBatcher")
        if not batcher:
            return [_Child(item, 1) for item in items]
        fixed = {"BatchInput": self._template(batcher["BatchInput"], self._ctx)} if "BatchInput" in batcher else {}
        most = self._number(batcher, "MaxItemsPerBatch", len(items))
        largest = min(self._number(batcher, "MaxInputBytesPerBatch", LARGEST), LARGEST)
        batches: list[list[Any]] = []
        used = 0
        for item in items:
            needed = size(item) + len(",")
            if not batches or len(batches[-1]) >= most or used + needed > largest:
                batches.append([])
                used = size({**fixed, "Items": []})
            batches[-1].append(item)
            used += needed
        return [_Child({**fixed, "Items": batch}, len(batch)) for batch in batches]

    # What comes out

    def _make_writer(self) -> dict[str, Any] | None:
        writer = self._state.get("ResultWriter") or {}
        if "Resource" not in writer:
            return None
        where: dict[str, Any] = self._template(writer.get("Parameters") or writer.get("Arguments") or {}, self._ctx)
        if where.get("Bucket") not in s3._buckets:  # A map run that cannot write does not start its children.
            raise sfn._ExecutionError(
                "States.ResultWriterFailed", f"The specified bucket does not exist. (Bucket: {where.get('Bucket')})"
            )
        return where

    def _results(self, children: list[_Child], default: str) -> list[Any]:
        config = (self._state.get("ResultWriter") or {}).get("WriterConfig") or {}
        transformation = config.get("Transformation", default)
        results: list[Any] = []
        for child in children:
            if transformation == "NONE" or child.state != "succeeded":
                results.append(self._description(child))
                continue
            output = json.loads(child.record["output"])
            results.extend(output if transformation == "FLATTEN" and isinstance(output, list) else [output])
        return results

    def _description(self, child: _Child) -> dict[str, Any]:
        if child.state == "pending":
            return {"Input": json.dumps(child.data), "InputDetails": {"Included": True}, "Status": "PENDING"}
        record, redrive = child.record, redrive_of(child.record)
        told = {
            "Cause": record.get("cause"),
            "Error": record.get("error"),
            "ExecutionArn": record["executionArn"],
            "Input": record["input"],
            "InputDetails": {"Included": True},
            "Name": record["name"],
            "Output": record["output"],
            "OutputDetails": {"Included": True} if record["output"] else None,
            "RedriveCount": redrive["redriveCount"],
            "RedriveDate": redrive["redriveDate"],
            "RedriveStatus": redrive["redriveStatus"],
            "RedriveStatusReason": redrive.get("redriveStatusReason"),
            "StartDate": record["startDate"],
            "StateMachineArn": record["stateMachineArn"],
            "Status": record["status"],
            "StopDate": record["stopDate"],
        }
        return {name: value for name, value in told.items() if value is not None}

    def _write(self) -> dict[str, Any]:
        writer = self._writer or {}
        folder = "/".join(part for part in (writer.get("Prefix"), self._id) if part)
        groups = {
            "FAILED": [child for child in self._children if child.state in ("failed", "aborted")],
            "PENDING": [child for child in self._children if child.state == "pending"],
            "SUCCEEDED": [child for child in self._children if child.state == "succeeded"],
        }
        files: dict[str, list[dict[str, Any]]] = {name: [] for name in groups}
        for name, children in groups.items():
            if children:
                key = f"{folder}/{name}_0.json"
                files[name].append({"Key": key, "Size": self._put(key, self._results(children, "NONE"))})
        manifest = {"DestinationBucket": writer["Bucket"], "MapRunArn": self.arn, "ResultFiles": files}
        self._put(f"{folder}/manifest.json", manifest)
        for counts in (self.record["executionCounts"], self.record["itemCounts"]):
            counts["resultsWritten"] = counts["total"] - counts["pending"]
        where = {"Bucket": writer["Bucket"], "Key": f"{folder}/manifest.json"}
        return {"MapRunArn": self.arn, "ResultWriterDetails": where}

    def _put(self, key: str, value: Any) -> int:
        body = json.dumps(value, separators=(",", ":")).encode()
        status, *_ = s3._put_object((self._writer or {})["Bucket"], key, body, {"content-type": "application/json"})
        if status >= 400:
            raise sfn._ExecutionError("States.ResultWriterFailed", f"{key} could not be written")
        return len(body)
