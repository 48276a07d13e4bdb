"""Where the items of a map come from."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from aws_cdk import aws_s3 as s3
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .bucket_access import BucketAccess
from .dated_text import as_resource, check_dated
from .failure_tolerance import MOST_ITEMS
from .object_filter import check_sizes, check_texts, check_wildcards
from .validation import invalid, require_type, require_whole_number

_ANY_DAY = "Which object it is depends on the day of the run."
_AN_INVENTORY = "How S3 names the files of an inventory is not known before they are delivered."

_PATH = re.compile(r"\$(\.[A-Za-z_][\w-]*)+", re.ASCII)

# The header of a CSV file may have 10 KiB:
# https://docs.aws.amazon.com/step-functions/latest/dg/input-output-itemreader.html
_LONGEST_HEADER = 10 * 1024


@dataclass(frozen=True, kw_only=True)
class ItemSource:
    """Where the items come from: one of `S3Objects`, `CsvItems`, `JsonItems`, `JsonLinesItems`, `ParquetItems`,
    `InventoryItems` and `InputItems`.

    Args:
        max_items: How many of them at the most. Default: all, up to the 100,000,000 of Step Functions.
    """

    kind: ClassVar[str]
    """What the functions call it."""

    input_type: ClassVar[str] = "JSONL"
    """What the Map reads."""

    max_items: int | None = None

    def check(self, where: Construct) -> None:
        """Refuses what a run could not read.

        Raises:
            ConfigurationError: with the argument, the rule and the remedy.
        """
        if self.max_items is not None:
            require_whole_number(
                where, "source.max_items", self.max_items, at_least=1, at_most=MOST_ITEMS, known_at_synthesis=True
            )

    def as_json(self) -> Mapping[str, Any]:
        """For the functions that plan and account."""
        return {"kind": self.kind, "filters": self._filters()}

    def reader_config(self) -> Mapping[str, Any]:
        """How the Map reads the file that is planned."""
        return {"InputType": self.input_type}

    @property
    def planning(self) -> Sequence[BucketAccess]:
        """What the function that plans must read."""
        return []

    @property
    def reading(self) -> Sequence[BucketAccess]:
        """What the Map itself must read, beside the bucket of results."""
        return []

    def _filters(self) -> Mapping[str, Any]:
        return {"maxItems": self.max_items}


@dataclass(frozen=True, kw_only=True)
class S3Objects(ItemSource):
    """The objects of a bucket: each item is ``{"Key", "Size", "ETag", "LastModified"}``.

    They are listed and filtered before the Map begins, so that what is left out is not paid for.

    Args:
        bucket: In the account of the stack.
        prefix: What keys begin with. It may have the date of the run in it, as Python formats it:
            ``"incoming/{date:%Y/%m/%d}/"``; ``{{`` and ``}}`` are braces. Default: all of the bucket.
        patterns: What whole keys look like, ``*`` for any characters: one of these. ``\\*`` is a ``*`` itself.
            Default: anything.
        min_size: In bytes. Default: 0.
        max_size: In bytes. Default: any size.
        folder_markers: Whether keys that end with ``/`` count. Default False.
        max_items: How many at the most, in the order of their keys. Default: all.
    """

    kind: ClassVar[str] = "objects"

    bucket: s3.IBucket
    prefix: str = ""
    patterns: Sequence[str] = ()
    min_size: int | None = None
    max_size: int | None = None
    folder_markers: bool = False

    def check(self, where: Construct) -> None:
        """See `ItemSource.check`."""
        super().check(where)
        _check_bucket(where, self.bucket)
        check_dated(where, "source.prefix", self.prefix, empty=True)
        check_texts(where, "source.patterns", self.patterns, "Pass for example ['*.csv'].")
        check_wildcards(where, "source.patterns", self.patterns, "Pass for example ['*.csv'].")
        check_sizes(where, self.min_size, self.max_size, prefix="source.")
        require_type(where, "source.folder_markers", self.folder_markers, bool, "Pass True or False.")

    def as_json(self) -> Mapping[str, Any]:
        """See `ItemSource.as_json`."""
        return {**super().as_json(), "bucket": self.bucket.bucket_name, "prefix": self.prefix}

    @property
    def planning(self) -> Sequence[BucketAccess]:
        """See `ItemSource.planning`."""
        return [BucketAccess(bucket=self.bucket, listing=f"{as_resource(self.prefix)}*")]

    def _filters(self) -> Mapping[str, Any]:
        return {
            **super()._filters(),
            "patterns": list(self.patterns),
            "minSize": self.min_size,
            "maxSize": self.max_size,
            "folderMarkers": self.folder_markers,
        }


@dataclass(frozen=True, kw_only=True)
class FileItems(ItemSource):
    """The items in a file in S3."""

    bucket: s3.IBucket
    key: str

    def check(self, where: Construct) -> None:
        """See `ItemSource.check`."""
        super().check(where)
        _check_bucket(where, self.bucket)
        check_dated(where, "source.key", self.key, example="lists/{date:%Y-%m-%d}.csv")

    def as_json(self) -> Mapping[str, Any]:
        """See `ItemSource.as_json`."""
        return {**super().as_json(), "bucket": self.bucket.bucket_name, "key": self.key}

    def reader_config(self) -> Mapping[str, Any]:
        """See `ItemSource.reader_config`."""
        most = {} if self.max_items is None else {"MaxItems": self.max_items}
        return {**super().reader_config(), **most}

    @property
    def planning(self) -> Sequence[BucketAccess]:
        """See `ItemSource.planning`. Listing tells a file that is not there from one that may not be read."""
        return [BucketAccess(bucket=self.bucket, listing="*"), *self.reading]

    @property
    def reading(self) -> Sequence[BucketAccess]:
        """See `ItemSource.reading`."""
        return [BucketAccess(bucket=self.bucket, objects=as_resource(self.key), reason=_ANY_DAY)]


@dataclass(frozen=True, kw_only=True)
class CsvItems(FileItems):
    """The rows of a CSV file: each item is an object with a text for each column.

    Args:
        bucket: Where the file is, in the account and region of the stack.
        key: Of the file. It may have the date of the run in it: ``"orders/{date:%Y-%m-%d}.csv"``.
        headers: The names of the columns. Default: the first row has them.
        delimiter: Between columns. Default: a comma.
        max_items: How many rows at the most, from the first. Default: all.
    """

    kind: ClassVar[str] = "csv"
    input_type: ClassVar[str] = "CSV"

    headers: Sequence[str] | None = None
    delimiter: sfn.CsvDelimiter = sfn.CsvDelimiter.COMMA

    def check(self, where: Construct) -> None:
        """See `ItemSource.check`."""
        super().check(where)
        require_type(
            where, "source.delimiter", self.delimiter, sfn.CsvDelimiter, "Pass for example sfn.CsvDelimiter.TAB."
        )
        if self.headers is None:
            return
        remedy = "Pass for example ['id', 'name'], or leave it out where the first row has the names."
        check_texts(where, "source.headers", self.headers, remedy)
        if not self.headers or len(set(self.headers)) < len(self.headers):
            raise invalid(where, "source.headers", "must be names, each once", list(self.headers), remedy)
        if len(",".join(self.headers).encode()) > _LONGEST_HEADER:
            raise invalid(where, "source.headers", "must have at most 10 KiB together", list(self.headers), remedy)

    def as_json(self) -> Mapping[str, Any]:
        """See `ItemSource.as_json`."""
        headers = None if self.headers is None else list(self.headers)
        return {**super().as_json(), "csv": {"headers": headers, "delimiter": self.delimiter.name}}

    def reader_config(self) -> Mapping[str, Any]:
        """See `ItemSource.reader_config`."""
        if self.headers is None:
            headers: Mapping[str, Any] = {"CSVHeaderLocation": "FIRST_ROW"}
        else:
            headers = {"CSVHeaderLocation": "GIVEN", "CSVHeaders": list(self.headers)}
        return {**super().reader_config(), **headers, "CSVDelimiter": self.delimiter.name}


@dataclass(frozen=True, kw_only=True)
class JsonItems(FileItems):
    """The elements of a file that is one JSON array.

    Args:
        bucket: Where the file is, in the account and region of the stack.
        key: Of the file. It may have the date of the run in it: ``"orders/{date:%Y-%m-%d}.json"``.
        max_items: How many at the most, from the first. Default: all.
    """

    kind: ClassVar[str] = "json"
    input_type: ClassVar[str] = "JSON"


@dataclass(frozen=True, kw_only=True)
class JsonLinesItems(FileItems):
    """The lines of a JSON Lines file: each is an item in JSON.

    Args:
        bucket: Where the file is, in the account and region of the stack.
        key: Of the file. It may have the date of the run in it: ``"orders/{date:%Y-%m-%d}.jsonl"``.
        max_items: How many lines at the most, from the first. Default: all.
    """

    kind: ClassVar[str] = "jsonl"


@dataclass(frozen=True, kw_only=True)
class ParquetItems(FileItems):
    """The rows of a Parquet file. Those that failed are run again by a redrive only.

    Args:
        bucket: Where the file is, in the account and region of the stack.
        key: Of the file. It may have the date of the run in it: ``"orders/{date:%Y-%m-%d}.parquet"``.
        max_items: How many rows at the most, from the first. Default: all.
    """

    kind: ClassVar[str] = "parquet"
    input_type: ClassVar[str] = "PARQUET"


@dataclass(frozen=True, kw_only=True)
class InventoryItems(FileItems):
    """The objects in an S3 Inventory: each item has the fields of the inventory, such as ``Bucket`` and ``Key``.

    Args:
        bucket: Where S3 delivers the inventory, its manifests and its lists, in the account and region of the stack.
        key: Of the manifest: ``"inventory/data/daily/{date:%Y-%m-%d}T01-00Z/manifest.json"``. The lists lie beside the
            folder of the manifest, as S3 puts them.
        max_items: How many objects at the most. Default: all.
    """

    kind: ClassVar[str] = "manifest"
    input_type: ClassVar[str] = "MANIFEST"

    @property
    def reading(self) -> Sequence[BucketAccess]:
        """See `ItemSource.reading`."""
        # The manifest is in a folder of its day; the lists are in the folder "data" beside that.
        # https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
        folder = "".join(f"{part}/" for part in as_resource(self.key).split("/")[:-2])
        return [BucketAccess(bucket=self.bucket, objects=f"{folder}*", reason=_AN_INVENTORY)]


@dataclass(frozen=True, kw_only=True)
class InputItems(ItemSource):
    """The elements of an array in the execution's input, which has 256 KiB at the most.

    Args:
        path: Where it is in the input. Default ``"$.items"``.
        max_items: How many at the most, from the first. Default: all.
    """

    kind: ClassVar[str] = "input"

    path: str = "$.items"

    def check(self, where: Construct) -> None:
        """See `ItemSource.check`."""
        super().check(where)
        remedy = "Pass for example '$.items'."
        require_type(where, "source.path", self.path, str, remedy)
        if not _PATH.fullmatch(self.path):
            raise invalid(where, "source.path", "must be a path of names into the input", self.path, remedy)

    def as_json(self) -> Mapping[str, Any]:
        """See `ItemSource.as_json`."""
        return {**super().as_json(), "path": self.path}


def _check_bucket(where: Construct, bucket: s3.IBucket) -> None:
    # By what it has: an imported bucket is a proxy without a class of its own.
    if not hasattr(bucket, "bucket_arn"):
        raise invalid(
            where, "source.bucket", "must be a bucket", bucket, "Pass for example s3.Bucket(self, 'Incoming')."
        )
