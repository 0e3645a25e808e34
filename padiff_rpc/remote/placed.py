"""Records of a worker that lie in memory which this process shares: read where they are, without a message."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from padiff_rpc.errors import PadiffError
from padiff_rpc.model.model import Record, StorePlace
from padiff_rpc.model.store.store import unknown_record
from padiff_rpc.tensors.tensor import TensorSpec, TensorStream
from padiff_rpc.wire.shared_store import PlacedTensor, SharedStore

log: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _SharedRecord:
    """Where a record lies."""

    store: SharedStore
    spec: TensorSpec
    place: StorePlace

    def whole(self) -> PlacedTensor:
        return PlacedTensor(self.spec, self.store.view(self.place.offset, self.spec.size_bytes), self.store, self.place)


class PlacedRecords:
    """Which records lie where. Thread-safe. A record that is read while it is released goes once that has ended."""

    def __init__(self, store: SharedStore | None, release: Callable[[Sequence[int]], None]) -> None:
        """`store`: None where the worker shares no memory; then no record is known here. `release` has it release records."""
        self._store = store
        self._release = release
        self._lock = threading.Lock()
        self._held: dict[int, _SharedRecord] = {}
        self._reading: Counter[int] = Counter()
        self._late: set[int] = set()  # released while they were read

    def note(self, records: Iterable[Record]) -> None:
        store = self._store
        if store is not None:
            with self._lock:
                self._held.update(
                    {each.id: _SharedRecord(store, each.spec, each.place) for each in records if each.place is not None}
                )

    def has(self, ids: Sequence[int]) -> bool:
        """Tell whether all of these are known to lie there."""
        with self._lock:
            return all(identifier in self._held for identifier in ids)

    def read(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        """Stream them as read_activations() does; UNKNOWN_NAME for one that was released meanwhile."""
        for identifier in ids:
            with self._lock:
                held = self._held.get(identifier)
                if held is None:
                    raise unknown_record(identifier)
                self._reading[identifier] += 1
            try:
                self._check(identifier, held)
                yield TensorStream(str(identifier), held.spec, self._chunks(identifier, held), held.whole())
            finally:
                self._read(identifier)

    def release(self, ids: Sequence[int]) -> None:
        with self._lock:
            read = self._reading.keys() & set(ids)
            self._late |= read
            for identifier in ids:
                self._held.pop(identifier, None)
        now = [identifier for identifier in ids if identifier not in read]
        if now:
            self._release(now)

    def forget(self) -> None:
        """Forget all: a new step begins, whose records take their places."""
        with self._lock:
            self._held.clear()

    def _chunks(self, identifier: int, held: _SharedRecord) -> Iterator[memoryview]:
        self._check(identifier, held)
        for chunk in held.store.chunks(held.place.offset, held.spec.size_bytes):
            yield chunk
            self._check(identifier, held)

    def _check(self, identifier: int, held: _SharedRecord) -> None:
        """Raise UNKNOWN_NAME where what was read there may be another record's: this one was released, or its step is over."""
        with self._lock:
            is_here = identifier in self._held or self._reading.get(identifier, 0) > 0
        if not (is_here and held.store.holds(held.place)):
            raise unknown_record(identifier)

    def _read(self, identifier: int) -> None:
        with self._lock:
            self._reading[identifier] -= 1
            if self._reading[identifier]:
                return
            del self._reading[identifier]
            late = identifier in self._late
            self._late.discard(identifier)
        if late:
            try:
                self._release([identifier])
            except PadiffError as err:  # in whatever way the reading ended, that is what counts
                log.debug("record %d was not released: %s", identifier, err)
