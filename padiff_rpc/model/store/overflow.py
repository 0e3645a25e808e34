"""Memory for records that find no gap in the arena, though the budget has room for them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from padiff_rpc.tensors.tensor import chunks_of


class Overflow:
    """Keep copies of bytes, each in memory of its own, which is freed with the copy.

    The gaps that were too short stay with the process meanwhile, so that it may hold up to twice the budget while small records
    that nobody releases lie between large ones. The caller holds a lock around take() and give().
    """

    def __init__(self) -> None:
        self._held: dict[int, bytes] = {}
        self._next = 1

    def take(self) -> int:
        """Return a number for a new copy."""
        number, self._next = self._next, self._next + 1
        return number

    def give(self, number: int, size_bytes: int) -> None:
        """Free a copy, if it was written."""
        self._held.pop(number, None)

    def write(self, number: int, flat: np.ndarray) -> None:
        """Copy bytes (uint8) under a number that take() returned."""
        self._held[number] = flat.tobytes()

    def read(self, number: int, size_bytes: int) -> Iterator[memoryview]:
        """Yield the bytes of a copy, piece by piece, without copying them."""
        return chunks_of(memoryview(self._held[number])[:size_bytes])
