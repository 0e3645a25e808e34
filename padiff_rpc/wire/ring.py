"""The ring: memory that a worker and its coordinator share, and the proof that they do.

The worker makes a memfd, which has a name in no file system, so that nothing is left however either ends. It tells its process,
descriptor and a nonce that stands in the first page. The coordinator finds that nonce behind /proc/PID/fd/DESCRIPTOR, writes one
of its own after it and names it to the worker, which finds it in its own page. Both have then seen the other's writing.
Whatever fails on the way means streams instead.
"""

from __future__ import annotations

import logging
import mmap
import os
from dataclasses import dataclass

import numpy as np

from padiff_rpc.system import memfd
from padiff_rpc.system.memfd import NONCE_BYTES
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.wire.slots import Region, Slots

log: logging.Logger = logging.getLogger(__name__)

MEMFD_NAME = "padiff-rpc-ring"
PAGE_BYTES = 4096
SLOT_BYTES = 8 << 20
TO_COORDINATOR = 3
TO_WORKER = 2
"""Slots a direction, measured: fewer of the one that only weights and substitutions take."""
LIMIT_BYTES = 1 << 30
"""The largest ring that a coordinator will map."""


@dataclass(frozen=True)
class Ring:
    """The slots of both directions, mapped; the memory goes with the last view of it."""

    to_coordinator: Region
    to_worker: Region


@dataclass(frozen=True)
class WorkerRing:
    """A session's ring in the worker: the slots that it fills, and those that it reads."""

    slots: Slots
    incoming: Region


class OfferedRing:
    """The worker's side until the proof is complete: one page, and whoever opens the session is told where."""

    def __init__(self) -> None:
        """OSError where this host has no memfd."""
        self._descriptor = memfd.create(MEMFD_NAME)
        try:
            self._nonce = memfd.new_nonce()
            os.posix_fallocate(self._descriptor, 0, PAGE_BYTES)
            os.pwrite(self._descriptor, self._nonce, 0)
        except BaseException:
            self.close()
            raise

    def to_proto(self) -> pb.RingOffer:
        return pb.RingOffer(pid=os.getpid(), descriptor=self._descriptor, nonce=self._nonce)

    def complete(self, nonce: bytes) -> tuple[WorkerRing, pb.RingLayout] | None:
        """Look for the coordinator's nonce and make the slots; None where it is not there or the memory is lacking."""
        if not memfd.holds_nonce(self._descriptor, nonce, NONCE_BYTES):
            log.debug("the coordinator does not share this worker's memory; tensors go through messages")
            return None
        layout = pb.RingLayout(
            size_bytes=PAGE_BYTES + (TO_COORDINATOR + TO_WORKER) * SLOT_BYTES,
            first_slot_offset=PAGE_BYTES,
            slot_bytes=SLOT_BYTES,
            to_coordinator=TO_COORDINATOR,
            to_worker=TO_WORKER,
        )
        try:
            # Not ftruncate: where the memory is lacking that ends in SIGBUS at the first touch, this in ENOSPC now.
            os.posix_fallocate(self._descriptor, 0, layout.size_bytes)
            memfd.fix_size(self._descriptor)
            ring = _map(self._descriptor, layout, touched=True)
        except OSError as err:
            log.debug("no shared memory of %d bytes: %s; tensors go through messages", layout.size_bytes, err)
            return None
        return WorkerRing(Slots(ring.to_coordinator), ring.to_worker), layout

    def close(self) -> None:
        """Let go of the descriptor; a mapping stays. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class FoundRing:
    """The coordinator's side until the proof is complete."""

    def __init__(self, offer: pb.RingOffer) -> None:
        """Open what the worker offers and leave our nonce there. OSError where that is not this host's, or not ours to open."""
        self._descriptor = memfd.open_of(offer.pid, offer.descriptor, MEMFD_NAME, os.O_RDWR)
        try:
            if not memfd.holds_nonce(self._descriptor, offer.nonce):
                raise OSError("the ring does not hold the nonce that the worker told")
            self.nonce: bytes = memfd.new_nonce()
            os.pwrite(self._descriptor, self.nonce, NONCE_BYTES)
        except BaseException:
            self.close()
            raise

    def map(self, layout: pb.RingLayout) -> Ring:
        """Map the ring once the worker has confirmed our nonce. OSError where it is not of the size told, or may shrink."""
        size_bytes = os.fstat(self._descriptor).st_size
        if size_bytes != layout.size_bytes or size_bytes > LIMIT_BYTES:
            raise OSError(f"the ring is of {size_bytes} bytes, the worker told {layout.size_bytes}")
        if not memfd.has_fixed_size(self._descriptor):
            raise OSError("the worker may shrink its ring")
        return _map(self._descriptor, layout, touched=False)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _map(descriptor: int, layout: pb.RingLayout, touched: bool) -> Ring:
    """Map the slots; with all pages `touched` where they are new, since the first use of each costs ten times the copy into it.

    The peer finds them made, and takes into its own memory only those that it uses.
    """
    slots = layout.to_coordinator + layout.to_worker
    end = layout.first_slot_offset + slots * layout.slot_bytes
    if not slots or not layout.slot_bytes or end > layout.size_bytes:
        raise OSError(f"the ring's slots end at {end}, beyond its {layout.size_bytes} bytes")
    flags = mmap.MAP_SHARED | (getattr(mmap, "MAP_POPULATE", 0) if touched else 0)
    memory = np.frombuffer(mmap.mmap(descriptor, layout.size_bytes, flags=flags), np.uint8)
    middle = layout.first_slot_offset + layout.to_coordinator * layout.slot_bytes
    return Ring(
        Region(memory[layout.first_slot_offset : middle], layout.slot_bytes),
        Region(memory[middle:end], layout.slot_bytes),
    )
