"""Keep a step's running layer calls as a stack, and number all calls of the step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from padiff_rpc.model.backends.backend import NativeTensor


@dataclass
class RunningCall:
    """A layer call that is under way.

    Attributes:
        route: The layer's route.
        number: The number of the layer's call within the step, counted from 0.
        caller: The route and call number of the recorded call around it; None for the outermost.
        hears: True where functional calls made now are this layer's own and are to be reported.
        recorded: False for a layer that is only followed.
        restore: Puts the original tensors back into the call's arguments, once the call is over.
        given: For each replaced input, the caller's tensor, the tensor that the layer got in its place, and the count of
            writes of the latter at that time.
        drawing: For a dropout whose draw is reported, its input, and what it is about to draw.
    """

    route: str
    number: int
    caller: tuple[str, int] | None
    hears: bool = False
    recorded: bool = True
    restore: Callable[[], None] | None = None
    given: list[tuple[NativeTensor, NativeTensor, int]] = field(default_factory=list)
    drawing: tuple[NativeTensor, NativeTensor] | None = None


class Calls:
    """A stack of layer calls.

    A call that raised, and whose exception the model caught, ends when the call around it ends.
    """

    def __init__(self) -> None:
        self._stack: list[RunningCall] = []
        self._counts: Counter[str] = Counter()

    @property
    def innermost(self) -> RunningCall | None:
        """The innermost call under way; None outside the model."""
        return self._stack[-1] if self._stack else None

    def number(self, route: str) -> int:
        """Count one more call of a route and return its number, from 0."""
        self._counts[route] += 1
        return self._counts[route] - 1

    def enter(self, route: str, hears: bool) -> RunningCall:
        """Begin a recorded call of the layer at a route; `hears` is the call's `RunningCall.hears`."""
        caller = next(((call.route, call.number) for call in reversed(self._stack) if call.recorded), None)
        call = RunningCall(route, self.number(route), caller, hears)
        self._stack.append(call)
        return call

    def follow(self, route: str) -> None:
        """Begin a call that is not recorded."""
        self._stack.append(RunningCall(route, 0, None, recorded=False))

    def leave(self, route: str) -> RunningCall:
        """End the innermost call of this layer, and the calls inside it, and return it."""
        call = self._end()
        while call.route != route:
            call = self._end()
        return call

    def end_all(self) -> None:
        """End all calls that are under way."""
        while self._stack:
            self._end()

    def _end(self) -> RunningCall:
        call = self._stack.pop()
        if call.restore is not None:
            call.restore()
        return call
