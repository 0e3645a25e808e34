"""The ring: memory that a worker and its coordinator share, and the handshake that proves that they do.

The worker makes a memfd, which has a name in no file system, so that nothing is left behind however either process
ends. It tells the coordinator its process id, the memfd's descriptor, and a nonce that it wrote into the first page.
The coordinator finds that nonce behind /proc/PID/fd/DESCRIPTOR, writes a nonce of its own after it, and tells that to
the worker, which finds it in its own page. Each has then seen what the other wrote. If any step fails, tensors go
through gRPC messages.
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
"""Slots per direction, as measured.

Only weights and substitutions go to the worker, which needs fewer slots for them.
"""
LIMIT_BYTES = 1 << 30
"""The largest ring that a coordinator maps."""


@dataclass(frozen=True)
class Ring:
    """The slots of both directions, mapped. The memory is freed with the last view of it.

    Attributes:
        to_coordinator: The slots that the worker fills.
        to_worker: The slots that the coordinator fills.
    """

    to_coordinator: Region
    to_worker: Region


@dataclass(frozen=True)
class WorkerRing:
    """A session's ring in the worker.

    Attributes:
        slots: The slots that the worker fills, and which of them are in use.
        incoming: The slots that the worker reads.
    """

    slots: Slots
    incoming: Region


class OfferedRing:
    """The worker's side of the handshake: a memfd of one page, which is enlarged once the handshake is complete."""

    def __init__(self) -> None:
        """Make the memfd and write a nonce into it. Raises OSError if this host has no memfd."""
        self._descriptor = memfd.create(MEMFD_NAME)
        try:
            self._nonce = memfd.new_nonce()
            os.posix_fallocate(self._descriptor, 0, PAGE_BYTES)
            os.pwrite(self._descriptor, self._nonce, 0)
        except BaseException:
            self.close()
            raise

    def to_proto(self) -> pb.RingOffer:
        """Return where the coordinator finds the page: process id, descriptor and nonce."""
        return pb.RingOffer(pid=os.getpid(), descriptor=self._descriptor, nonce=self._nonce)

    def complete(self, nonce: bytes) -> tuple[WorkerRing, pb.RingLayout] | None:
        """Look for the coordinator's nonce, then add the slots to the memfd and map them.

        Returns:
            The mapped slots, and the layout to tell the coordinator; None if the nonce is not in the page, or this host
            has not the memory.
        """
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
            # Not ftruncate(): if memory is lacking that ends in SIGBUS at the first touch, this in ENOSPC now.
            os.posix_fallocate(self._descriptor, 0, layout.size_bytes)
            memfd.fix_size(self._descriptor)
            ring = _map(self._descriptor, layout, touched=True)
        except OSError as err:
            log.debug("no shared memory of %d bytes: %s; tensors go through messages", layout.size_bytes, err)
            return None
        return WorkerRing(Slots(ring.to_coordinator), ring.to_worker), layout

    def close(self) -> None:
        """Close the descriptor; slots that were mapped stay. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class FoundRing:
    """The coordinator's side of the handshake. `nonce` is what it wrote into the page, to be told to the worker."""

    def __init__(self, offer: pb.RingOffer) -> None:
        """Open the memfd that a worker offers, and write a nonce of this side into it.

        Raises:
            OSError: If the memfd is not of this host, may not be opened by this user, or does not hold the worker's
                nonce.
        """
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
        """Map the slots, once the worker has confirmed this side's nonce.

        Raises:
            OSError: If the memfd's size is not the one in `layout` or is above LIMIT_BYTES, the slots do not fit into
                it, or the worker could still shrink it.
        """
        size_bytes = os.fstat(self._descriptor).st_size
        if size_bytes != layout.size_bytes or size_bytes > LIMIT_BYTES:
            raise OSError(f"the ring is of {size_bytes} bytes, the worker told {layout.size_bytes}")
        if not memfd.has_fixed_size(self._descriptor):
            raise OSError("the worker may shrink its ring")
        return _map(self._descriptor, layout, touched=False)

    def close(self) -> None:
        """Close the descriptor; slots that were mapped stay. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _map(descriptor: int, layout: pb.RingLayout, touched: bool) -> Ring:
    """Map the slots.

    `touched` has all pages made at once, for memory that is new: the first use of a new page costs ten times the copy
    into it. The peer finds the pages made, and takes into its own memory only those that it uses.
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
