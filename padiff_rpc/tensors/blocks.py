"""Read tensor streams as blocks of whole elements, one stream or two abreast, wherever their chunks are cut."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from padiff_rpc.tensors.float64 import BLOCK_ITEMS
from padiff_rpc.tensors.tensor import TensorStream, data_loss


def blocks(stream: TensorStream, items: int) -> Iterator[np.ndarray]:
    """Yield a stream's elements as 1-D arrays of their storage type, each valid until the next.

    Args:
        stream: The stream, which is read to its end.
        items: The number of elements in a block; the last block may be shorter.

    Raises:
        PadiffError: DATA_LOSS where the stream does not fill its spec exactly.
    """
    side = _Blocks(stream, items)
    for start in range(0, stream.spec.count, items):
        yield side.read(min(items, stream.spec.count - start))
    side.expect_end()


def abreast(base: TensorStream, raw: TensorStream) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the elements of two streams as pairs of 1-D arrays of equal length, each pair valid until the next.

    The arrays have the storage types of their streams, and at most BLOCK_ITEMS elements. The streams have equally many
    elements.

    Raises:
        PadiffError: DATA_LOSS where a stream does not fill its spec exactly.
    """
    sides = [_Blocks(base, BLOCK_ITEMS), _Blocks(raw, BLOCK_ITEMS)]
    for start in range(0, base.spec.count, BLOCK_ITEMS):
        items = min(BLOCK_ITEMS, base.spec.count - start)
        yield sides[0].read(items), sides[1].read(items)
    for side in sides:
        side.expect_end()


class _Blocks:
    """Read a stream's elements, up to `most` at a time. A block that lies within a chunk is not copied."""

    def __init__(self, stream: TensorStream, most: int) -> None:
        self._stream = stream
        self._chunk = memoryview(b"")
        self._read_bytes = 0
        self._storage = stream.spec.dtype.storage
        self._buffer = bytearray(min(stream.spec.count, most) * self._storage.itemsize)

    def read(self, items: int) -> np.ndarray:
        size = items * self._storage.itemsize
        self._read_bytes += size
        if not self._chunk.nbytes:
            self._next_chunk(missing=size)
        if self._chunk.nbytes >= size:
            block, self._chunk = self._chunk[:size], self._chunk[size:]
            return np.frombuffer(block, self._storage)
        filled = 0
        while filled < size:
            if not self._chunk.nbytes:
                self._next_chunk(missing=size - filled)
            piece = self._chunk[: size - filled]
            self._buffer[filled : filled + piece.nbytes] = piece
            self._chunk = self._chunk[piece.nbytes :]
            filled += piece.nbytes
        return np.frombuffer(self._buffer, self._storage, items)

    def expect_end(self) -> None:
        surplus = self._chunk.nbytes + sum(chunk.nbytes for chunk in self._stream.chunks)
        if surplus:
            raise data_loss(self._stream.name, self._stream.spec, self._read_bytes + surplus)

    def _next_chunk(self, missing: int) -> None:
        while not self._chunk.nbytes:
            chunk = next(self._stream.chunks, None)
            if chunk is None:
                raise data_loss(self._stream.name, self._stream.spec, self._read_bytes - missing)
            self._chunk = chunk.cast("B") if chunk.nbytes else chunk
