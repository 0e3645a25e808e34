"""The spill file: where records wait on disk once memory is full."""

from __future__ import annotations

import os
import tempfile
from bisect import bisect
from collections.abc import Iterator

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensor import CHUNK_BYTES


class SpillFile:
    """A file without a name, made at the first write, so that nothing is left behind however the process ends.

    It shrinks to nothing whenever no record is left in it. The caller holds a lock around take() and give(); one thread writes,
    and reading needs no lock while the place stays taken.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self.peak_bytes = 0
        self._descriptor = -1
        self._gaps: list[tuple[int, int]] = [(0, budget_bytes)]  # (start, end), sorted, never adjacent

    def take(self, size_bytes: int) -> int | None:
        """Reserve a place, in the first gap that is long enough, and return its offset; None when there is no such gap."""
        for index, (start, end) in enumerate(self._gaps):
            if size_bytes <= end - start:
                self._gaps[index : index + 1] = [(start + size_bytes, end)] if start + size_bytes < end else []
                self.used_bytes += size_bytes
                self.peak_bytes = max(self.peak_bytes, self.used_bytes)
                return start
        return None

    def give(self, offset: int, size_bytes: int) -> None:
        """Give a place back; the gaps around it merge."""
        self.used_bytes -= size_bytes
        start, end = offset, offset + size_bytes
        at = bisect(self._gaps, (start, end))
        first = last = at
        if at and self._gaps[at - 1][1] == start:
            first, start = at - 1, self._gaps[at - 1][0]
        if at < len(self._gaps) and self._gaps[at][0] == end:
            last, end = at + 1, self._gaps[at][1]
        self._gaps[first:last] = [(start, end)]
        if self.used_bytes == 0 and self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)

    def write(self, offset: int, flat: np.ndarray) -> None:
        """Write bytes at a place that was taken for them; OSError when the disk refuses."""
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
        """Yield what was written, piece by piece; the pieces are not kept."""
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
