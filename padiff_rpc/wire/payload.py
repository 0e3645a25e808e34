"""Encode and decode messages that carry tensors by hand, so that payloads are copied once at most.

protobuf's own `bytes` fields copy each payload twice on either side, at a hundredth of memcpy's speed. The bytes
written here are valid messages of proto/, and all valid messages are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.v1 import tensor_pb2

Buffer = bytes | bytearray | memoryview

SMALL_BYTES = 4096
"""Messages up to this size are read by the generated code, which is as fast for them."""
_LENGTH_DELIMITED = 2


def _tag(message: Any, field: str) -> bytes:
    return bytes([message.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED])


_BATCH = 15
"""The number of the field that holds the batch, in each message that has one."""
_BATCH_TAG = bytes([_BATCH << 3 | _LENGTH_DELIMITED])
_CHUNKS_TAG = _tag(tensor_pb2.TensorBatch, "chunks")
_PAYLOAD_TAG = _tag(tensor_pb2.TensorChunk, "payload")
_CHUNKS, _PAYLOAD = _CHUNKS_TAG[0] >> 3, _PAYLOAD_TAG[0] >> 3


@dataclass(frozen=True)
class Piece:
    """A piece of a tensor.

    Attributes:
        chunk: The TensorChunk message, its payload left out.
        payload: The bytes; empty if they lie in a slot of the ring.
    """

    chunk: tensor_pb2.TensorChunk
    payload: Buffer = b""


@dataclass(frozen=True)
class Batch:
    """Pieces that travel together: a TensorBatch.

    Attributes:
        pieces: The pieces, in order.
        slot: Number of the ring's slot that holds the bytes; None if they are payloads.
        ticket: Names this use of the slot; the receiver returns the slot by it.
        last: True if no further batch follows. The packer sets it, and the message around the batch tells it to the
            receiver.
    """

    pieces: Sequence[Piece]
    slot: int | None = None
    ticket: int = 0
    last: bool = False


@dataclass(frozen=True)
class Frame:
    """A received message that may carry tensors.

    Attributes:
        message: The protobuf message. Its own `batch` field is not to be read.
        batch: The message's batch; None if it has none.
    """

    message: Any
    batch: Batch | None


def encode(message: Any, batch: Batch) -> bytes:
    """Serialise a message together with a batch.

    Args:
        message: A protobuf message whose `batch` field (number 15) is not set.
        batch: What to write as that field. Its payloads are copied once.
    """
    if batch.slot is None:
        parts, size = [], 0
    else:
        use = tensor_pb2.SlotUse(slot=batch.slot, ticket=batch.ticket)
        parts = [tensor_pb2.TensorBatch(slot=use).SerializeToString()]
        size = len(parts[0])
    for piece in batch.pieces:
        header = piece.chunk.SerializeToString()
        length = len(piece.payload)
        tail = b"" if not length else _PAYLOAD_TAG + _varint(length)
        front = _CHUNKS_TAG + _varint(len(header) + len(tail) + length) + header + tail
        parts += [front, piece.payload]
        size += len(front) + length
    return b"".join([message.SerializeToString(), _BATCH_TAG, _varint(size), *parts])


def decoder(kind: Any) -> Callable[[bytes], Frame]:
    """Return the function that decodes messages of one protobuf class, as decode() does."""
    return lambda data: decode(kind, data)


def decode(kind: Any, data: bytes) -> Frame:
    """Parse a serialised message. Payloads of its batch are views of `data`.

    Args:
        kind: The protobuf message's class, which has a field `batch`.
        data: The serialised message.

    Raises:
        PadiffError: DATA_LOSS if a message of more than SMALL_BYTES is cut short, or is no protobuf message.
        google.protobuf.message.DecodeError: For all else that the generated code cannot parse.
    """
    if len(data) <= SMALL_BYTES:
        message = kind.FromString(data)
        return Frame(message, _batch_of(message.batch) if message.HasField("batch") else None)
    view = memoryview(data)
    rest: list[memoryview] = []
    batches: list[memoryview] = []
    for number, field, value in _fields(view):
        if number == _BATCH and value is not None:
            batches.append(value)
        else:
            rest.append(field)
    return Frame(kind.FromString(b"".join(rest)), _read_batch(batches) if batches else None)


def _batch_of(batch: tensor_pb2.TensorBatch) -> Batch:
    pieces = [Piece(chunk, chunk.payload) for chunk in batch.chunks]
    for chunk in batch.chunks:
        chunk.ClearField("payload")
    return _batch(pieces, batch)


def _batch(pieces: Sequence[Piece], rest: tensor_pb2.TensorBatch) -> Batch:
    return Batch(pieces, rest.slot.slot, rest.slot.ticket) if rest.HasField("slot") else Batch(pieces)


def _read_batch(parts: Sequence[memoryview]) -> Batch:
    """Parse the field's occurrences; protobuf takes several for one message."""
    rest: list[memoryview] = []
    pieces: list[Piece] = []
    for part in parts:
        for number, field, value in _fields(part):
            if number == _CHUNKS and value is not None:
                pieces.append(_read_piece(value))
            else:
                rest.append(field)
    return _batch(pieces, tensor_pb2.TensorBatch.FromString(b"".join(rest)))


def _read_piece(view: memoryview) -> Piece:
    rest: list[memoryview] = []
    payload = memoryview(b"")
    for number, field, value in _fields(view):
        if number == _PAYLOAD and value is not None:
            payload = value
        else:
            rest.append(field)
    return Piece(tensor_pb2.TensorChunk.FromString(b"".join(rest)), payload)


def _fields(view: memoryview) -> Iterator[tuple[int, memoryview, memoryview | None]]:
    """Yield each field's number, its whole encoding, and its value if that is delimited by a length."""
    at, end = 0, len(view)
    while at < end:
        start = at
        tag, at = _read_varint(view, at)
        value = None
        kind = tag & 7
        if kind == 0:
            _, at = _read_varint(view, at)
        elif kind == _LENGTH_DELIMITED:
            length, at = _read_varint(view, at)
            if length > end - at:
                raise _malformed()
            value, at = view[at : at + length], at + length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
            if at > end:
                raise _malformed()
        else:
            raise _malformed()
        yield tag >> 3, view[start:at], value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise _malformed()
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _malformed()


def _malformed() -> PadiffError:
    return PadiffError("a message that carries tensors is cut short, or is none", reason=Reason.DATA_LOSS)
