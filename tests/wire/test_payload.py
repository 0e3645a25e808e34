"""What is written by hand is what the generated code reads and writes."""

from __future__ import annotations

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.v1 import tensor_pb2
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.wire.payload import SMALL_BYTES, Batch, Piece, decode, encode

SPEC = tensor_pb2.TensorSpec(dtype=tensor_pb2.D_TYPE_U8, shape=[3, 70_000], size_bytes=210_000)


def chunk(**fields: object) -> tensor_pb2.TensorChunk:
    return tensor_pb2.TensorChunk(**fields)  # pyright: ignore[reportArgumentType]


def batches() -> dict[str, tuple[Batch, tensor_pb2.TensorBatch]]:
    """The same batch for us and for the generated code."""
    big, small = bytes(range(256)) * 500, b"abc"
    first, second = chunk(name="ü", spec=SPEC), chunk(offset=128_000)
    in_slot = chunk(name="x", spec=SPEC, slot_offset=64, size_bytes=210_000)
    slot = tensor_pb2.SlotUse(slot=0, ticket=1 << 40)

    def with_payload(head: tensor_pb2.TensorChunk, payload: bytes) -> tensor_pb2.TensorChunk:
        made = tensor_pb2.TensorChunk()
        made.CopyFrom(head)
        made.payload = payload
        return made

    return {
        "empty": (Batch([]), tensor_pb2.TensorBatch()),
        "small": (Batch([Piece(first, small)]), tensor_pb2.TensorBatch(chunks=[with_payload(first, small)])),
        "large": (
            Batch([Piece(first, memoryview(big)), Piece(second, small), Piece(chunk(name="0"))]),
            tensor_pb2.TensorBatch(
                chunks=[with_payload(first, big), with_payload(second, small), chunk(name="0")],
            ),
        ),
        "in a slot": (Batch([Piece(in_slot)], 0, 1 << 40), tensor_pb2.TensorBatch(chunks=[in_slot], slot=slot)),
        "many in a slot": (
            Batch([Piece(in_slot)] * 500, 0, 1 << 40),
            tensor_pb2.TensorBatch(chunks=[in_slot] * 500, slot=slot),
        ),
    }


def plain(batch: Batch | None) -> object:
    assert batch is not None
    return [(piece.chunk, bytes(piece.payload)) for piece in batch.pieces], batch.slot, batch.ticket


@pytest.mark.parametrize("name", batches())
def test_the_generated_code_reads_what_we_write(name: str) -> None:
    ours, theirs = batches()[name]
    message = pb.ReadActivationsResponse.FromString(encode(pb.ReadActivationsResponse(last=True), ours))
    assert pb.ReadActivationsResponse(last=True, batch=theirs) == message


@pytest.mark.parametrize("name", batches())
def test_we_read_what_the_generated_code_writes(name: str) -> None:
    ours, theirs = batches()[name]
    frame = decode(pb.ForwardRequest, pb.ForwardRequest(batch=theirs).SerializeToString())
    assert plain(ours) == plain(frame.batch)
    frame = decode(pb.WriteParametersRequest, encode(pb.WriteParametersRequest(session_id="s"), ours))
    assert (plain(ours), "s") == (plain(frame.batch), frame.message.session_id)


def test_a_large_message_without_a_batch_is_read_too() -> None:
    header = pb.ForwardHeader(session_id="s", inputs_json="x" * 2 * SMALL_BYTES)
    frame = decode(pb.ForwardRequest, pb.ForwardRequest(header=header).SerializeToString())
    assert (None, header) == (frame.batch, frame.message.header)


def test_a_field_that_we_do_not_know_is_passed_over() -> None:
    ours, _ = batches()["large"]
    unknown = b"\xa0\x06\x01" + b"\xa9\x06" + bytes(8) + b"\xb5\x06" + bytes(4) + b"\xba\x06\x02hi"
    frame = decode(pb.ReadActivationsResponse, unknown + encode(pb.ReadActivationsResponse(), ours) + unknown)
    assert plain(ours) == plain(frame.batch)


def test_payloads_are_not_copied_on_receipt() -> None:
    data = encode(pb.ReadActivationsResponse(), batches()["large"][0])
    frame = decode(pb.ReadActivationsResponse, data)
    assert frame.batch is not None
    payload = frame.batch.pieces[0].payload
    assert isinstance(payload, memoryview)
    assert data is payload.obj


@pytest.mark.parametrize("cut", [1, 2, 100, 130_000])
def test_a_message_that_is_cut_short_is_data_loss(cut: int) -> None:
    data = encode(pb.ReadActivationsResponse(), batches()["large"][0])
    with pytest.raises(PadiffError) as caught:
        decode(pb.ReadActivationsResponse, data[:-cut] if cut < 130_000 else data[: SMALL_BYTES + 1])
    assert Reason.DATA_LOSS is caught.value.reason
