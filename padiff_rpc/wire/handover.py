"""A bounded queue between two threads, which either side can end."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """What one thread puts another takes; a full one holds the giver, an empty one the taker.

    close(error) ends it in order: the taker gets what is left, then the error or the end. abort(error) ends it at
    once: whoever waits, or comes later, on either side, gets the error. The first end counts.
    """

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._aborted = False
        self._error: Exception | None = None

    def put(self, item: T) -> None:
        """Hand over one item; waits while `depth` items are pending. Raises the error of abort()."""
        with self._changed:
            while len(self._items) >= self._depth and not self._aborted:
                self._changed.wait()
            self.check()
            self._items.append(item)
            self._changed.notify_all()

    def close(self, error: Exception | None = None) -> None:
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()

    def abort(self, error: Exception) -> None:
        with self._changed:
            if not self._closed:
                self._closed = self._aborted = True
                self._error = error
                self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """Take one item; waits for it. StopIteration, or the error, when it has ended."""
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
        """Take what is there, one item at least, after `linger_s` more for others to come. Ends as taking one by one does."""
        for first in self:
            time.sleep(linger_s)
            with self._changed:
                items = [first, *self._items]
                self._items.clear()
                self._changed.notify_all()
            yield items

    def check(self) -> None:
        """Raise the error of abort(), if it was called."""
        if self._aborted and self._error is not None:
            raise self._error
