"""Memory for records: one range whose places are used again, and which another process of this host can map."""

from __future__ import annotations

import logging
import mmap
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from padiff_rpc import memfd
from padiff_rpc.model.gaps import Gaps
from padiff_rpc.tensor import CHUNK_BYTES

log = logging.getLogger(__name__)

MEMFD_NAME = "padiff-rpc-store"
NONCE_BYTES = 16
FIRST_PLACE = 4096
"""Where records begin. Before it stands the nonce by which a peer knows the right memory."""
ALIGNMENT_BYTES = 64
_STEP_BYTES = 8 << 20
_LEAST_SLACK_BYTES, _MOST_SLACK_BYTES = 64 << 10, 32 << 20
_LIMIT_BYTES = 1 << 44


@dataclass(frozen=True)
class Offer:
    """Where an arena is to be found: /proc/PID/fd/DESCRIPTOR, a memfd of so many bytes that begins with the nonce."""

    pid: int
    descriptor: int
    size_bytes: int
    nonce: bytes


class Arena:
    """Places for records of `budget_bytes` together, and a little more for what lies idle between them.

    Pages are made as they are first used and kept: touching fresh ones costs ten times a copy into warm ones. So places are
    taken first fit, the same ones again and again. The caller holds a lock around take(), give() and offer().
    """

    def __init__(self, budget_bytes: int) -> None:
        slack_bytes = _LEAST_SLACK_BYTES + min(budget_bytes // 8, _MOST_SLACK_BYTES)
        room_bytes = _aligned(min(budget_bytes, _LIMIT_BYTES) + slack_bytes)
        self._gaps = Gaps(room_bytes)
        self._size_bytes = FIRST_PLACE + room_bytes
        self._made_bytes = 0
        self._descriptor = -1
        self._nonce = b""
        self._memory: np.ndarray | None = None

    def take(self, size_bytes: int) -> int | None:
        """Reserve a place and return it; None where no gap is long enough, or the system has no more memory for us."""
        if not size_bytes:
            return FIRST_PLACE
        offset = self._gaps.take(_aligned(size_bytes))
        if offset is None:
            return None
        place = FIRST_PLACE + offset
        try:
            self._make(place + size_bytes)
        except OSError as err:
            log.debug("no memory for a record of %d bytes: %s", size_bytes, err)
            self._gaps.give(offset, _aligned(size_bytes))
            return None
        return place

    def give(self, place: int, size_bytes: int) -> None:
        """Give a place back."""
        if size_bytes:
            self._gaps.give(place - FIRST_PLACE, _aligned(size_bytes))

    def write(self, place: int, flat: np.ndarray) -> None:
        """Copy bytes (uint8) to a place that was taken for them."""
        if flat.nbytes:
            assert self._memory is not None
            np.copyto(self._memory[place : place + flat.nbytes], flat)

    def read(self, place: int, size_bytes: int) -> Iterator[memoryview]:
        """Yield what was written, piece by piece, in place."""
        if not size_bytes:
            return
        assert self._memory is not None
        view = self._memory.data.toreadonly()
        for start in range(place, place + size_bytes, CHUNK_BYTES):
            yield view[start : min(start + CHUNK_BYTES, place + size_bytes)]

    def offer(self) -> Offer | None:
        """Tell where a peer finds the memory; None where it is this process's alone."""
        try:
            self._make(FIRST_PLACE)
        except OSError as err:
            log.debug("no memory for records: %s", err)
        return None if self._descriptor < 0 else Offer(os.getpid(), self._descriptor, self._size_bytes, self._nonce)

    def _make(self, end: int) -> None:
        """Have the memory up to there."""
        if self._memory is None:
            self._memory = np.frombuffer(self._shared() or mmap.mmap(-1, self._size_bytes), np.uint8)
        if end <= self._made_bytes:
            return
        end = min(max(end, self._made_bytes + _STEP_BYTES), self._size_bytes)
        if self._descriptor >= 0:
            # Where the memory is lacking the first touch would end in SIGBUS, this ends in an error.
            os.posix_fallocate(self._descriptor, self._made_bytes, end - self._made_bytes)
        self._made_bytes = end

    def _shared(self) -> mmap.mmap | None:
        try:
            self._descriptor = memfd.create(MEMFD_NAME)
            os.ftruncate(self._descriptor, self._size_bytes)
            memfd.fix_size(self._descriptor)
            self._nonce = secrets.token_bytes(NONCE_BYTES)
            os.pwrite(self._descriptor, self._nonce, 0)
            return mmap.mmap(self._descriptor, self._size_bytes)
        except OSError as err:
            log.debug("records lie in memory of this process alone: %s", err)
            self._close()
            return None

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self._close()


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
