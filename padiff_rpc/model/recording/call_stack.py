"""The layer calls that are under way, and the numbers of all calls of a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from padiff_rpc.model.backends.backend import NativeTensor


@dataclass
class RunningCall:
    """A layer call that is under way.

    caller: the recorded call around it. hears: functional calls made now are this layer's own, and wanted. recorded:
    False for a layer that is only followed. given: (the caller's tensor, what the layer got for it, its count of writes
    then). restore: gives the arguments back.
    """

    route: str
    number: int
    caller: tuple[str, int] | None
    hears: bool = False
    recorded: bool = True
    restore: Callable[[], None] | None = None
    given: list[tuple[NativeTensor, NativeTensor, int]] = field(default_factory=list)


class Calls:
    """Layer calls as a stack. One that raised, and whose exception the model caught, ends when the one around it does."""

    def __init__(self) -> None:
        self._stack: list[RunningCall] = []
        self._counts: Counter[str] = Counter()

    @property
    def innermost(self) -> RunningCall | None:
        return self._stack[-1] if self._stack else None

    def number(self, route: str) -> int:
        """Count one more call of a route and return its number, from 0."""
        self._counts[route] += 1
        return self._counts[route] - 1

    def enter(self, route: str, hears: bool) -> RunningCall:
        """Begin a recorded call."""
        caller = next(((call.route, call.number) for call in reversed(self._stack) if call.recorded), None)
        call = RunningCall(route, self.number(route), caller, hears)
        self._stack.append(call)
        return call

    def follow(self, route: str) -> None:
        """Begin a call that is not recorded."""
        self._stack.append(RunningCall(route, 0, None, recorded=False))

    def leave(self, route: str) -> RunningCall:
        """End the innermost call of this layer, and those inside it, and return it."""
        call = self._end()
        while call.route != route:
            call = self._end()
        return call

    def end_all(self) -> None:
        while self._stack:
            self._end()

    def _end(self) -> RunningCall:
        call = self._stack.pop()
        if call.restore is not None:
            call.restore()
        return call
