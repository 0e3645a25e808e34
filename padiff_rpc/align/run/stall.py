"""Which sides wait for room in a full store, and whether any room will ever come."""

from __future__ import annotations

import threading
from collections.abc import Callable

from padiff_rpc.per_side import SIDES, SideName


class Stall:
    """The waits of the two sides of one phase. Thread-safe.

    A side whose store is full waits until some of its records are released, so a fast side runs no further ahead than its
    store reaches. No release will come once each side waits for room, starves (waits for what the other one computes next)
    or has ended, and all boundaries that were told are judged: then waiting is given up.

    Args:
        in_turn: says that the sides run one after the other, so that nothing is released while one of them waits.
    """

    def __init__(self, in_turn: bool = False) -> None:
        self._changed = threading.Condition()
        self._given_up = in_turn
        self._unjudged = 0
        self._sent: dict[SideName, int] = dict.fromkeys(SIDES, 0)
        self._asking: set[SideName] = set()
        self._waiting: dict[SideName, int] = {}  # the releases that the store had seen when it was full
        self._starving: set[SideName] = set()
        self._ended: set[SideName] = set()

    def wait(self, side: SideName, releases: int, flush: Callable[[], None]) -> bool:
        """Wait until more than `releases` releases were sent to the side in this phase; False when none will come.

        `flush` sends those that are held back, and is called first; from then on is_asking() says to hold none back.
        """
        with self._changed:
            self._asking.add(side)
        flush()
        with self._changed:
            self._waiting[side] = releases
            self._look()
            self._changed.wait_for(lambda: self._given_up or self._sent[side] > releases)
            del self._waiting[side]
            self._asking.discard(side)
            return self._sent[side] > releases

    def is_asking(self, side: SideName) -> bool:
        """Tell whether the side waits for room, so that no release is to be held back."""
        return side in self._asking

    def released(self, side: SideName) -> None:
        """Note that a release was sent."""
        with self._changed:
            self._sent[side] += 1
            self._changed.notify_all()

    def told(self) -> None:
        """Note a boundary that both sides have reached and that the judging thread will judge."""
        with self._changed:
            self._unjudged += 1

    def judged(self, count: int) -> None:
        """Note that `count` of these boundaries are judged, and that the releases which followed are noted."""
        with self._changed:
            self._unjudged -= count
            self._look()

    def starves(self, side: SideName) -> None:
        """Note that a side can go on only after the other has computed more."""
        with self._changed:
            self._starving.add(side)
            self._look()

    def fed(self, side: SideName) -> None:
        """Note that the other side has computed more, so that this one can go on."""
        with self._changed:
            self._starving.discard(side)

    def ended(self, side: SideName) -> None:
        """Note that the side's phase has ended."""
        with self._changed:
            self._ended.add(side)
            self._look()

    def give_up(self) -> None:
        """Wait no more, now or later: nobody judges any longer."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def _look(self) -> None:
        if self._waiting and self._unjudged == 0 and all(map(self._is_held, SIDES)):
            self._given_up = True
            self._changed.notify_all()

    def _is_held(self, side: SideName) -> bool:
        if side in self._waiting:
            return self._sent[side] <= self._waiting[side]
        return side in self._starving or side in self._ended
