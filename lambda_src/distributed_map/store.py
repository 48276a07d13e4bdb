"""Files in S3: read from the front, and written to the end, of any length in little memory."""

import json
from collections.abc import Iterator, Mapping
from functools import cache, partial
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, IncompleteReadError

from pipeline.patience import NO_ANSWER, ONE_REQUEST, Patience

PART = 8 * 1024 * 1024
"""Bytes of a part; S3 takes 10,000 parts of at least 5 MiB, but for the last:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""

CHUNK = 1024 * 1024

NOT_THERE = ("404", "NoSuchKey", "NotFound")
"""What is said of an object that does not exist; with a body or, for HeadObject, without."""

MOST_BREAKS = 20
"""How often a download is taken up again where it broke off."""


@cache
def s3() -> Any:
    # With checksums of its own boto3 wants to be told those of all parts again at the end of an upload.
    plain = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    return boto3.client("s3", config=ONE_REQUEST.merge(plain))


class Store:
    """A bucket.

    Args:
        bucket: Its name.
        patience: How long a request is repeated.
    """

    def __init__(self, bucket: str, patience: Patience) -> None:
        self.bucket = bucket
        self._patience = patience

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def head(self, key: str) -> Mapping[str, Any] | None:
        """What S3 tells of an object; None where there is none."""
        try:
            found: Mapping[str, Any] = self._patience.ask(lambda: s3().head_object(Bucket=self.bucket, Key=key))
        except ClientError as problem:
            if code_of(problem) in NOT_THERE:
                return None
            raise
        return found

    def chunks(self, key: str, *, chunk: int = CHUNK) -> Iterator[bytes]:
        """The bytes of an object. A download that breaks off goes on from there, if the object is still the same."""
        etag, place, breaks = "", 0, 0
        while True:
            same = {"IfMatch": etag, "Range": f"bytes={place}-"} if place else {}
            found = self._patience.ask(partial(s3().get_object, Bucket=self.bucket, Key=key, **same))
            etag = found["ETag"]
            try:
                for data in found["Body"].iter_chunks(chunk):
                    self._patience.check(f"{self.url(key)} was read up to byte {place}")
                    place += len(data)
                    yield data
            except (*NO_ANSWER, IncompleteReadError):
                breaks += 1
                if breaks > MOST_BREAKS:
                    raise
                continue
            return

    def end(self, key: str, length: int) -> bytes:
        """The last bytes of an object."""
        data: bytes = self._patience.ask(
            lambda: s3().get_object(Bucket=self.bucket, Key=key, Range=f"bytes=-{length}")["Body"].read()
        )
        return data

    def read(self, key: str) -> bytes | None:
        """A small object as a whole; None where there is none."""
        try:
            data: bytes = self._patience.ask(lambda: s3().get_object(Bucket=self.bucket, Key=key)["Body"].read())
        except ClientError as problem:
            if code_of(problem) in NOT_THERE:
                return None
            raise
        return data

    def read_json(self, key: str) -> Any:
        """What a small object holds; None where there is none."""
        data = self.read(key)
        return None if data is None else json.loads(data)

    def write(self, key: str, data: bytes, *, content_type: str = "application/x-ndjson") -> None:
        self._patience.ask(lambda: s3().put_object(Bucket=self.bucket, Key=key, Body=data, ContentType=content_type))

    def write_json(self, key: str, value: object) -> None:
        self.write(key, json.dumps(value, indent=1).encode(), content_type="application/json")

    def page(self, prefix: str, *, after: str) -> Mapping[str, Any]:
        """Up to 1,000 objects, those behind a key in the order of S3."""
        start = {"StartAfter": after} if after else {}
        page: Mapping[str, Any] = self._patience.ask(
            lambda: s3().list_objects_v2(Bucket=self.bucket, Prefix=prefix, **start)
        )
        return page

    def newest(self, prefix: str, ending: str) -> Mapping[str, Any] | None:
        """The object with such a key that was written last."""
        newest: Mapping[str, Any] | None = None
        last = ""
        while True:
            page = self.page(prefix, after=last)
            for each in page.get("Contents", []):
                last = each["Key"]
                if last.endswith(ending) and (newest is None or each["LastModified"] >= newest["LastModified"]):
                    newest = each
            if not page["IsTruncated"]:
                return newest


class Upload:
    """A file that is being written. It is there when `close` has returned, and until then what was there before is.

    Args:
        store: Its bucket.
        key: Its key.
        patience: How long a request is repeated.
        upload_id: The upload that goes on, None for a new one.
        parts: How many of its parts count; those after them are written again.
        tail: What was read after these.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        patience: Patience,
        *,
        upload_id: str | None = None,
        parts: int = 0,
        tail: bytes = b"",
    ) -> None:
        self._where = {"Bucket": store.bucket, "Key": key}
        self._store, self._key, self._patience = store, key, patience
        self.upload_id, self.parts = upload_id, parts
        self._before = parts
        self._buffer = bytearray(tail)
        self._etags: list[str] = []

    @property
    def tail(self) -> bytes:
        """What is not in a part yet."""
        return bytes(self._buffer)

    def write(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= PART:
            self._send(bytes(self._buffer[:PART]))
            del self._buffer[:PART]

    def close(self) -> None:
        if self.upload_id is None:
            self._store.write(self._key, self.tail)
            return
        size = self.parts * PART + len(self._buffer)
        if self._buffer:
            self._send(self.tail)
            self._buffer.clear()
        numbers = enumerate([*self._etags_before(), *self._etags], start=1)
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in numbers]
        try:
            self._patience.ask(
                lambda: s3().complete_multipart_upload(
                    **self._where, UploadId=self.upload_id, MultipartUpload={"Parts": parts}
                )
            )
        except ClientError as problem:
            # A request that was not answered in time may have done it, and the next one finds no upload.
            if code_of(problem) != "NoSuchUpload" or (self._store.head(self._key) or {}).get("ContentLength") != size:
                raise

    def abandon(self) -> None:
        """Frees what was written, as far as AWS lets it: a rule of the bucket does it otherwise."""
        if self.upload_id is None:
            return
        try:
            s3().abort_multipart_upload(**self._where, UploadId=self.upload_id)
        except (ClientError, *NO_ANSWER):
            pass

    def _send(self, data: bytes) -> None:
        if self.upload_id is None:
            self.upload_id = self._patience.ask(lambda: s3().create_multipart_upload(**self._where))["UploadId"]
        number = self.parts + 1
        reply = self._patience.ask(
            lambda: s3().upload_part(**self._where, UploadId=self.upload_id, PartNumber=number, Body=data)
        )
        self._etags.append(reply["ETag"])
        self.parts = number

    def _etags_before(self) -> list[str]:
        """Those of the parts that an earlier call has sent."""
        etags: list[str] = []
        marker = 0
        while len(etags) < self._before:
            reply = self._patience.ask(
                partial(s3().list_parts, **self._where, UploadId=self.upload_id, PartNumberMarker=marker)
            )
            etags += [each["ETag"] for each in reply["Parts"]]
            if not reply["IsTruncated"]:
                break
            marker = reply["NextPartNumberMarker"]
        return etags[: self._before]


def code_of(problem: ClientError) -> str:
    code: str = problem.response["Error"]["Code"]
    return code
