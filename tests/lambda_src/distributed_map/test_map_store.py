"""Files in S3 are read and written piece by piece, whatever happens in between."""

from contextlib import suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from distributed_map import store as store_module
from distributed_map.store import MOST_BREAKS, Store, Upload
from pipeline.patience import Patience, TimeIsOverError
from tests.lambda_src.distributed_map.world import RESULTS, KilledError, World

DATA = bytes(range(256)) * 100


@pytest.fixture
def patience(world: World, monkeypatch: pytest.MonkeyPatch) -> Patience:
    monkeypatch.setattr(store_module, "PART", 1000)
    return Patience.of(world)


@pytest.fixture
def store(patience: Patience) -> Store:
    return Store(RESULTS, patience)


def test_a_download_that_breaks_off_goes_on_from_there(world: World, store: Store) -> None:
    world.put(RESULTS, "a", DATA)
    world.breaks = [0, 1000, 5000, 5000, 25_000]

    assert b"".join(store.chunks("a", chunk=100)) == DATA
    assert world.requests == ["GetObject"] * 6


def test_a_download_that_always_breaks_off_is_given_up(world: World, store: Store) -> None:
    world.put(RESULTS, "a", DATA)
    world.breaks = [1000] * 100

    with pytest.raises(ReadTimeoutError):
        list(store.chunks("a", chunk=100))
    assert len(world.requests) == MOST_BREAKS + 1


def test_an_object_that_is_replaced_while_it_is_read_is_an_error(world: World, store: Store) -> None:
    world.put(RESULTS, "a", DATA)
    world.breaks = [1000]
    chunks = store.chunks("a", chunk=100)
    next(chunks)
    world.put(RESULTS, "a", b"other")

    with pytest.raises(ClientError, match="PreconditionFailed"):
        list(chunks)


def test_reading_stops_when_the_time_is_over(world: World, store: Store) -> None:
    world.put(RESULTS, "a", DATA)
    chunks = store.chunks("a", chunk=100)
    next(chunks)
    world.left = 5

    with pytest.raises(TimeIsOverError, match="s3://results/a was read up to byte 100"):
        list(chunks)


def test_what_is_not_there_is_none(world: World, store: Store) -> None:
    assert store.head("a") is None
    assert store.read("a") is None
    assert store.read_json("a") is None
    assert store.newest("a", "b") is None


def test_what_may_not_be_read_is_an_error(world: World, store: Store) -> None:
    world.denied.add("a")

    for read in (store.head, store.read, lambda key: list(store.chunks(key))):
        with pytest.raises(ClientError):
            read("a")


def test_the_newest_is_found_on_any_page(world: World, store: Store) -> None:
    world.page = 2
    for number in range(9):
        world.put(
            RESULTS, f"map/{number}/manifest.json", b"", written=world.now.replace(hour=number if number < 5 else 1)
        )
        world.put(RESULTS, f"map/{number}/other.json", b"", written=world.now.replace(hour=9))

    found = store.newest("map/", "/manifest.json")

    assert found is not None
    assert found["Key"] == "map/4/manifest.json"


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 2000, 5555])
@pytest.mark.parametrize("piece", [1, 7, 400, 3000])
def test_a_file_of_any_length_is_written(size: int, piece: int, world: World, store: Store, patience: Patience) -> None:
    upload = Upload(store, "a", patience)
    for first in range(0, size, piece):
        upload.write(DATA[first : min(first + piece, size)])
    upload.close()

    assert world.get("a") == DATA[:size]
    assert world.uploads == {}


def test_until_it_is_closed_the_file_before_is_there(world: World, store: Store, patience: Patience) -> None:
    world.put(RESULTS, "a", b"before")
    upload = Upload(store, "a", patience)
    upload.write(DATA)

    assert world.get("a") == b"before"


def test_what_is_given_up_leaves_nothing(world: World, store: Store, patience: Patience) -> None:
    upload = Upload(store, "a", patience)
    upload.abandon()
    upload.write(DATA)
    upload.abandon()

    assert world.uploads == {}
    assert world.buckets[RESULTS] == {}


def test_what_cannot_be_given_up_is_left_to_the_bucket(
    world: World, store: Store, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = Upload(store, "a", patience)
    upload.write(DATA)

    def refused(**_: Any) -> Any:
        raise ReadTimeoutError(endpoint_url="s3")

    monkeypatch.setattr(world, "abort_multipart_upload", refused)
    upload.abandon()

    assert len(world.uploads) == 1


def test_an_upload_goes_on_in_another_call(world: World, store: Store, patience: Patience) -> None:
    world.page = 3
    first = Upload(store, "a", patience)
    first.write(DATA[:8500])
    # Parts of a call that died after this one was kept do not count.
    lost = Upload(store, "a", patience, upload_id=first.upload_id, parts=first.parts, tail=first.tail)
    lost.write(b"other" * 1000)
    second = Upload(store, "a", patience, upload_id=first.upload_id, parts=first.parts, tail=first.tail)
    second.write(DATA[8500:10_200])
    second.close()

    assert world.get("a") == DATA[:10_200]


@pytest.mark.parametrize("parts", [1, 3])
def test_an_end_that_is_not_answered_is_an_end(
    parts: int, world: World, store: Store, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = Upload(store, "a", patience)
    upload.write(DATA[: parts * 1000 + 5])
    complete = world.complete_multipart_upload
    calls = 0

    def answered_late(**request: Any) -> Any:
        nonlocal calls
        calls += 1
        reply = complete(**request)
        if calls == 1:
            raise ReadTimeoutError(endpoint_url="s3")
        return reply

    monkeypatch.setattr(world, "complete_multipart_upload", answered_late)
    upload.close()

    assert world.get("a") == DATA[: parts * 1000 + 5]


def test_an_upload_that_is_gone_is_an_error(world: World, store: Store, patience: Patience) -> None:
    upload = Upload(store, "a", patience)
    upload.write(DATA[:1500])
    world.put(RESULTS, "a", b"something else")
    world.uploads.clear()

    with pytest.raises(ClientError, match="NoSuchUpload"):
        upload.close()


def test_a_function_may_die_at_any_request(world: World, store: Store, patience: Patience) -> None:
    for number in range(1, 8):
        for after in (False, True):
            world.requests.clear()
            world.dies_at, world.dies_after = number, after
            upload = Upload(store, "a", patience)
            with suppress(KilledError):
                upload.write(DATA[:5200])
                upload.close()
            world.dies_at = None
            upload = Upload(store, "a", patience)
            upload.write(DATA[:5300])
            upload.close()

            assert world.get("a") == DATA[:5300]
