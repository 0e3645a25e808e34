"""Memory for records: one range whose places are reused, and which another process of this host can map."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from padiff_rpc.model.model import StorePlace
from padiff_rpc.model.store.budgets import memory_bytes
from padiff_rpc.model.store.free_ranges import FreeRanges
from padiff_rpc.system import memfd
from padiff_rpc.tensors.tensor import chunks_of

log: logging.Logger = logging.getLogger(__name__)

MEMFD_NAME = "padiff-rpc-store"
"""The name of the memory file, as /proc shows it."""
GENERATION_OFFSET = 16
"""The offset of the generation (uint64, little-endian) in the memory."""
FIRST_OFFSET = 4096
"""The offset of the first record.

Before it stand the nonce by which a peer recognises the right memory, and the generation.
"""
ALIGNMENT_BYTES = 64
"""Every record begins at a multiple of this."""
_STEP_BYTES = 8 << 20
_LEAST_SLACK_BYTES, _MOST_SLACK_BYTES = 64 << 10, 32 << 20


@dataclass(frozen=True)
class Offer:
    """Tell another process where to find an arena: /proc/PID/fd/DESCRIPTOR, a memfd of `size_bytes` that begins with `nonce`."""

    pid: int
    descriptor: int
    size_bytes: int
    nonce: bytes


class Arena:
    """Memory for records of `budget_bytes` together, and a little more for the gaps between them.

    Pages are made as they are first used and kept, since touching fresh pages costs ten times a copy into warm ones. So
    places are taken first fit, the same places again and again. The caller holds a lock around all methods but write() and
    read().

    With `shared` the memory lies in a memfd, which another process can map. Otherwise a process that forks copies it, and
    nobody else can map it.
    """

    def __init__(self, budget_bytes: int, shared: bool = False) -> None:
        slack_bytes = _LEAST_SLACK_BYTES + min(budget_bytes // 8, _MOST_SLACK_BYTES)
        room_bytes = _aligned(min(budget_bytes, memory_bytes()) + slack_bytes)
        self._free = FreeRanges(room_bytes)
        self._size_bytes = FIRST_OFFSET + room_bytes
        self._generation = 1
        self._made_bytes = 0
        self._descriptor = -1
        self._nonce = b""
        self._memory: np.ndarray | None = None
        try:
            self._memory = np.frombuffer(self._mapped(shared), np.uint8)
        except OSError as err:
            log.debug("no memory of %d bytes: %s", self._size_bytes, err)
            self._close()

    @property
    def used_bytes(self) -> int:
        """The number of bytes that records occupy now."""
        return self._free.used_bytes

    def take(self, size_bytes: int) -> int | None:
        """Reserve a place and return its offset; None where no gap is long enough.

        Raises:
            OSError: The system refuses the memory.
        """
        if self._memory is None:
            return None
        gap = self._free.take(_aligned(size_bytes)) if size_bytes else 0
        if gap is None:
            return None
        offset = FIRST_OFFSET + gap
        try:
            self._make(offset + size_bytes)
        except OSError:
            self.give(offset, size_bytes)
            raise
        return offset

    def give(self, offset: int, size_bytes: int) -> None:
        """Free a place again."""
        if size_bytes:
            self._free.give(offset - FIRST_OFFSET, _aligned(size_bytes))

    def write(self, offset: int, flat: np.ndarray) -> None:
        """Copy bytes (uint8) to a place that was taken for them."""
        assert self._memory is not None
        np.copyto(self._memory[offset : offset + flat.nbytes], flat)

    def read(self, offset: int, size_bytes: int) -> Iterator[memoryview]:
        """Yield the bytes at a place, piece by piece, without a copy."""
        assert self._memory is not None
        return chunks_of(self._memory[offset : offset + size_bytes].data.toreadonly())

    def renew(self) -> None:
        """Begin another generation: places that were given out before may be taken by other records from now on."""
        self._generation += 1
        self._tell_generation()

    def place(self, offset: int) -> StorePlace | None:
        """Return a place in a form that a process that maps the memory understands; None where none can map it."""
        return StorePlace(offset, self._generation) if self._descriptor >= 0 else None

    def offer(self) -> Offer | None:
        """Return where a peer finds the memory; None where it is this process's alone."""
        return None if self._descriptor < 0 else Offer(os.getpid(), self._descriptor, self._size_bytes, self._nonce)

    def _mapped(self, shared: bool) -> mmap.mmap:
        if not shared:
            return mmap.mmap(-1, self._size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._descriptor = memfd.create(MEMFD_NAME)
        os.ftruncate(self._descriptor, self._size_bytes)
        memfd.fix_size(self._descriptor)
        self._make(FIRST_OFFSET)
        self._nonce = memfd.new_nonce()
        os.pwrite(self._descriptor, self._nonce, 0)
        self._tell_generation()
        return mmap.mmap(self._descriptor, self._size_bytes)

    def _make(self, end: int) -> None:
        """Allocate the memory up to `end`; a touch of memory that could not be allocated would end in SIGBUS."""
        if self._descriptor < 0 or end <= self._made_bytes:
            return
        ahead = min(max(end, self._made_bytes + _STEP_BYTES), self._size_bytes)
        with contextlib.suppress(OSError):  # perhaps there is enough for the record alone
            os.posix_fallocate(self._descriptor, self._made_bytes, ahead - self._made_bytes)
            self._made_bytes = ahead
            return
        os.posix_fallocate(self._descriptor, self._made_bytes, end - self._made_bytes)
        self._made_bytes = end

    def _tell_generation(self) -> None:
        if self._descriptor >= 0:
            os.pwrite(self._descriptor, self._generation.to_bytes(8, "little"), GENERATION_OFFSET)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self._close()


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
