"""The spill file: records wait there on disk once memory is full."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.store.free_ranges import FreeRanges
from padiff_rpc.tensors.tensor import CHUNK_BYTES


class SpillFile:
    """A file without a name, made at the first write, so that nothing is left behind however the process ends.

    It shrinks to nothing whenever no record is left in it. The caller holds a lock around take() and give(); one thread writes,
    and reading needs no lock while the place stays taken.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.peak_bytes: int = 0
        self._free = FreeRanges(budget_bytes)
        self._descriptor = -1

    @property
    def used_bytes(self) -> int:
        """The number of bytes that records occupy now."""
        return self._free.used_bytes

    def take(self, size_bytes: int) -> int | None:
        """Reserve a place and return its offset; None where no gap is long enough."""
        offset = self._free.take(size_bytes)
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        return offset

    def give(self, offset: int, size_bytes: int) -> None:
        """Free a place again."""
        self._free.give(offset, size_bytes)
        if self.used_bytes == 0 and self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)

    def write(self, offset: int, flat: np.ndarray) -> None:
        """Write bytes (uint8) at a place that was taken for them.

        Raises:
            OSError: The disk refuses them.
        """
        if self._descriptor < 0:
            with tempfile.TemporaryFile(prefix="padiff-spill-") as file:
                self._descriptor = os.dup(file.fileno())
        view = flat.data
        for start in range(0, view.nbytes, CHUNK_BYTES):
            piece = view[start : start + CHUNK_BYTES]
            while piece.nbytes:
                written = os.pwrite(self._descriptor, piece, offset + start)
                piece, start = piece[written:], start + written

    def read(self, offset: int, size_bytes: int) -> Iterator[memoryview]:
        """Read the bytes at a place and yield them piece by piece, each in new memory.

        Raises:
            PadiffError: DATA_LOSS where the file ends too early.
        """
        end = offset + size_bytes
        while offset < end:
            data = os.pread(self._descriptor, min(CHUNK_BYTES, end - offset), offset) if self._descriptor >= 0 else b""
            if not data:
                raise PadiffError("the spill file ended before its record did", reason=Reason.DATA_LOSS)
            offset += len(data)
            yield memoryview(data)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
