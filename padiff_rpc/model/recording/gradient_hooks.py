"""Listen for the gradients of tensors at layer boundaries while backward runs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from padiff_rpc.model.backends.backend import Backend, Remove
from padiff_rpc.model.model import BoundarySide

Deliver = Callable[["GradientPoint", Any], Any]
"""Receives a place and the gradient that arrived there, and returns a gradient to use in its stead, or None."""


@dataclass(frozen=True)
class GradientPoint:
    """A place where a tensor was seen: a name on one side of one layer call."""

    route: str
    call: int
    side: BoundarySide
    caller: tuple[str, int] | None
    name: str


@dataclass
class _Point:
    """One value of one tensor object, and the places that saw it, in the order of the forward."""

    tensor: Callable[[], Any]
    places: list[GradientPoint] = field(default_factory=list)


class GradientHooks:
    """Call `deliver(place, gradient)` for every watched place; a result other than None replaces the gradient.

    One tensor may be seen at several places: a parent returns its child's output, a layer its own input. Backward
    leaves them in reverse: the parent's output comes before the child's, the layer's output before its input. Each place
    receives the gradient as the places before it left it. (A framework calls hooks of one tensor in the order of
    registration, which is the wrong order; so each tensor gets one hook.)
    """

    def __init__(self, backend: Backend, deliver: Deliver) -> None:
        self._backend = backend
        self._deliver = deliver
        # The number of writes is in the key, because a hook belongs to the value that the tensor had: after an
        # in-place operation the same object has another gradient.
        self._points: dict[tuple[int, int], _Point] = {}
        self._removes: list[Remove] = []
        self._pending: dict[GradientPoint, None] = {}  # in order; never delivered so far

    def watch(self, tensor: Any, place: GradientPoint) -> None:
        """Watch the gradient of a tensor's present value at a place; watching it at several places hooks it once."""
        key = (id(tensor), self._backend.writes(tensor))
        point = self._points.get(key)
        if point is None or point.tensor() is not tensor:
            point = self._points[key] = _Point(_reference(tensor))
            self._removes.append(self._backend.on_gradient(tensor, self._callback(point)))
        point.places.append(place)
        self._pending[place] = None

    def silent(self) -> tuple[GradientPoint, ...]:
        """Return the places whose gradient never arrived, in the order of the forward."""
        return tuple(self._pending)

    def remove(self) -> None:
        """Remove every hook; silent() still returns the places without a gradient."""
        while self._removes:
            self._removes.pop()()
        self._points.clear()

    def _callback(self, point: _Point) -> Callable[[Any], Any]:
        def fire(gradient: Any) -> Any:
            current = None
            for place in reversed(point.places):
                self._pending.pop(place, None)
                new = self._deliver(place, gradient if current is None else current)
                current = current if new is None else new
            return current

        return fire


def _reference(tensor: Any) -> Callable[[], Any]:
    """Return a function that returns the tensor; it holds the tensor weakly where the tensor's type allows.

    Holding every activation until backward would cost its memory.
    """
    try:
        return weakref.ref(tensor)
    except TypeError:
        return lambda: tensor
