"""The bounded store."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import tempfile
import threading
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.store.spill import SpillFile
from padiff_rpc.model.store.store import Store
from padiff_rpc.tensors.digest import hash_of
from padiff_rpc.tensors.tensor import CHUNK_BYTES, DType, TensorSpec


def put(store: Store, size_bytes: int, fill: int) -> int:
    return store.put(np.full(size_bytes, fill, np.uint8), TensorSpec(DType.U8, (size_bytes,)))


def read(store: Store, identifier: int) -> bytes:
    return bytes(store.get(identifier).collect().data)


@pytest.mark.parametrize("size_bytes", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 5])
@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_what_is_put_is_got_back(size_bytes: int, memory: int) -> None:
    store = Store(memory, 1 << 30)
    data = np.random.default_rng(size_bytes).integers(0, 256, size_bytes, dtype=np.uint8)
    spec = TensorSpec(DType.U8, (size_bytes,))
    identifier = store.put(data, spec)
    other = put(store, size_bytes, 9)
    stream = store.get(identifier)
    assert (stream.name, stream.spec) == (str(identifier), spec)
    sizes = [chunk.nbytes for chunk in stream.chunks]
    assert all(size == CHUNK_BYTES for size in sizes[:-1])
    assert sum(sizes) == size_bytes
    assert read(store, identifier) == data.tobytes()
    assert read(store, other) == bytes([9]) * size_bytes
    assert (store.figures().spilled_bytes > 0) == (memory == 0 and size_bytes > 0)


def test_a_record_is_a_copy() -> None:
    store = Store()
    data = np.zeros(CHUNK_BYTES + 3, np.uint8)
    identifier = store.put(data, TensorSpec(DType.U8, data.shape))
    data[:] = 1
    assert not any(read(store, identifier))


def test_memory_comes_first_then_disk_then_an_error_that_names_both() -> None:
    store = Store(memory_budget_bytes=100, disk_budget_bytes=150)
    kept = [put(store, 60, 1), put(store, 60, 2), put(store, 40, 3), put(store, 60, 4)]
    figures = store.figures()
    assert (figures.memory_bytes, figures.disk_bytes, figures.spilled_bytes) == (100, 120, 120)
    with pytest.raises(PadiffError) as raised:
        put(store, 60, 5)
    assert raised.value.reason is Reason.STORE_FULL
    assert "100 of 100 bytes of memory and 120 of 150 bytes of disk" in raised.value.message
    assert "--store-memory" in raised.value.hint
    assert "--store-disk" in raised.value.hint
    assert [read(store, identifier)[:1] for identifier in kept] == [b"\1", b"\2", b"\3", b"\4"]
    assert read(store, put(store, 30, 6)) == bytes([6]) * 30


def test_released_places_are_used_again_in_memory_and_on_disk() -> None:
    store = Store(memory_budget_bytes=2 * CHUNK_BYTES, disk_budget_bytes=3 * CHUNK_BYTES)
    for turn in range(5):
        identifiers = [put(store, CHUNK_BYTES, turn + index) for index in range(5)]
        for index, identifier in enumerate(identifiers):
            assert read(store, identifier) == bytes([turn + index]) * CHUNK_BYTES
        store.release(identifiers[1:4])
        store.release(identifiers)
    figures = store.figures()
    assert (figures.memory_bytes, figures.disk_bytes) == (0, 0)
    assert (figures.peak_memory_bytes, figures.peak_disk_bytes) == (2 * CHUNK_BYTES, 3 * CHUNK_BYTES)


def test_gaps_on_disk_merge() -> None:
    store = Store(memory_budget_bytes=0, disk_budget_bytes=90)
    first, second, third = (put(store, 30, index) for index in range(3))
    store.release([first])
    store.release([third])
    with pytest.raises(PadiffError):
        put(store, 31, 1)
    store.release([second])
    assert read(store, put(store, 90, 7)) == bytes([7]) * 90


def test_ids_are_never_used_twice() -> None:
    store = Store()
    first = put(store, 3, 1)
    store.clear()
    identifiers = [first, put(store, 3, 2)]
    store.release(identifiers)
    identifiers.append(put(store, 3, 3))
    assert all(before < after for before, after in pairwise(identifiers))


def test_an_unknown_or_released_id_is_named() -> None:
    store = Store()
    identifier = put(store, 3, 1)
    waiting = store.get(identifier)
    store.release([identifier, 99])
    for attempt in (lambda: store.get(identifier), lambda: waiting.collect(), lambda: store.get(99)):
        with pytest.raises(PadiffError) as raised:
            attempt()
        assert raised.value.reason is Reason.UNKNOWN_NAME


@pytest.mark.parametrize("memory", [0, 8 * CHUNK_BYTES])
def test_a_release_while_it_is_read_does_not_touch_what_the_reader_gets(memory: int) -> None:
    store = Store(memory, 8 * CHUNK_BYTES)
    identifier = put(store, 3 * CHUNK_BYTES, 5)
    chunks = store.get(identifier).chunks
    held = [bytes(next(chunks))]
    store.release([identifier])
    others = [put(store, CHUNK_BYTES, 8) for _ in range(3)]
    held += map(bytes, chunks)
    late = [put(store, CHUNK_BYTES, 8) for _ in range(3)]
    assert b"".join(held) == bytes([5]) * (3 * CHUNK_BYTES)
    assert all(read(store, other) == bytes([8]) * CHUNK_BYTES for other in others + late)


@pytest.mark.parametrize("memory", [0, 8 * CHUNK_BYTES])
def test_an_abandoned_reader_gives_its_place_back(memory: int) -> None:
    store = Store(memory, 8 * CHUNK_BYTES)
    identifier = put(store, 2 * CHUNK_BYTES, 5)
    chunks = store.get(identifier).chunks
    next(chunks)
    store.release([identifier])
    assert store.figures().memory_bytes + store.figures().disk_bytes == 2 * CHUNK_BYTES
    del chunks
    gc.collect()
    assert store.figures().memory_bytes + store.figures().disk_bytes == 0


def test_closing_while_it_is_read_lets_the_reader_finish() -> None:
    store = Store(0, 8 * CHUNK_BYTES)
    chunks = store.get(put(store, 2 * CHUNK_BYTES, 5)).chunks
    first = bytes(next(chunks))
    store.close()
    assert first + b"".join(bytes(chunk) for chunk in chunks) == bytes([5]) * (2 * CHUNK_BYTES)
    assert read(store, put(store, 3, 1)) == b"\1\1\1"


def test_a_disk_that_refuses_is_a_full_store(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    store = Store(0, 1 << 20)
    with monkeypatch.context() as patch:
        patch.setattr("padiff_rpc.model.store.spill.os.pwrite", refuse)
        with pytest.raises(PadiffError, match="No space left") as raised:
            put(store, 10, 1)
    assert raised.value.reason is Reason.STORE_FULL
    assert store.figures().disk_bytes == 0
    assert read(store, put(store, 10, 2)) == bytes([2]) * 10


def test_readers_and_releases_from_other_threads() -> None:
    store = Store(3 * CHUNK_BYTES, 64 * CHUNK_BYTES)
    wrong: list[str] = []
    handed: list[tuple[int, int]] = []
    lock = threading.Condition()
    done = False

    def consume() -> None:
        while True:
            with lock:
                lock.wait_for(lambda: handed or done, timeout=30)
                if not handed:
                    return
                identifier, fill = handed.pop(0)
                lock.notify_all()
            data = read(store, identifier)
            if data != bytes([fill]) * len(data):
                wrong.append(f"record {identifier}")
            store.release([identifier])

    threads = [threading.Thread(target=consume) for _ in range(3)]
    for thread in threads:
        thread.start()
    for index in range(120):
        with lock:
            lock.wait_for(lambda: len(handed) < 8, timeout=30)
        identifier = put(store, (index % 4) * CHUNK_BYTES + index, index)
        with lock:
            handed.append((identifier, index))
            lock.notify_all()
    with lock:
        done = True
        lock.notify_all()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert wrong == []
    assert store.figures().memory_bytes == 0
    assert store.figures().disk_bytes == 0


# -- what several records share -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("memory", [0, 8 * CHUNK_BYTES])
def test_equal_bytes_are_kept_once_until_the_last_record_of_them_is_released(memory: int) -> None:
    store = Store(memory, 8 * CHUNK_BYTES)
    data = np.full(CHUNK_BYTES + 5, 7, np.uint8)
    flat, square = TensorSpec(DType.U8, (CHUNK_BYTES + 5,)), TensorSpec(DType.I8, (1, CHUNK_BYTES + 5))
    first = store.put(data, flat, hash_of(data))
    second = store.put(data.copy(), square, hash_of(data))
    assert first != second
    assert [store.get(each).spec for each in (first, second)] == [flat, square]
    assert held(store) == CHUNK_BYTES + 5
    store.release([first])
    store.release([first])
    assert (held(store), read(store, second)) == (CHUNK_BYTES + 5, data.tobytes())
    with pytest.raises(PadiffError):
        store.get(first)
    store.release([second])
    assert held(store) == 0


def test_what_is_equal_to_something_released_is_copied_anew() -> None:
    store = Store()
    data = np.full(CHUNK_BYTES, 7, np.uint8)
    spec = TensorSpec(DType.U8, data.shape)
    store.release([store.put(data, spec, hash_of(data))])
    put(store, CHUNK_BYTES, 1)  # takes its block
    assert read(store, store.put(data, spec, hash_of(data))) == data.tobytes()


def test_other_bytes_and_other_sizes_share_nothing() -> None:
    store = Store()
    short, long, other = (np.full(size, fill, np.uint8) for size, fill in ((10, 0), (11, 0), (10, 1)))
    ids = [store.put(data, TensorSpec(DType.U8, data.shape), hash_of(data)) for data in (short, long, other)]
    ids.append(store.put(long, TensorSpec(DType.U8, long.shape), hash_of(short)))  # one hash for two sizes
    assert [read(store, each) for each in ids] == [bytes(10), bytes(11), bytes([1]) * 10, bytes(11)]
    assert held(store) == 42


def test_one_copy_is_dropped_once_by_clear() -> None:
    store = Store()
    data = np.zeros(10, np.uint8)
    for _ in range(3):
        store.put(data, TensorSpec(DType.U8, (10,)), hash_of(data))
    store.clear()
    assert held(store) == 0


# -- room ---------------------------------------------------------------------------------------------------------------
def test_a_full_store_asks_for_room_as_often_as_it_takes() -> None:
    store = Store(memory_budget_bytes=100, disk_budget_bytes=0)
    kept = [put(store, 40, 1), put(store, 40, 2)]
    seen: list[int] = []

    def await_room(releases: int) -> bool:
        seen.append(releases)
        store.release([kept.pop()])
        return True

    identifier = store.put(np.full(90, 3, np.uint8), TensorSpec(DType.U8, (90,)), await_room=await_room)
    assert seen == [0, 1]
    assert read(store, identifier) == bytes([3]) * 90


@pytest.mark.parametrize("size_bytes", [90, 101])
def test_where_no_room_will_come_the_store_is_full(size_bytes: int) -> None:
    store = Store(memory_budget_bytes=100, disk_budget_bytes=0)
    put(store, 40, 1)
    asked: list[int] = []
    with pytest.raises(PadiffError) as raised:
        store.put(
            np.zeros(size_bytes, np.uint8),
            TensorSpec(DType.U8, (size_bytes,)),
            await_room=lambda releases: asked.append(releases) is not None,
        )
    assert raised.value.reason is Reason.STORE_FULL
    assert asked == ([0] if size_bytes == 90 else [])  # more than the whole store: no release would help


def test_what_finds_no_gap_is_kept_all_the_same_while_the_budget_has_room() -> None:
    store = Store(memory_budget_bytes=CHUNK_BYTES, disk_budget_bytes=0)
    first, second = put(store, 600_000, 1), put(store, 100, 2)
    store.release([first])
    third = put(store, 900_000, 3)
    assert store.figures().memory_bytes == 900_100
    assert read(store, second) == bytes([2]) * 100
    assert read(store, third) == bytes([3]) * 900_000
    with pytest.raises(PadiffError):
        put(store, CHUNK_BYTES - 900_000, 4)
    store.release([second, third])
    assert store.figures().memory_bytes == 0
    with pytest.raises(PadiffError):
        store.get(third)


def test_where_the_system_refuses_memory_records_go_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(64 * CHUNK_BYTES, 64 * CHUNK_BYTES)
    assert store.offer() is not None

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "no memory")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    assert read(store, put(store, 10 * CHUNK_BYTES, 7)) == bytes([7]) * 10 * CHUNK_BYTES
    figures = store.figures()
    assert (figures.memory_bytes, figures.disk_bytes) == (0, 10 * CHUNK_BYTES)


def test_only_what_was_offered_tells_its_places_and_what_is_cleared_holds_no_more() -> None:
    store = Store(16 * CHUNK_BYTES, 0)
    kept = put(store, 10, 1)
    assert store.place(kept) is None
    assert store.offer() is None  # it lies elsewhere
    store.release([kept])
    offer = store.offer()
    assert offer is not None
    assert store.offer() == offer
    first = store.place(put(store, 10, 1))
    store.clear()
    second = store.place(put(store, 10, 1))
    assert first is not None
    assert second is not None
    assert (first.offset, first.generation) != (second.offset, second.generation)
    assert first.offset == second.offset
    store.close()
    assert store.offer() not in (offer, None)


# -- memory and disk that is given back ---------------------------------------------------------------------------------------
def test_no_disk_is_touched_unless_memory_is_full_and_none_stays_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = Store(CHUNK_BYTES, 8 * CHUNK_BYTES)
    first = put(store, CHUNK_BYTES, 1)
    assert sizes_of_open_files(tmp_path) == []
    spilled = [put(store, CHUNK_BYTES, fill) for fill in (2, 3)]
    assert sizes_of_open_files(tmp_path) == [2 * CHUNK_BYTES]
    assert list(tmp_path.iterdir()) == []  # nothing to find, or to leave behind when the process is killed
    store.release([first, spilled[0]])
    assert read(store, spilled[1]) == bytes([3]) * CHUNK_BYTES
    assert store.figures().memory_bytes == 0  # what was read stays on disk
    store.release([spilled[1]])
    assert sizes_of_open_files(tmp_path) == [0]
    assert put(store, CHUNK_BYTES, 4)
    spilled = [put(store, CHUNK_BYTES, 5)]
    assert read(store, spilled[0]) == bytes([5]) * CHUNK_BYTES
    store.clear()
    assert sizes_of_open_files(tmp_path) == [0]
    store.close()
    gc.collect()
    assert sizes_of_open_files(tmp_path) == []


def test_places_on_disk_merge_in_whatever_order_they_come_back() -> None:
    for order in permutations(range(4)):
        spill = SpillFile(50)
        places = [spill.take(10) for _ in range(4)]
        for index in order:
            offset = places[index]
            assert offset is not None
            spill.give(offset, 10)
        assert (spill.used_bytes, spill.peak_bytes, spill.take(50)) == (0, 40, 0)


def held(store: Store) -> int:
    return store.figures().memory_bytes + store.figures().disk_bytes


def sizes_of_open_files(folder: Path) -> list[int]:
    """Sizes of the files below a folder that this process holds open, with or without a name."""
    found: list[int] = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(link).startswith(str(folder)):
                found.append(os.stat(link).st_size)
    return found
