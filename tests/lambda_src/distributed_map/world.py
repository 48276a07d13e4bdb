"""S3 and Step Functions in memory, for functions that die, are slow, and are called again."""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any, NoReturn

from botocore.exceptions import ClientError, ReadTimeoutError

SOURCE, RESULTS = "uploads", "results"
MACHINE = "arn:aws:states:eu-central-1:111122223333:stateMachine:work"
NOW = datetime(2026, 11, 22, 6, tzinfo=UTC)


class KilledError(BaseException):
    """The function's process has ended."""


def refuse(code: str, status: int = 400) -> NoReturn:
    response: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    raise ClientError(response, "Request")


def execution_arn(name: str) -> str:
    return f"{MACHINE.replace(':stateMachine:', ':execution:')}:{name}"


@dataclass
class Object:
    """An object of a bucket."""

    data: bytes
    written: datetime = NOW

    @property
    def etag(self) -> str:
        return f'"{md5(self.data).hexdigest()}"'


class Body:
    """A download. It breaks off once at each of the given places."""

    def __init__(self, data: bytes, breaks: list[int], offset: int) -> None:
        self._data, self._breaks, self._offset = data, breaks, offset

    def read(self) -> bytes:
        return self._data

    def iter_chunks(self, size: int) -> Iterator[bytes]:
        for first in range(0, len(self._data), size):
            if self._breaks and self._offset + first >= self._breaks[0]:
                del self._breaks[0]
                raise ReadTimeoutError(endpoint_url="s3")
            yield self._data[first : first + size]


@dataclass
class World:
    """Buckets and executions. A request takes `seconds`; before and after each of them the function may die."""

    left: float = 900
    seconds: float = 0
    now: datetime = NOW
    buckets: dict[str, dict[str, Object]] = field(default_factory=lambda: {SOURCE: {}, RESULTS: {}})
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    map_runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    dies_at: int | None = None
    dies_after: bool = False
    breaks: list[int] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    tolerated: dict[str, Any] = field(default_factory=dict)
    page: int = 1000
    number: int = 0

    # --- the function -----------------------------------------------------------------------------------------------

    def get_remaining_time_in_millis(self) -> int:
        return round(self.left * 1000)

    def _request(self, name: str, work: Callable[[], Any]) -> Any:
        self.requests.append(name)
        self.left -= self.seconds
        dies = self.dies_at == len(self.requests)
        if dies and not self.dies_after:
            raise KilledError
        reply = work()
        if dies:
            raise KilledError
        return reply

    # --- what tests look at -----------------------------------------------------------------------------------------

    def put(self, bucket: str, key: str, data: bytes | str, *, written: datetime | None = None) -> None:
        data = data.encode() if isinstance(data, str) else data
        self.buckets[bucket][key] = Object(data, written or self.now)

    def get(self, key: str, bucket: str = RESULTS) -> bytes:
        return self.buckets[bucket][key].data

    def json(self, key: str) -> Any:
        return json.loads(self.get(key))

    def lines(self, key: str) -> list[Any]:
        return [json.loads(line) for line in self.get(key).decode().split("\n") if line]

    def add_execution(self, name: str, *, status: str = "FAILED", given: Any = None, **fields: Any) -> dict[str, Any]:
        found = {
            "executionArn": execution_arn(name),
            "stateMachineArn": MACHINE,
            "name": name,
            "status": status,
            "startDate": self.now,
            "input": json.dumps(given if given is not None else {}),
            **({} if status == "RUNNING" else {"stopDate": self.now + timedelta(minutes=1)}),
            **fields,
        }
        self.executions[found["executionArn"]] = found
        return found

    def add_map_run(
        self, name: str, results: Mapping[str, Sequence[Any]] | None, *, per_file: int = 1000, **fields: Any
    ) -> str:
        """A map run that has ended, with its results as Step Functions writes them; None for none."""
        id_ = f"uuid-{len(self.map_runs)}"
        arn = f"{MACHINE.replace(':stateMachine:', ':mapRun:')}/items:{id_}"
        counts = dict.fromkeys(("pending", "running", "succeeded", "failed", "timedOut", "aborted", "total"), 0)
        for children in (results or {}).values():
            for each in children:
                given = json.loads(each["Input"])
                items = len(given["Items"]) if isinstance(given, dict) and "Items" in given else 1
                state = {"TIMED_OUT": "timedOut"}.get(each["Status"], each["Status"].lower())
                counts[state] += items
                counts["total"] += items
        self.map_runs[arn] = {
            "mapRunArn": arn,
            "executionArn": execution_arn(name),
            "status": "FAILED",
            "startDate": self.now,
            "stopDate": self.now + timedelta(minutes=1),
            "maxConcurrency": 100,
            "toleratedFailurePercentage": 0.0,
            "toleratedFailureCount": 0,
            "itemCounts": counts,
            "executionCounts": counts,
            "redriveCount": 0,
            **self.tolerated,
            **fields,
        }
        if results is not None:
            self.write_results(name, arn, results, per_file=per_file)
        return arn

    def write_results(
        self, name: str, map_run: str, results: Mapping[str, Sequence[Any]], *, folder: str = "", per_file: int = 1000
    ) -> str:
        base = f"runs/{name}/map/{map_run.rpartition(':')[2]}/{folder}"
        files: dict[str, list[dict[str, Any]]] = {"FAILED": [], "PENDING": [], "SUCCEEDED": []}
        for group, children in results.items():
            for number, first in enumerate(range(0, len(children), per_file)):
                data = json.dumps(list(children[first : first + per_file]))
                key = f"{base}{group}_{number}.json"
                self.put(RESULTS, key, data)
                files[group].append({"Key": key, "Size": len(data)})
        manifest = {"DestinationBucket": RESULTS, "MapRunArn": map_run, "ResultFiles": files}
        self.put(RESULTS, f"{base}manifest.json", json.dumps(manifest))
        return f"{base}manifest.json"

    # --- S3 ---------------------------------------------------------------------------------------------------------

    def _object(self, bucket: str, key: str, *, head: bool = False) -> Object:
        if key in self.denied:
            refuse("403" if head else "AccessDenied", 403)
        if key not in self.buckets.get(bucket, {}):
            refuse("404" if head else "NoSuchKey", 404)
        return self.buckets[bucket][key]

    def head_object(self, *, Bucket: str, Key: str) -> Any:
        def work() -> Any:
            found = self._object(Bucket, Key, head=True)
            return {"ContentLength": len(found.data), "ETag": found.etag}

        return self._request("HeadObject", work)

    def get_object(self, *, Bucket: str, Key: str, Range: str = "", IfMatch: str = "") -> Any:
        def work() -> Any:
            found = self._object(Bucket, Key)
            if IfMatch and IfMatch != found.etag:
                refuse("PreconditionFailed", 412)
            first, _, last = Range.removeprefix("bytes=").partition("-")
            offset = int(first) if first else max(0, len(found.data) - int(last)) if last else 0
            return {"Body": Body(found.data[offset:], self.breaks, offset), "ETag": found.etag}

        return self._request("GetObject", work)

    def put_object(self, *, Bucket: str, Key: str, Body: bytes, ContentType: str = "") -> Any:
        return self._request("PutObject", lambda: self.put(Bucket, Key, Body))

    def list_objects_v2(self, *, Bucket: str, Prefix: str = "", StartAfter: str = "") -> Any:
        def work() -> Any:
            if Bucket not in self.buckets:
                refuse("NoSuchBucket", 404)
            # S3 orders by bytes.
            after = StartAfter.encode()
            keys = sorted(
                (key for key in self.buckets[Bucket] if key.startswith(Prefix) and key.encode() > after),
                key=str.encode,
            )
            page = [
                {
                    "Key": key,
                    "Size": len(found.data),
                    "ETag": found.etag,
                    "LastModified": found.written.replace(microsecond=0),
                }
                for key in keys[: self.page]
                for found in [self.buckets[Bucket][key]]
            ]
            return {**({"Contents": page} if page else {}), "IsTruncated": len(keys) > self.page}

        return self._request("ListObjectsV2", work)

    def create_multipart_upload(self, *, Bucket: str, Key: str) -> Any:
        def work() -> Any:
            self.number += 1
            id_ = f"upload-{self.number}"
            self.uploads[id_] = {}
            return {"UploadId": id_}

        return self._request("CreateMultipartUpload", work)

    def upload_part(self, *, Bucket: str, Key: str, UploadId: str, PartNumber: int, Body: bytes) -> Any:
        def work() -> Any:
            self._upload(UploadId)[PartNumber] = Body
            return {"ETag": md5(Body).hexdigest()}

        return self._request("UploadPart", work)

    def list_parts(self, *, Bucket: str, Key: str, UploadId: str, PartNumberMarker: int = 0) -> Any:
        def work() -> Any:
            parts = sorted(number for number in self._upload(UploadId) if number > PartNumberMarker)
            page = parts[: self.page]
            told = [{"PartNumber": number, "ETag": md5(self.uploads[UploadId][number]).hexdigest()} for number in page]
            return {"Parts": told, "IsTruncated": len(parts) > self.page, "NextPartNumberMarker": (page or [0])[-1]}

        return self._request("ListParts", work)

    def complete_multipart_upload(self, *, Bucket: str, Key: str, UploadId: str, MultipartUpload: Any) -> Any:
        def work() -> Any:
            parts, data = self._upload(UploadId), io.BytesIO()
            for number, each in enumerate(MultipartUpload["Parts"], start=1):
                if each["PartNumber"] != number or md5(parts[number]).hexdigest() != each["ETag"]:
                    refuse("InvalidPart")
                data.write(parts[number])
            self.put(Bucket, Key, data.getvalue())
            del self.uploads[UploadId]
            return {}

        return self._request("CompleteMultipartUpload", work)

    def abort_multipart_upload(self, *, Bucket: str, Key: str, UploadId: str) -> Any:
        return self._request("AbortMultipartUpload", lambda: self.uploads.pop(UploadId, None))

    def _upload(self, id_: str) -> dict[int, bytes]:
        if id_ not in self.uploads:
            refuse("NoSuchUpload", 404)
        return self.uploads[id_]

    # --- Step Functions ---------------------------------------------------------------------------------------------

    def describe_execution(self, *, executionArn: str) -> Any:
        def work() -> Any:
            if executionArn not in self.executions:
                refuse("ExecutionDoesNotExist")
            return dict(self.executions[executionArn])

        return self._request("DescribeExecution", work)

    def list_executions(self, *, stateMachineArn: str, statusFilter: str, maxResults: int, nextToken: str = "") -> Any:
        def work() -> Any:
            found = sorted(
                (each for each in self.executions.values() if each["status"] == statusFilter),
                key=lambda each: each["startDate"],
                reverse=True,
            )
            first = int(nextToken or 0)
            last = first + min(maxResults, self.page)
            more = {"nextToken": str(last)} if last < len(found) else {}
            return {"executions": found[first:last], **more}

        return self._request("ListExecutions", work)

    def list_map_runs(self, *, executionArn: str, nextToken: str = "") -> Any:
        def work() -> Any:
            if executionArn not in self.executions:
                refuse("ExecutionDoesNotExist")
            found = [each for each in self.map_runs.values() if each["executionArn"] == executionArn]
            first = int(nextToken or 0)
            last = first + self.page
            more = {"nextToken": str(last)} if last < len(found) else {}
            return {"mapRuns": found[first:last], **more}

        return self._request("ListMapRuns", work)

    def describe_map_run(self, *, mapRunArn: str) -> Any:
        return self._request("DescribeMapRun", lambda: dict(self.map_runs[mapRunArn]))

    def update_map_run(self, *, mapRunArn: str, **changes: Any) -> Any:
        return self._request("UpdateMapRun", lambda: self.map_runs[mapRunArn].update(changes))

    def start_execution(self, *, stateMachineArn: str, name: str, input: str) -> Any:
        def work() -> Any:
            before = self.executions.get(execution_arn(name))
            if before is not None and (before["status"] != "RUNNING" or before["input"] != input):
                refuse("ExecutionAlreadyExists")
            if before is None:
                self.add_execution(name, status="RUNNING", given=json.loads(input))
            return {"executionArn": execution_arn(name)}

        return self._request("StartExecution", work)

    def redrive_execution(self, *, executionArn: str, clientToken: str) -> Any:
        def work() -> Any:
            found = self.executions[executionArn]
            if found.get("token") == clientToken:
                return {}
            if found.get("redriveStatus") != "REDRIVABLE":
                refuse("ExecutionNotRedrivable")
            found.update(
                status="RUNNING",
                redriveCount=found.get("redriveCount", 0) + 1,
                redriveStatus="NOT_REDRIVABLE",
                token=clientToken,
            )
            return {}

        return self._request("RedriveExecution", work)


# --- children ---------------------------------------------------------------------------------------------------------


def child(
    item: Any, status: str = "SUCCEEDED", *, output: Any = None, error: str = "", cause: str = ""
) -> dict[str, Any]:
    """A child with one item, as Step Functions writes its result."""
    return _record({"item": item, "run": {"execution": "a"}, "constants": {}}, status, output, error, cause)


def batch(
    items: Sequence[Any], status: str = "SUCCEEDED", *, output: Any = None, error: str = "", cause: str = ""
) -> dict[str, Any]:
    """A child with several items."""
    given = {"Items": list(items), "BatchInput": {"run": {"execution": "a"}, "constants": {}}}
    return _record(given, status, output, error, cause)


def _record(given: Any, status: str, output: Any, error: str, cause: str) -> dict[str, Any]:
    if status == "PENDING":
        return {"Input": json.dumps(given), "InputDetails": {"Included": True}, "Status": status}
    name = md5(json.dumps(given).encode()).hexdigest()
    told = {
        "ExecutionArn": f"{MACHINE.replace(':stateMachine:', ':execution:')}/items:{name}",
        "Input": json.dumps(given),
        "InputDetails": {"Included": True},
        "Name": name,
        "RedriveCount": 0,
        "StartDate": "2026-11-22T06:00:00.000Z",
        "StateMachineArn": f"{MACHINE}/items",
        "Status": status,
        "StopDate": "2026-11-22T06:00:01.000Z",
    }
    if status == "SUCCEEDED":
        return {**told, "Output": json.dumps(output), "OutputDetails": {"Included": True}}
    return {**told, **({"Error": error} if error else {}), **({"Cause": cause} if cause else {})}


def raised(error: str, message: str) -> str:
    """The cause of a Lambda function that raised."""
    return json.dumps({"errorMessage": message, "errorType": error, "requestId": "1", "stackTrace": ["File ..."]})
