"""The releases that came during one phase, which the model thread waits for when its store is full."""

from __future__ import annotations

import threading


class ReleaseCounter:
    """Counts calls. abort(error) ends it: whoever waits, or comes later, gets the error. The first end counts."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._error: Exception | None = None

    @property
    def count(self) -> int:
        return self._count

    def add(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait(self, seen: int) -> int:
        """Wait until there were more than `seen`, and return how many."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._count > seen)
            if self._error is not None:
                raise self._error
            return self._count

    def abort(self, error: Exception) -> None:
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify_all()
