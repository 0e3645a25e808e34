"""A worker's records that lie in memory which this process shares: they are read in place, without a message."""

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
    """Where a record lies in a shared store."""

    store: SharedStore
    spec: TensorSpec
    place: StorePlace

    def whole(self) -> PlacedTensor:
        """Return the record as a tensor whose bytes are a view of the store."""
        return PlacedTensor(self.spec, self.store.view(self.place.offset, self.spec.size_bytes), self.store, self.place)


class PlacedRecords:
    """Knows where a worker's records lie in its store. Thread-safe.

    A record that is released while it is read is kept until that read has ended.

    Args:
        store: The worker's store; None if it shares no memory, and then no record is known here.
        release: Asks the worker to release the records with these ids.
    """

    def __init__(self, store: SharedStore | None, release: Callable[[Sequence[int]], None]) -> None:
        self._store = store
        self._release = release
        self._lock = threading.Lock()
        self._held: dict[int, _SharedRecord] = {}
        self._reading: Counter[int] = Counter()
        self._late: set[int] = set()  # released while they were read

    def note(self, records: Iterable[Record]) -> None:
        """Remember where records lie. Those without a `place` are passed over."""
        store = self._store
        if store is not None:
            with self._lock:
                self._held.update(
                    {each.id: _SharedRecord(store, each.spec, each.place) for each in records if each.place is not None}
                )

    def has(self, ids: Sequence[int]) -> bool:
        """Tell whether all of these ids can be read in place."""
        with self._lock:
            return all(identifier in self._held for identifier in ids)

    def read(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        """Stream records as Model.read_activations() does, each also as a whole.

        Raises:
            PadiffError: UNKNOWN_NAME if a record is not known, or was released meanwhile.
        """
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
        """Forget these records and have the worker release them.

        A record that is being read is released when its last read has ended.
        """
        with self._lock:
            read = self._reading.keys() & set(ids)
            self._late |= read
            for identifier in ids:
                self._held.pop(identifier, None)
        now = [identifier for identifier in ids if identifier not in read]
        if now:
            self._release(now)

    def forget(self) -> None:
        """Forget all records: a new step begins, whose records take their places."""
        with self._lock:
            self._held.clear()

    def _chunks(self, identifier: int, held: _SharedRecord) -> Iterator[memoryview]:
        self._check(identifier, held)
        for chunk in held.store.chunks(held.place.offset, held.spec.size_bytes):
            yield chunk
            self._check(identifier, held)

    def _check(self, identifier: int, held: _SharedRecord) -> None:
        """Raise UNKNOWN_NAME if the bytes that were read may be another record's.

        They may be if this record was released, or if its step is over.
        """
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
