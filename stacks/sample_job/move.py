"""Moves the files of a day into the folder of that day: `incoming/2026-11-21_a.csv` to `archive/2026/11/21/a.csv`.

It gets a batch of objects from `DistributedMapProcessor`, and answers for each of them. One that fails stays where it
is, and keeps no other from being moved. A file that is in both places was copied by a call that did not live to delete
it: that is done now. Another file that has its place in the archive is not written over.
"""

import contextlib
import hashlib
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

_MEGABYTE = 1024 * 1024


class NotMovedError(Exception):
    """Why a file stays where it is: the name of the error, and what is to be done."""


@cache
def s3() -> Any:
    """The client, made once for all calls."""
    return boto3.client("s3")


def handle(event: dict[str, Any], _context: object) -> dict[str, Any]:
    added = event["BatchInput"]
    return {"items": [_answer(s3(), item, added["run"], added["constants"]["archive"]) for item in event["Items"]]}


def _answer(storage: Any, item: dict[str, Any], run: dict[str, Any], archive: str) -> dict[str, Any]:
    try:
        name = _name(item["Key"], run["prefix"])
        move(storage, run["bucket"], item["Key"], f"{archive}{run['date'].replace('-', '/')}/", name)
    except NotMovedError as problem:
        error, cause = problem.args
    except ClientError as problem:
        error, cause = problem.response["Error"]["Code"], str(problem)
    except BotoCoreError as problem:
        error, cause = type(problem).__name__, str(problem)
    else:
        return {} if item["Size"] else {"notice": [f"{name} is empty"]}
    return {"error": error, "cause": cause}


def _name(key: str, prefix: str) -> str:
    name = key.removeprefix(f"{prefix}_")
    if name in ("", key):
        raise NotMovedError("WrongName", f"It must be called {prefix}_<name>: rename it, and start a run of that day")
    return name


def move(storage: Any, bucket: str, key: str, folder: str, name: str) -> None:
    """Moves an object into a folder. To do it twice changes nothing.

    Raises:
        NotMovedError: it does not exist, or another one has its place.
        ClientError: S3 refuses something.
    """
    target = folder + name
    original, there = _look(storage, bucket, key), _look(storage, bucket, target)
    if original is None:
        if there is None:
            raise NotMovedError("Gone", f"It was listed, and now it is neither in its place nor in {folder}")
        return
    # What is deleted in the end must be what was copied: not something that was written meanwhile.
    etag = original["ETag"]
    if there is None:
        source = {"Bucket": bucket, "Key": key}
        storage.copy_object(Bucket=bucket, Key=target, CopySource=source, CopySourceIfMatch=etag)
    elif not (
        there["ContentLength"] == original["ContentLength"]
        # The copy of an object that was uploaded in parts has another ETag.
        and (there["ETag"] == etag or _digest(storage, bucket, target) == _digest(storage, bucket, key))
    ):
        raise NotMovedError("TargetExists", f"{folder} has another file of this name: take one of the two away")
    # Somebody else may have done it just now.
    with contextlib.suppress(storage.exceptions.NoSuchKey):
        storage.delete_object(Bucket=bucket, Key=key, IfMatch=etag)


def _look(storage: Any, bucket: str, key: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = storage.head_object(Bucket=bucket, Key=key)
    except ClientError as problem:
        if problem.response["Error"]["Code"] != "404":
            raise
        return None
    return found


def _digest(storage: Any, bucket: str, key: str) -> bytes:
    digest = hashlib.sha256()
    for chunk in storage.get_object(Bucket=bucket, Key=key)["Body"].iter_chunks(_MEGABYTE):
        digest.update(chunk)
    return digest.digest()
