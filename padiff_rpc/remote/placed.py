"""Records of a worker that lie in memory which this process shares: read where they are, without a message."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from padiff_rpc.errors import PadiffError
from padiff_rpc.model.model import Place, Record
from padiff_rpc.model.store import unknown_record
from padiff_rpc.tensor import TensorSpec, TensorStream
from padiff_rpc.wire.shared_store import PlacedTensor, SharedStore

log = logging.getLogger(__name__)


class PlacedRecords:
    """Which records lie where. Thread-safe. A record that is read while it is released goes once that has ended."""

    def __init__(self, store: SharedStore, release: Callable[[Sequence[int]], None]) -> None:
        """`release` has the worker release records."""
        self._store = store
        self._release = release
        self._lock = threading.Lock()
        self._placed: dict[int, tuple[TensorSpec, Place]] = {}
        self._reading: Counter[int] = Counter()
        self._late: set[int] = set()  # released while they were read

    def note(self, records: Iterable[Record]) -> None:
        with self._lock:
            self._placed.update(
                {record.id: (record.spec, record.place) for record in records if record.place is not None}
            )

    def has(self, ids: Sequence[int]) -> bool:
        """Tell whether all of these are known to lie there."""
        with self._lock:
            return all(identifier in self._placed for identifier in ids)

    def read(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        """Stream them as read_records() does; UNKNOWN_NAME for one that was released meanwhile."""
        for identifier in ids:
            with self._lock:
                found = self._placed.get(identifier)
                if found is None:
                    raise unknown_record(identifier)
                self._reading[identifier] += 1
            spec, place = found
            try:
                self._check(identifier, place)
                whole = PlacedTensor(spec, self._store.view(place.offset, spec.size_bytes), self._store, place)
                yield TensorStream(str(identifier), spec, self._chunks(identifier, spec, place), whole)
            finally:
                self._read(identifier)

    def release(self, ids: Sequence[int]) -> None:
        with self._lock:
            read = self._reading.keys() & set(ids)
            self._late |= read
            for identifier in ids:
                self._placed.pop(identifier, None)
        now = [identifier for identifier in ids if identifier not in read]
        if now:
            self._release(now)

    def forget(self) -> None:
        """Forget all: a new step begins, whose records take their places."""
        with self._lock:
            self._placed.clear()

    def _chunks(self, identifier: int, spec: TensorSpec, place: Place) -> Iterator[memoryview]:
        self._check(identifier, place)
        for chunk in self._store.chunks(place.offset, spec.size_bytes):
            yield chunk
            self._check(identifier, place)

    def _check(self, identifier: int, place: Place) -> None:
        """Raise UNKNOWN_NAME where what was read there may be another record's: this one was released, or its step is over."""
        with self._lock:
            is_here = identifier in self._placed or self._reading.get(identifier, 0) > 0
        if not (is_here and self._store.holds(place)):
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
