"""The bounded store."""

from __future__ import annotations

import gc
import threading
from itertools import pairwise

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.store import Store
from padiff_rpc.tensor import CHUNK_BYTES, DType, TensorSpec


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
    held = [next(chunks)]
    store.release([identifier])
    others = [put(store, CHUNK_BYTES, 8) for _ in range(3)]
    held += list(chunks)
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
        patch.setattr("padiff_rpc.model.spill.os.pwrite", refuse)
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
