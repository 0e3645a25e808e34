"""A bounded queue from one thread to another, which either thread can end."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """A queue between two threads: put() waits while it is full, iterating it waits while it is empty.

    close(error) ends the queue in order: the taker gets the items that are left, then the error, or the end of the
    iteration. abort(error) ends it at once: the items that are left are dropped, and both threads get the error,
    whether they wait already or call later. Only the first close() or abort() counts.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._aborted = False
        self._error: Exception | None = None

    def put(self, item: T) -> None:
        """Append an item, after waiting while `depth` items are pending. Raises the error of abort()."""
        with self._changed:
            while len(self._items) >= self._depth and not self._aborted:
                self._changed.wait()
            self.check()
            self._items.append(item)
            self._changed.notify_all()

    def close(self, error: Exception | None = None) -> None:
        """End the queue in order; with an error the taker gets it after the items that are left."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()

    def abort(self, error: Exception) -> None:
        """End the queue at once: drop its items, and raise `error` in whichever thread waits or calls later."""
        with self._changed:
            if not self._closed:
                self._closed = self._aborted = True
                self._error = error
                self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """Take one item, after waiting for it. Raises StopIteration or the error when the queue has ended."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            raise StopIteration

    def batches(self, linger_s: float) -> Iterator[list[T]]:
        """Yield lists of items: wait for one, `linger_s` seconds more for others to come, and take all there are.

        Ends, or raises the error, as taking items one by one does.
        """
        for first in self:
            time.sleep(linger_s)
            with self._changed:
                items = [first, *self._items]
                self._items.clear()
                self._changed.notify_all()
            yield items

    def check(self) -> None:
        """Raise the error of abort() if it was called."""
        if self._aborted and self._error is not None:
            raise self._error
