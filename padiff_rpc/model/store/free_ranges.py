"""Keep track of the free ranges of a stretch of bytes."""

from __future__ import annotations

from bisect import bisect


class FreeRanges:
    """The free ranges of a stretch of bytes. The caller holds a lock around each call."""

    def __init__(self, size_bytes: int) -> None:
        self.used_bytes: int = 0
        self._ranges: list[tuple[int, int]] = [(0, size_bytes)]  # (start, end), sorted, never adjacent

    def take(self, size_bytes: int) -> int | None:
        """Reserve a range in the first gap that is long enough, and return its offset; None where there is no such gap."""
        for index, (start, end) in enumerate(self._ranges):
            if size_bytes <= end - start:
                self._ranges[index : index + 1] = [(start + size_bytes, end)] if start + size_bytes < end else []
                self.used_bytes += size_bytes
                return start
        return None

    def give(self, offset: int, size_bytes: int) -> None:
        """Free a range again, and merge it with the gaps around it."""
        self.used_bytes -= size_bytes
        start, end = offset, offset + size_bytes
        at = bisect(self._ranges, (start, end))
        first = last = at
        if at and self._ranges[at - 1][1] == start:
            first, start = at - 1, self._ranges[at - 1][0]
        if at < len(self._ranges) and self._ranges[at][0] == end:
            last, end = at + 1, self._ranges[at][1]
        self._ranges[first:last] = [(start, end)]
