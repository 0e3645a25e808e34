"""Keep recorded tensors: in memory up to a budget, then in one spill file up to a budget, then end with a clear error."""

from __future__ import annotations

import errno
import logging
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import StoreFigures, StorePlace
from padiff_rpc.model.store.arena import Arena, Offer
from padiff_rpc.model.store.budgets import default_disk_bytes, default_memory_bytes
from padiff_rpc.model.store.overflow import Overflow
from padiff_rpc.model.store.spill import SpillFile
from padiff_rpc.tensors.tensor import TensorSpec, TensorStream

log: logging.Logger = logging.getLogger(__name__)

AwaitRoom = Callable[[int], bool]
"""Waits for another release than the given number of releases; returns False when none will come."""


@dataclass
class _Copy:
    """The bytes of one or more records, at a place in memory or in the spill file.

    While it has readers, its place is not used again, even when the last record was released.
    """

    size_bytes: int
    hash: bytes
    home: Arena | Overflow | SpillFile
    place: int
    records: int = 0
    readers: int = 0


class Store:
    """Keep copies of tensors by id, in memory and then on disk.

    One thread puts tensors in; any thread may get and release them. A budget of None is a share of what the machine has
    (see budgets.py).
    """

    def __init__(self, memory_budget_bytes: int | None = None, disk_budget_bytes: int | None = None) -> None:
        self.memory_budget_bytes: int = default_memory_bytes() if memory_budget_bytes is None else memory_budget_bytes
        self.disk_budget_bytes: int = default_disk_bytes() if disk_budget_bytes is None else disk_budget_bytes
        self._lock = threading.Lock()
        self._records: dict[int, tuple[TensorSpec, _Copy]] = {}
        self._by_hash: dict[bytes, _Copy] = {}
        self._next_id = 1
        self._releases = 0
        self._memory_bytes = 0
        self._peak_memory_bytes = 0
        self._spilled_bytes = 0
        self._arena = Arena(self.memory_budget_bytes)
        self._overflow = Overflow()
        self._spill = SpillFile(self.disk_budget_bytes)

    @property
    def releases(self) -> int:
        """The number of release() calls so far."""
        return self._releases

    def put(self, flat: np.ndarray, spec: TensorSpec, hash: bytes = b"", await_room: AwaitRoom | None = None) -> int:
        """Keep a tensor and return its id, which is never used twice, even after clear().

        The bytes are copied, unless a record of the same hash is still here; the new record then shares its copy.

        Args:
            flat: `spec.size_bytes` bytes (flat uint8).
            spec: The tensor's dtype and shape.
            hash: xxh3-128 of the bytes; empty shares no copy.
            await_room: Called, as often as needed, when neither budget has room for the tensor.

        Raises:
            PadiffError: STORE_FULL where neither budget has room and `await_room` is missing or returns False, or where the
                tensor is larger than both budgets.
        """
        while True:
            releases = self._releases
            identifier, refusal = self._try(flat, spec, hash)
            if identifier is not None:
                return identifier
            may_fit = spec.size_bytes <= max(self.memory_budget_bytes, self.disk_budget_bytes)
            if await_room is None or not may_fit or not await_room(releases):
                raise self._full(spec, refusal) from refusal

    def get(self, identifier: int) -> TensorStream:
        """Return a record as a stream named by its id. A release during the reading does no harm.

        Raises:
            PadiffError: UNKNOWN_NAME for a record that is not here, now or when the first chunk is taken.
        """
        with self._lock:
            found = self._records.get(identifier)
        if found is None:
            raise unknown_record(identifier)
        return TensorStream(str(identifier), found[0], self._chunks(identifier))

    def release(self, identifiers: Iterable[int]) -> None:
        """Forget records; unknown ids are ignored."""
        with self._lock:
            for identifier in identifiers:
                found = self._records.pop(identifier, None)
                if found is not None:
                    self._drop(found[1])
            self._releases += 1

    def clear(self) -> None:
        """Forget all records; the memory stays for the next step."""
        with self._lock:
            self._arena.renew()
            for _, copy in self._records.values():
                self._drop(copy)
            self._records.clear()

    def close(self) -> None:
        """Forget all records, and give memory and disk back."""
        self.clear()
        with self._lock:
            # A reader that is under way still holds the old ones.
            self._arena, self._spill = Arena(self.memory_budget_bytes), SpillFile(self.disk_budget_bytes)

    def place(self, identifier: int) -> StorePlace | None:
        """Return a record's place in the memory that offer() names; None where the record lies elsewhere or is no longer here."""
        with self._lock:
            found = self._records.get(identifier)
            if found is None or not isinstance(found[1].home, Arena):
                return None
            return found[1].home.place(found[1].place)

    def offer(self) -> Offer | None:
        """Keep records, until close(), where another process can read them, and return where that is.

        None where the system does not allow it, or where records lie in other memory now.
        """
        with self._lock:
            if self._arena.offer() is None and not self._arena.used_bytes:
                shared = Arena(self.memory_budget_bytes, shared=True)
                self._arena = shared if shared.offer() is not None else self._arena
            return self._arena.offer()

    def figures(self) -> StoreFigures:
        """Return the sizes of the records now, and their peaks since restart_figures()."""
        with self._lock:
            return StoreFigures(
                memory_bytes=self._memory_bytes,
                disk_bytes=self._spill.used_bytes,
                peak_memory_bytes=self._peak_memory_bytes,
                peak_disk_bytes=self._spill.peak_bytes,
                spilled_bytes=self._spilled_bytes,
            )

    def restart_figures(self) -> None:
        """Restart the peaks from the present sizes, and the count of spilled bytes from 0."""
        with self._lock:
            self._peak_memory_bytes = self._memory_bytes
            self._spill.peak_bytes = self._spill.used_bytes
            self._spilled_bytes = 0

    def _try(self, flat: np.ndarray, spec: TensorSpec, hash: bytes) -> tuple[int | None, OSError | None]:
        """Return a new record's id; or None where there is no room, with the disk's error if the disk had none."""
        size_bytes = spec.size_bytes
        with self._lock:
            copy = self._by_hash.get(hash)
            if copy is not None and copy.size_bytes == size_bytes:
                return self._enter(spec, copy), None
            copy = self._placed(size_bytes, hash)
        if copy is None:
            return None, None
        try:
            copy.home.write(copy.place, flat)
        except (OSError, MemoryError) as err:
            with self._lock:
                self._free_unused(copy)
            if isinstance(err, MemoryError):
                raise
            if err.errno in (errno.ENOSPC, errno.EDQUOT):
                return None, err
            raise _refused(size_bytes, err) from err
        with self._lock:
            self._spilled_bytes += size_bytes if isinstance(copy.home, SpillFile) else 0
            if hash:
                self._by_hash[hash] = copy
            return self._enter(spec, copy), None

    def _placed(self, size_bytes: int, hash: bytes) -> _Copy | None:
        """Take a place for a copy: in memory if there is room, else on disk; None where neither has any."""
        if self._memory_bytes + size_bytes <= self.memory_budget_bytes:
            try:
                place = self._arena.take(size_bytes)
            except OSError as err:
                log.debug("no memory for a record of %d bytes: %s", size_bytes, err)
            else:
                self._memory_bytes += size_bytes
                self._peak_memory_bytes = max(self._peak_memory_bytes, self._memory_bytes)
                if place is None:
                    return _Copy(size_bytes, hash, self._overflow, self._overflow.take())
                return _Copy(size_bytes, hash, self._arena, place)
        place = self._spill.take(size_bytes)
        return None if place is None else _Copy(size_bytes, hash, self._spill, place)

    def _enter(self, spec: TensorSpec, copy: _Copy) -> int:
        identifier = self._next_id
        self._next_id += 1
        copy.records += 1
        self._records[identifier] = (spec, copy)
        return identifier

    def _chunks(self, identifier: int) -> Iterator[memoryview]:
        with self._lock:
            found = self._records.get(identifier)
            if found is None:
                raise unknown_record(identifier)
            copy = found[1]
            copy.readers += 1
        try:
            yield from copy.home.read(copy.place, copy.size_bytes)
        finally:
            with self._lock:
                copy.readers -= 1
                self._free_unused(copy)

    def _drop(self, copy: _Copy) -> None:
        copy.records -= 1
        if copy.records == 0 and self._by_hash.get(copy.hash) is copy:
            del self._by_hash[copy.hash]
        self._free_unused(copy)

    def _free_unused(self, copy: _Copy) -> None:
        if copy.records or copy.readers:
            return
        copy.home.give(copy.place, copy.size_bytes)
        if not isinstance(copy.home, SpillFile):
            self._memory_bytes -= copy.size_bytes

    def _full(self, spec: TensorSpec, refusal: OSError | None) -> PadiffError:
        if refusal is not None:
            return _refused(spec.size_bytes, refusal)
        return store_full(
            f"no room to record a tensor of {spec} ({spec.size_bytes} bytes): "
            f"{self._memory_bytes} of {self.memory_budget_bytes} bytes of memory and "
            f"{self._spill.used_bytes} of {self.disk_budget_bytes} bytes of disk are taken by records",
            self.memory_budget_bytes,
            self.disk_budget_bytes,
        )


def store_full(message: str, memory_budget_bytes: int, disk_budget_bytes: int) -> PadiffError:
    """Return a STORE_FULL error with both budgets, for a store that has no room and will get none."""
    return PadiffError(
        message,
        reason=Reason.STORE_FULL,
        hint="raise --store-memory or --store-disk, or record fewer layers",
        metadata={"store_memory_bytes": str(memory_budget_bytes), "store_disk_bytes": str(disk_budget_bytes)},
    )


def _refused(size_bytes: int, err: OSError) -> PadiffError:
    return PadiffError(
        f"writing {size_bytes} bytes of records to the spill file in {tempfile.gettempdir()!r} failed: {err}",
        reason=Reason.STORE_FULL,
        hint="point TMPDIR at a larger disk, raise --store-memory, or record fewer layers",
    )


def unknown_record(identifier: int) -> PadiffError:
    """Return an UNKNOWN_NAME error for a record that is not in the store, or no longer."""
    return PadiffError(
        f"record {identifier} is not in the store",
        reason=Reason.UNKNOWN_NAME,
        hint="records live until they are released or the next forward begins",
    )
