"""Memory for a record that finds no gap, though the budget has room for it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from padiff_rpc.tensors.tensor import chunks_of


class Loose:
    """Copies of bytes, each in memory of its own, which goes when they do. The caller holds a lock around take() and give().

    The gaps that were too short stay with the process meanwhile, so that it may hold up to twice the budget while small records
    that nobody releases lie between large ones.
    """

    def __init__(self) -> None:
        self._held: dict[int, bytes] = {}
        self._next = 1

    def take(self) -> int:
        """Return a number for a copy."""
        number, self._next = self._next, self._next + 1
        return number

    def give(self, number: int, size_bytes: int) -> None:
        """Let go of a copy of so many bytes, if it was written."""
        self._held.pop(number, None)

    def write(self, number: int, flat: np.ndarray) -> None:
        self._held[number] = flat.tobytes()

    def read(self, number: int, size_bytes: int) -> Iterator[memoryview]:
        """Yield what was written, piece by piece, in place."""
        return chunks_of(memoryview(self._held[number])[:size_bytes])
