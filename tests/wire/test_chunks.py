"""Tensors cut into chunks come back whole, and a stream that is not as it should be is DATA_LOSS."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import CHUNK_BYTES, DType, Tensor, TensorSpec, TensorStream, collect_all
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.wire.chunks import Incoming, PieceReader, pack, unpack
from padiff_rpc.wire.payload import Batch, Piece, decode, encode
from padiff_rpc.wire.slots import Region, Slot, Slots
from tests.wire.packing import pack_tensors

BIG = np.random.RandomState(0).standard_normal(3 * CHUNK_BYTES // 2 + 7).astype(np.float32)
TENSORS = {
    "0-d": Tensor.from_array(np.array(1.5)),
    "empty": Tensor.from_array(np.zeros((3, 0, 2), np.int64)),
    "bf16": Tensor.from_array(np.arange(6, dtype=np.uint16).reshape(2, 3), DType.BF16),
    "bool": Tensor.from_array(np.array([True, False])),
    "complex": Tensor.from_array(np.array([1 + 2j])),
    "non-contiguous": Tensor.from_array(np.arange(24).reshape(4, 6).T[::2]),
    "exactly one chunk": Tensor.from_array(np.arange(CHUNK_BYTES, dtype=np.uint8)),
    "> 4 MiB": Tensor.from_array(BIG),
}


def sent(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Pass batches through their wire form, one at a time: a payload need not outlive the next chunk."""
    for batch in batches:
        frame = decode(pb.ReadActivationsResponse, encode(pb.ReadActivationsResponse(last=batch.last), batch))
        assert frame.batch is not None
        assert frame.message.last == batch.last
        yield frame.batch


def back(batches: Iterable[Batch], count: int | None = None) -> dict[str, Tensor]:
    return collect_all(unpack(PieceReader(iter(batches)), count))


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_comes_back(name: str) -> None:
    tensor = TENSORS[name]
    batches = list(sent(pack([tensor.stream(name)])))
    assert {name: tensor} == back(batches)
    assert max(sum(len(piece.payload) for piece in batch.pieces) for batch in batches) <= CHUNK_BYTES


def test_many_tensors_follow_each_other_in_order_and_small_ones_share_a_message() -> None:
    batches = list(sent(pack_tensors(TENSORS)))
    result = back(batches)
    assert list(TENSORS) == list(result)
    assert result == TENSORS
    assert 5 < len(batches[0].pieces)


def test_a_thousand_small_tensors_are_a_few_messages() -> None:
    tensors = {str(n): Tensor.from_array(np.full(250, n, np.float32)) for n in range(2500)}
    batches = list(sent(pack_tensors(tensors)))
    assert tensors == back(batches)
    assert 4 >= len(batches)


def test_a_count_reads_no_batch_more() -> None:
    batches = iter([next(pack_tensors({name: TENSORS[name]})) for name in ("0-d", "empty", "bf16")])
    assert ["0-d", "empty"] == list(back(batches, 2))
    assert "bf16" == next(batches).pieces[0].chunk.name


def test_a_tensor_that_is_not_read_is_skipped() -> None:
    names = [stream.name for stream in unpack(PieceReader(pack_tensors(TENSORS)))]
    assert list(TENSORS) == names


def test_pieces_of_any_size_are_cut_again() -> None:
    tensor = TENSORS["> 4 MiB"]
    for step in (tensor.data.nbytes, 1000 * 1000, 77_777):
        pieces = (tensor.data[at : at + step] for at in range(0, tensor.data.nbytes, step))
        assert {"x": tensor} == back(sent(pack([TensorStream("x", tensor.spec, pieces)])))


def test_a_buffer_that_is_used_anew_for_each_chunk_arrives_as_it_was() -> None:
    tensor = TENSORS["> 4 MiB"]
    for step in (1 << 20, 300_000, 5000):
        buffer = bytearray(step)

        def chunks(step: int = step, buffer: bytearray = buffer) -> Iterator[memoryview]:
            for at in range(0, tensor.data.nbytes, step):
                piece = tensor.data[at : at + step]
                buffer[: piece.nbytes] = piece
                yield memoryview(buffer)[: piece.nbytes]

        assert {"x": tensor} == back(sent(pack([TensorStream("x", tensor.spec, chunks())])))


@pytest.mark.parametrize("offset", [0, 1 << 20, 4, 6291483])
def test_the_rest_of_a_tensor_begins_at_its_offset(offset: int) -> None:
    tensor = TENSORS["> 4 MiB"]
    pieces = [piece for batch in sent(pack([tensor.stream("x")], offset=offset)) for piece in batch.pieces]
    assert offset == pieces[0].chunk.offset
    assert pieces[0].chunk.HasField("spec")
    assert bytes(tensor.data[offset:]) == b"".join(piece.payload for piece in pieces)


def test_the_last_batch_says_so_where_the_number_of_tensors_is_known() -> None:
    lasts = [batch.last for batch in pack_tensors(TENSORS)]
    assert [False] * (len(lasts) - 1) + [True] == lasts
    whole = [batch.last for batch in pack([TENSORS["exactly one chunk"].stream("x")], count=1)]
    assert [True] == whole
    assert [False] == [batch.last for batch in pack([TENSORS["exactly one chunk"].stream("x")])]


# -- through the ring -------------------------------------------------------------------------------------------------
class Lender:
    """A SlotSource over three slots, of which the reader returns each at once."""

    def __init__(self, slot_bytes: int) -> None:
        self.region = Region(np.zeros(3 * slot_bytes, np.uint8), slot_bytes)
        self.slots = Slots(self.region)

    def take(self) -> Slot | None:
        return self.slots.take(7)

    def give_back(self, ticket: int) -> None:
        self.slots.give_back([ticket])


@pytest.mark.parametrize("extra", [-64, -1, 0, 1, 63, 64, 65, 64 << 10])
def test_tensors_around_the_size_of_a_slot_pass_through_it(extra: int) -> None:
    slot_bytes = 256 << 10
    lender = Lender(slot_bytes)
    generator = np.random.default_rng(0)
    tensors = {
        str(number): Tensor.from_array(generator.integers(0, 255, size, np.uint8))
        for number, size in enumerate([slot_bytes + extra, 5, 3 * slot_bytes + extra, 0, 70_000, 3])
    }
    incoming = Incoming(lender.region, lender.give_back)
    assert tensors == collect_all(unpack(PieceReader(sent(pack_tensors(tensors, lender)), incoming)))
    assert 3 == lender.slots.free


def test_what_of_a_tensor_lies_in_one_slot_is_one_piece() -> None:
    lender = Lender(4 << 20)
    tensors = {name: Tensor.from_array(np.full(3 << 20, n, np.uint8)) for n, name in enumerate("ab")}
    batches = list(pack_tensors(tensors, lender))
    assert [[("a", 3 << 20), ("b", 1 << 20)], [("", 2 << 20)]] == [
        [(piece.chunk.name, piece.chunk.size_bytes) for piece in batch.pieces] for batch in batches
    ]
    incoming = Incoming(lender.region, lender.give_back)
    assert tensors == collect_all(unpack(PieceReader(sent(batches), incoming)))


def test_a_slot_is_returned_once_its_last_piece_was_read() -> None:
    lender = Lender(256 << 10)
    tensors = {name: Tensor.from_array(np.full(100_000, n, np.uint8)) for n, name in enumerate("ab")}
    reader = PieceReader(sent(pack_tensors(tensors, lender)), Incoming(lender.region, lender.give_back))
    streams = unpack(reader)
    assert tensors["a"] == next(streams).collect()
    assert 2 == lender.slots.free
    second = next(streams)
    assert 2 == lender.slots.free
    assert tensors["b"] == second.collect()
    assert None is next(streams, None)
    assert 3 == lender.slots.free


def test_without_a_free_slot_bytes_travel_in_the_message() -> None:
    lender = Lender(1 << 20)
    held = [lender.take() for _ in range(3)]
    batches = list(sent(pack([TENSORS["> 4 MiB"].stream("x")], lender)))
    assert [None] * len(batches) == [batch.slot for batch in batches]
    assert {"x": TENSORS["> 4 MiB"]} == back(batches)
    assert None not in held


@pytest.mark.parametrize(
    ("slot", "offset", "size"),
    [(3, 0, 1), (0, 1 << 20, 1), (0, 0, (1 << 20) + 1), (2, 1, 1 << 20), (0, (1 << 64) - 1, 2), (0, 2, (1 << 64) - 1)],
)
def test_a_place_outside_the_slots_is_data_loss(slot: int, offset: int, size: int) -> None:
    lender = Lender(1 << 20)
    (batch,) = pack([TENSORS["exactly one chunk"].stream("x")], lender)
    chunk = batch.pieces[0].chunk
    chunk.slot_offset, chunk.size_bytes = offset, size
    wrong = Batch([Piece(chunk)], slot, batch.ticket)
    with pytest.raises(PadiffError, match="outside the ring") as caught:
        list(unpack(PieceReader(iter([wrong]), Incoming(lender.region, lender.give_back))))
    assert Reason.DATA_LOSS is caught.value.reason


def test_a_place_in_a_ring_that_is_not_shared_is_data_loss() -> None:
    with pytest.raises(PadiffError, match="does not share") as caught:
        back(sent(pack([TENSORS["exactly one chunk"].stream("x")], Lender(1 << 20))))
    assert Reason.DATA_LOSS is caught.value.reason


# -- what is not as it should be --------------------------------------------------------------------------------------
def broken_streams() -> dict[str, list[Batch]]:
    whole = list(sent(pack([TENSORS["> 4 MiB"].stream("x")])))
    other = list(sent(pack([TENSORS["bf16"].stream("y")])))

    def changed(index: int, payload: bytes | None = None, offset: int | None = None) -> list[Batch]:
        batches = list(sent(whole))
        (piece,) = batches[index].pieces
        if offset is not None:
            piece.chunk.offset = offset
        batches[index] = Batch([Piece(piece.chunk, piece.payload if payload is None else payload)])
        return batches

    def payload(index: int) -> bytes:
        return bytes(whole[index].pieces[0].payload)

    return {
        "the last piece is missing": whole[:-1],
        "the last piece is missing and another tensor follows": whole[:-1] + other,
        "a piece is missing": whole[:2] + whole[3:],
        "a piece comes twice": whole[:2] + whole[1:],
        "two pieces change places": [whole[0], whole[2], whole[1], *whole[3:]],
        "a piece is too short": changed(1, payload(1)[:-1]),
        "the last piece is too long": changed(-1, payload(-1) + b"x"),
        "an offset is wrong": changed(1, offset=whole[1].pieces[0].chunk.offset + 4),
        "the first offset is not 0": changed(0, offset=4),
        "a piece follows the end": [*whole, whole[-1]],
        "the header is missing": whole[1:],
    }


@pytest.mark.parametrize("fault", broken_streams())
def test_a_broken_stream_is_data_loss(fault: str) -> None:
    with pytest.raises(PadiffError) as caught:
        back(broken_streams()[fault])
    assert Reason.DATA_LOSS is caught.value.reason


@pytest.mark.parametrize("fault", broken_streams())
def test_a_broken_stream_is_data_loss_also_where_it_is_skipped(fault: str) -> None:
    with pytest.raises(PadiffError) as caught:
        list(unpack(PieceReader(iter(broken_streams()[fault]))))
    assert Reason.DATA_LOSS is caught.value.reason


def test_fewer_tensors_than_announced_is_data_loss() -> None:
    with pytest.raises(PadiffError, match="after 8 of 9 tensors") as caught:
        back(pack_tensors(TENSORS), len(TENSORS) + 1)
    assert Reason.DATA_LOSS is caught.value.reason


def test_a_tensor_above_the_limit_is_refused_before_it_is_allocated() -> None:
    spec = TensorSpec(DType.F32, (1 << 60,))
    batch = next(pack([TensorStream("huge", spec, iter(()))]))
    with pytest.raises(PadiffError, match="'huge'") as caught:
        back([batch])
    assert Reason.BAD_TENSOR is caught.value.reason
