"""Records read in place: what is released or forgotten meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Record
from padiff_rpc.model.store.arena import Arena
from padiff_rpc.remote.placed import PlacedRecords
from padiff_rpc.tensors.tensor import CHUNK_BYTES, Digest, DType, TensorSpec
from padiff_rpc.wire.shared_store import PlacedTensor, SharedStore

DIGEST = Digest(0, None, None, None, 0.0, 0.0, 0, 0, b"")


class Placing:
    """An arena with records, and what was released of them."""

    def __init__(self) -> None:
        self.arena = Arena(64 * CHUNK_BYTES, shared=True)
        self.released: list[int] = []
        offer = self.arena.offer()
        assert offer is not None
        self.placed = PlacedRecords(SharedStore(offer), self._release)

    def record(self, identifier: int, size_bytes: int, value: int) -> Record:
        offset = self.arena.take(size_bytes)
        assert offset is not None
        self.arena.write(offset, np.full(size_bytes, value, np.uint8))
        return Record(identifier, "0", TensorSpec(DType.U8, (size_bytes,)), DIGEST, self.arena.place(offset))

    def _release(self, ids: Sequence[int]) -> None:
        self.released += ids


def test_records_come_in_the_order_asked_whole_and_in_pieces() -> None:
    placing = Placing()
    placing.placed.note([placing.record(1, 10, 1), placing.record(2, 3 * CHUNK_BYTES, 2), placing.record(3, 0, 3)])
    got = {}
    for stream in placing.placed.read([3, 2, 1]):
        assert isinstance(stream.whole, PlacedTensor)
        got[stream.name] = bytes(stream.whole.data)
        assert bytes(stream.collect().data) == got[stream.name]
    assert list(got) == ["3", "2", "1"]
    assert got == {"3": b"", "2": bytes([2]) * 3 * CHUNK_BYTES, "1": bytes([1]) * 10}


def test_what_lies_elsewhere_is_not_known() -> None:
    placing = Placing()
    placing.placed.note([placing.record(1, 10, 1), Record(2, "0", TensorSpec(DType.U8, (10,)), DIGEST)])
    assert placing.placed.has([1])
    assert not placing.placed.has([1, 2])
    assert not placing.placed.has([9])


def test_a_record_released_while_it_is_read_goes_when_the_reader_is_through() -> None:
    placing = Placing()
    placing.placed.note([placing.record(1, 3 * CHUNK_BYTES, 1), placing.record(2, 10, 2)])
    reading = placing.placed.read([1])
    stream = next(reading)
    next(stream.chunks)
    placing.placed.release([1, 2])
    assert placing.released == [2]
    assert not placing.placed.has([1])
    assert [bytes(chunk[:1]) for chunk in stream.chunks] == [b"\1", b"\1"]
    assert next(reading, None) is None
    assert placing.released == [2, 1]


def test_of_two_readers_the_last_lets_a_released_record_go() -> None:
    placing = Placing()
    placing.placed.note([placing.record(1, 10, 1)])
    first, second = placing.placed.read([1]), placing.placed.read([1])
    next(first), next(second)
    placing.placed.release([1])
    first.close()
    assert placing.released == []
    second.close()
    assert placing.released == [1]


def test_a_record_released_before_its_turn_is_unknown() -> None:
    placing = Placing()
    placing.placed.note([placing.record(1, 10, 1), placing.record(2, 10, 2)])
    reading = placing.placed.read([1, 2])
    next(reading)
    placing.placed.release([2])
    with pytest.raises(PadiffError) as raised:
        next(reading)
    assert raised.value.reason is Reason.UNKNOWN_NAME
    assert placing.released == [2]


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_a_reader_that_the_next_step_overtakes_gets_an_error_and_no_other_bytes(taken: int) -> None:
    placing = Placing()
    placing.placed.note([placing.record(1, 3 * CHUNK_BYTES, 1)])
    reading = placing.placed.read([1])
    stream = next(reading)
    for _ in range(taken):
        next(stream.chunks)
    placing.arena.renew()
    with pytest.raises(PadiffError) as raised:
        stream.collect() if taken < 3 else next(stream.chunks)
    assert raised.value.reason is Reason.UNKNOWN_NAME
    with pytest.raises(PadiffError) as raised:
        next(placing.placed.read([1]))
    assert raised.value.reason is Reason.UNKNOWN_NAME


@pytest.mark.parametrize("taken", [0, 1])
def test_a_stream_kept_beyond_its_turn_reads_its_record_or_nothing(taken: int) -> None:
    placing = Placing()
    placing.placed.note([placing.record(1, 2 * CHUNK_BYTES, 1), placing.record(2, 10, 2)])
    streams = list(placing.placed.read([1, 2]))
    assert bytes(streams[1].collect().data) == bytes([2]) * 10  # nothing has come into its place
    for _ in range(taken):
        next(streams[0].chunks)
    placing.placed.release([1, 2])
    placing.arena.give(4096, 2 * CHUNK_BYTES)
    placing.record(3, 2 * CHUNK_BYTES, 3)
    with pytest.raises(PadiffError) as raised:
        streams[0].collect()
    assert raised.value.reason is Reason.UNKNOWN_NAME


def test_a_stream_whose_source_nobody_keeps_is_read_all_the_same() -> None:
    placing = Placing()
    placing.placed.note([placing.record(1, 10, 1)])
    assert bytes(next(placing.placed.read([1])).collect().data) == bytes([1]) * 10


def test_a_late_release_that_fails_does_not_hide_how_the_reading_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PadiffError("gone", reason=Reason.WORKER_UNREACHABLE)

    placing = Placing()
    monkeypatch.setattr(placing.placed, "_release", refuse)
    placing.placed.note([placing.record(1, 10, 1)])
    with pytest.raises(KeyError):  # noqa: PT012 - the read is left in the middle
        for _ in placing.placed.read([1]):
            placing.placed.release([1])
            raise KeyError


def test_what_is_forgotten_is_not_known() -> None:
    placing = Placing()
    placing.placed.note([placing.record(1, 10, 1)])
    placing.placed.forget()
    assert not placing.placed.has([1])
