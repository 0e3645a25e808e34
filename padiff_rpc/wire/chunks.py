"""Cut tensors into batches of pieces, and put received pieces together again.

All packing and unpacking of tensor bytes for the wire is in this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import CHUNK_BYTES, TensorSpec, TensorStream, data_loss
from padiff_rpc.v1 import tensor_pb2
from padiff_rpc.wire.payload import Batch, Piece
from padiff_rpc.wire.serde import tensor_spec_from_proto, tensor_spec_to_proto
from padiff_rpc.wire.slots import Region, Slot, SlotSource

TENSOR_LIMIT_BYTES = 1 << 36
"""The largest tensor that a receiver will allocate (64 GiB)."""
INLINE_BYTES = 64 << 10
"""A batch up to this size travels in the message itself: returning a slot costs more than the copy."""
COPIED_BYTES = 256 << 10
"""Payloads up to this size share a message with others, for which each is copied once more."""
BATCH_PIECES = 1000
"""The most pieces of one batch."""
ALIGNMENT_BYTES = 64
"""Tensors begin at multiples of this in a slot, and are cut at multiples of it, which keeps elements whole."""


# -- packing ----------------------------------------------------------------------------------------------------------
def pack(
    streams: Iterable[TensorStream], slots: SlotSource | None = None, offset: int = 0, count: int | None = None
) -> Iterator[Batch]:
    """Cut tensors into pieces and yield them in batches, in order.

    A batch fills a slot of the shared ring while slots are to be had. Otherwise it carries about CHUNK_BYTES of
    payloads. A payload may be a view of the stream's own chunk, so encode each batch before taking the next.

    Args:
        streams: The tensors to send. Each stream is read once, in order.
        slots: Gives free slots of the ring; None puts all bytes into payloads.
        offset: How many bytes to leave out at the front of the first tensor, when an answer that broke off is resumed.
        count: How many tensors `streams` has, so that the batch that ends the last one can be marked as `last`. If
            there are fewer, it may be that no batch is marked.
    """
    packing = _Packing(slots)
    for number, stream in enumerate(streams, 1):
        spec: tensor_pb2.TensorSpec | None = tensor_spec_to_proto(stream.spec)
        at, skipped, offset = offset, offset, 0
        for chunk in stream.chunks:
            view = chunk.cast("B") if chunk.nbytes else memoryview(b"")
            dropped = min(skipped, view.nbytes)
            view, skipped = view[dropped:], skipped - dropped
            while view.nbytes:
                size = packing.room(view.nbytes)
                packing.add(_header(stream.name, spec, at), view[:size])
                spec, at, view = None, at + size, view[size:]
                if packing.full:
                    yield packing.finish(last=number == count and at == stream.spec.size_bytes)
        if spec is not None:
            packing.add(_header(stream.name, spec, at), memoryview(b""))
            if packing.full:
                yield packing.finish(last=number == count)
    if packing.pieces:
        yield packing.finish(last=True)


class _Packing:
    """The batch that is being filled: a slot of the ring, or a list of payloads."""

    def __init__(self, slots: SlotSource | None) -> None:
        self._slots = slots
        self._begin()

    def _begin(self) -> None:
        self.pieces: list[Piece] = []
        self.full = False
        self._slot: Slot | None = None
        self._filled = 0  # bytes of the slot, or of the payloads

    def room(self, wanted: int) -> int:
        """Return how many of the `wanted` bytes the batch takes, at least one.

        A batch that outgrows INLINE_BYTES moves into a slot if there is a free one.
        """
        if self._slot is None and self._slots is not None and self._filled + wanted > INLINE_BYTES:
            self._slot = self._slots.take()
            if self._slot is not None:
                small, self.pieces, self._filled = self.pieces, [], 0
                for piece in small:
                    self.add(piece.chunk, memoryview(piece.payload))
        total = CHUNK_BYTES if self._slot is None else self._slot.memory.nbytes
        # A multiple of every element's size, so that no element is cut.
        return min(wanted, max(total - self._filled, ALIGNMENT_BYTES) // ALIGNMENT_BYTES * ALIGNMENT_BYTES)

    def add(self, chunk: tensor_pb2.TensorChunk, view: memoryview) -> None:
        """Copy a piece into the slot, or keep it as a payload, and set `full` when the batch takes no more."""
        size = view.nbytes
        if self._slot is not None:
            # NumPy's copy lets other threads run meanwhile.
            np.copyto(self._slot.memory[self._filled : self._filled + size], np.frombuffer(view, np.uint8))
            before = self.pieces[-1].chunk if self.pieces and not chunk.HasField("spec") else None
            if before is not None and before.slot_offset + before.size_bytes == self._filled:
                before.size_bytes += size  # the same tensor goes on, without a gap
            else:
                chunk.slot_offset, chunk.size_bytes = self._filled, size
                self.pieces.append(Piece(chunk))
            self._filled += -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            self.full = self._slot.memory.nbytes - self._filled < INLINE_BYTES
        else:
            # A large payload ends its batch, so that its view need not outlive the stream's next chunk.
            large = size > COPIED_BYTES
            self.pieces.append(Piece(chunk, view if large else bytes(view)))
            self._filled += size
            self.full = large or self._filled > CHUNK_BYTES - COPIED_BYTES
        self.full = self.full or len(self.pieces) >= BATCH_PIECES

    def finish(self, last: bool) -> Batch:
        """Return the batch and begin an empty one."""
        slot, pieces = self._slot, self.pieces
        self._begin()
        return Batch(pieces, last=last) if slot is None else Batch(pieces, slot.number, slot.ticket, last)


def _header(name: str, spec: tensor_pb2.TensorSpec | None, offset: int) -> tensor_pb2.TensorChunk:
    return tensor_pb2.TensorChunk(name="" if spec is None else name, spec=spec, offset=offset)


# -- unpacking --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Incoming:
    """What a receiver needs in order to read pieces from the shared ring.

    Attributes:
        region: The slots that the peer fills.
        give_back: Called with the ticket of a slot whose pieces were read, so that the peer may fill it again.
    """

    region: Region
    give_back: Callable[[int], None]


@dataclass
class PieceReader:
    """Reads batches piece by piece, and returns each batch's slot once its last piece was read.

    Attributes:
        batches: The batches as they arrive.
        incoming: This side's access to the shared ring; None if it shares none.
    """

    batches: Iterator[Batch]
    incoming: Incoming | None = None
    _batch: Batch | None = field(default=None, init=False)
    _at: int = field(default=0, init=False)

    def next(self) -> tuple[tensor_pb2.TensorChunk, memoryview] | None:
        """Return the next piece's header and its bytes, or None after the last piece.

        The bytes are a view that is valid until the next call of any method: the slot they lie in may then be filled
        again.

        Raises:
            PadiffError: DATA_LOSS if the bytes lie outside the ring's slots, or in a ring that this side does not
                share.
        """
        self.release()
        while self._batch is None:
            batch = next(self.batches, None)
            if batch is None:
                return None
            self._batch, self._at = batch, 0
            self.release()  # a batch without pieces goes back at once
        piece = self._batch.pieces[self._at]
        self._at += 1
        return piece.chunk, self._bytes(self._batch, piece)

    def release(self) -> None:
        """Return the current batch's slot if next() has given all of its pieces.

        The caller must be done with the bytes of the last piece.
        """
        if self._batch is not None and self._at == len(self._batch.pieces):
            self.close()

    def close(self) -> None:
        """Return the current batch's slot even if pieces of it were not read. Idempotent."""
        batch, self._batch = self._batch, None
        if batch is not None and batch.slot is not None and self.incoming is not None:
            self.incoming.give_back(batch.ticket)

    def _bytes(self, batch: Batch, piece: Piece) -> memoryview:
        if batch.slot is None:
            return memoryview(piece.payload)
        if self.incoming is None:
            raise PadiffError("a piece lies in a ring that this side does not share", reason=Reason.DATA_LOSS)
        return self.incoming.region.view(batch.slot, piece.chunk.slot_offset, piece.chunk.size_bytes)


def unpack(
    pieces: PieceReader, count: int | None = None, limit_bytes: int = TENSOR_LIMIT_BYTES
) -> Iterator[TensorStream]:
    """Put pieces together again and yield one stream per tensor, in order.

    Bytes of a tensor that the caller leaves unread are skipped. No batch is taken after the one that ends the last
    tensor.

    Args:
        pieces: Where the pieces come from.
        count: How many tensors to yield; None yields tensors until the pieces end.
        limit_bytes: The largest tensor to accept.

    Raises:
        PadiffError: DATA_LOSS if a tensor's bytes are fewer or more than its spec says, a piece is not where its offset
            says, or the pieces end before `count` tensors.
        PadiffError: BAD_TENSOR if a tensor is larger than `limit_bytes`, before anything is allocated.
    """
    done = 0
    while count is None or done < count:
        first = pieces.next()
        if first is None:
            if count is None:
                return
            raise PadiffError(f"the stream ended after {done} of {count} tensors", reason=Reason.DATA_LOSS)
        name, spec = first[0].name, _checked_spec(first, limit_bytes)
        chunks = _chunks(first, name, spec, pieces)
        yield TensorStream(name, spec, chunks)
        for _ in chunks:
            pass
        pieces.release()
        done += 1


def _checked_spec(first: tuple[tensor_pb2.TensorChunk, memoryview], limit_bytes: int) -> TensorSpec:
    chunk, view = first
    if not chunk.HasField("spec"):
        raise PadiffError(
            f"a piece of {view.nbytes} bytes at offset {chunk.offset} belongs to no tensor: the one before it was complete",
            reason=Reason.DATA_LOSS,
        )
    spec = tensor_spec_from_proto(chunk.spec)
    if spec.size_bytes > limit_bytes:
        raise PadiffError(
            f"tensor {chunk.name!r} of {spec} takes {spec.size_bytes} bytes; the limit is {limit_bytes}",
            reason=Reason.BAD_TENSOR,
        )
    return spec


def _chunks(
    piece: tuple[tensor_pb2.TensorChunk, memoryview], name: str, spec: TensorSpec, pieces: PieceReader
) -> Iterator[memoryview]:
    at = 0
    while True:
        chunk, view = piece
        if chunk.offset != at:
            raise PadiffError(
                f"tensor {name!r} of {spec}: a piece says offset {chunk.offset}, {at} bytes have come",
                reason=Reason.DATA_LOSS,
            )
        at += view.nbytes
        if at > spec.size_bytes:
            raise data_loss(name, spec, at)
        if view.nbytes:
            yield view
        if at == spec.size_bytes:
            return
        following = pieces.next()
        if following is None or following[0].HasField("spec"):
            raise data_loss(name, spec, at)
        piece = following
