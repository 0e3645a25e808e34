"""Slots of the shared ring: memory in pieces of one size, and the sender's book of which are in use."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from padiff_rpc.errors import PadiffError, Reason


@dataclass(frozen=True)
class Region:
    """The slots of one direction.

    Attributes:
        memory: All slots one after the other, as flat uint8.
        slot_bytes: Size of one slot.
    """

    memory: np.ndarray
    slot_bytes: int

    def slot(self, number: int) -> np.ndarray:
        """Return a slot's memory, as flat uint8."""
        return self.memory[number * self.slot_bytes : (number + 1) * self.slot_bytes]

    def view(self, slot: int, offset: int, size_bytes: int) -> memoryview:
        """Return a view of a piece that a peer says lies in a slot.

        Args:
            slot: The slot's number, from 0.
            offset: Where the piece begins in the slot, in bytes.
            size_bytes: The piece's size.

        Raises:
            PadiffError: DATA_LOSS if the piece does not lie within one of the slots.
        """
        total = self.slot_bytes
        if not (0 <= slot < self.memory.nbytes // total and 0 <= offset <= total and 0 <= size_bytes <= total - offset):
            raise PadiffError(
                f"a piece of {size_bytes} bytes at offset {offset} of slot {slot} lies outside the ring's slots, "
                f"{self.memory.nbytes // total} of {total} bytes",
                reason=Reason.DATA_LOSS,
            )
        start = slot * total + offset
        return self.memory[start : start + size_bytes].data


@dataclass(frozen=True)
class Slot:
    """One use of a slot by its sender.

    Attributes:
        number: Which slot it is.
        ticket: Names this use. It is never used again, so that a ticket that comes back late frees no other use.
        memory: The slot's bytes, as flat uint8.
    """

    number: int
    ticket: int
    memory: np.ndarray


class SlotSource(Protocol):
    """Where pack() gets free slots from."""

    def take(self) -> Slot | None:
        """Return a free slot, or None if the bytes are to go into the message.

        If no slot is free, wait until the receiver of this stream returns one. Return None if it holds none either.
        """
        ...


class Slots:
    """The slots that this side fills, and which stream holds which. Streams have numbers. Thread-safe."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self._lock = threading.Lock()
        self._free = list(range(region.memory.nbytes // region.slot_bytes))
        self._held: dict[int, tuple[int, int]] = {}  # ticket -> (slot, stream)
        self._ended: set[int] = set()
        self._next_ticket = 1

    def take(self, stream: int) -> Slot | None:
        """Take a slot for a stream; return None if all are in use, or the stream has ended."""
        with self._lock:
            if not self._free or stream in self._ended:
                return None
            # The slot that was freed last: its memory is still in the caches.
            number, ticket = self._free.pop(), self._next_ticket
            self._next_ticket += 1
            self._held[ticket] = number, stream
            return Slot(number, ticket, self.region.slot(number))

    def give_back(self, tickets: Iterable[int]) -> None:
        """Free the slots whose tickets the receiver returned; unknown tickets are ignored."""
        with self._lock:
            for ticket in tickets:
                self._release(ticket)

    def end(self, stream: int) -> None:
        """Free all slots that a stream holds, since its receiver has left it. The stream gets no more."""
        with self._lock:
            self._ended.add(stream)
            for ticket in [ticket for ticket, (_, holder) in self._held.items() if holder == stream]:
                self._release(ticket)

    def held_by(self, stream: int) -> int:
        """Return how many slots a stream holds."""
        with self._lock:
            return sum(holder == stream for _, holder in self._held.values())

    @property
    def free(self) -> int:
        """Number of slots that no stream holds."""
        with self._lock:
            return len(self._free)

    def _release(self, ticket: int) -> None:
        held = self._held.pop(ticket, None)
        if held is not None:
            self._free.append(held[0])
