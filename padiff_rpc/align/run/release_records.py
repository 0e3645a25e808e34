"""Release one side's judged records, several together: each release is a message to the worker, and takes it a millisecond."""

from __future__ import annotations

import threading

from padiff_rpc.align.run.stall import Stall
from padiff_rpc.model.model import Boundary, Model
from padiff_rpc.per_side import SideName

RELEASE_COUNT = 64
RELEASE_BYTES = 16 << 20
"""The number of judged records, and their size in bytes, from which on they are released together."""


class RecordReleases:
    """The judged records of one side that wait for their release.

    Thread-safe: the side's own thread, which waits for room, flushes records that another thread has added.
    """

    def __init__(self, side: SideName, model: Model, stall: Stall) -> None:
        self._side: SideName = side
        self._model = model
        self._stall = stall
        self._lock = threading.Lock()
        self._ids: list[int] = []
        self._size_bytes = 0

    def add(self, boundary: Boundary) -> None:
        """Take a boundary's records in, and release all that wait where there are enough, or where the side waits for room."""
        with self._lock:
            self._ids += [record.id for record in boundary.records]
            self._size_bytes += sum(record.spec.size_bytes for record in boundary.records)
            enough = len(self._ids) >= RELEASE_COUNT or self._size_bytes >= RELEASE_BYTES
        if enough or self._stall.is_asking(self._side):
            self.flush()

    def flush(self) -> None:
        """Release all records that wait."""
        with self._lock:
            ids, self._ids, self._size_bytes = self._ids, [], 0
            if ids:
                self._model.release_activations(ids)
                self._stall.released(self._side)

    def await_room(self, releases: int) -> bool:
        """Wait for room in the side's store, as Releasing says."""
        return self._stall.wait(self._side, releases, self.flush)
