"""The releases of records during one phase, which the model thread waits for while its store is full."""

from __future__ import annotations

import threading


class ReleaseCounter:
    """Counts the ReleaseActivations calls of a phase. Thread-safe.

    abort(error) ends it: wait() raises the error, whether it waits already or is called later. The first abort()
    counts.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._error: Exception | None = None

    @property
    def count(self) -> int:
        """How many calls have come."""
        return self._count

    def add(self) -> None:
        """Count a call, and wake the thread that waits."""
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait(self, seen: int) -> int:
        """Wait until more than `seen` calls have come, and return how many. Raises the error of abort()."""
        with self._changed:
            self._changed.wait_for(lambda: self._error is not None or self._count > seen)
            if self._error is not None:
                raise self._error
            return self._count

    def abort(self, error: Exception) -> None:
        """End the counting: raise `error` in whichever thread waits or will."""
        with self._changed:
            if self._error is None:
                self._error = error
            self._changed.notify_all()
