"""Watch a healthy model run once: what could be mutated in it."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.mutations.frameworks import Framework
from benchmarks.mutations.nested import tensors_in

OnCall = Callable[[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Makes a call to a functional: canonical name, function, arguments, keywords -> the result."""


@dataclass
class Slot:
    """A tensor that enters or leaves a layer: its number there, shape and whether it is floating."""

    number: int
    shape: tuple[int, ...]
    floating: bool


@dataclass
class Seen:
    """What one run showed.

    Attributes:
        entered: Route -> the tensors of the layer's first call.
        left: Route -> the tensors of its first result.
        calls: (route, canonical name) -> the calls to a functional that the layer's own code made, each with the shape of
            its result.
    """

    entered: dict[str, list[Slot]] = field(default_factory=dict)
    left: dict[str, list[Slot]] = field(default_factory=dict)
    calls: dict[tuple[str, str], list[tuple[int, ...]]] = field(default_factory=dict)


def watch(fw: Framework, model: Any, inputs: Mapping[str, np.ndarray]) -> Seen:
    """Run a model once and return what it did. The model is spent: its layers stay wrapped."""
    seen = Seen()
    stack = stacked(fw, model, seen)

    def on_call(name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = function(*args, **kwargs)
        if stack and isinstance(result, fw.tensor):
            seen.calls.setdefault((stack[-1], name), []).append(tuple(result.shape))
        return result

    with calls_told(fw, on_call):
        model(**{name: fw.leaf(array) for name, array in inputs.items()})
    return seen


def stacked(fw: Framework, model: Any, seen: Seen | None = None) -> list[str]:
    """Wrap every layer's forward, and return the list that then holds the routes of the layers that are running."""
    stack: list[str] = []
    for route, layer in fw.layers(model).items():
        _wrap(fw, layer, route, stack, seen)
    return stack


def _wrap(fw: Framework, layer: Any, route: str, stack: list[str], seen: Seen | None) -> None:
    inner = layer.forward

    @functools.wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        stack.append(route)
        try:
            result = inner(*args, **kwargs)
        finally:
            stack.pop()
        if seen is not None and route not in seen.left:
            seen.entered[route] = _slots(fw, (args, kwargs))
            seen.left[route] = _slots(fw, result)
        return result

    replace_forward(layer, forward)


def replace_forward(layer: Any, forward: Callable[..., Any]) -> None:
    """Have a layer run another forward. Past its class's __setattr__: that of paddlenlp 2.8 would pass the layer as well."""
    layer.__dict__["forward"] = forward


def _slots(fw: Framework, value: Any) -> list[Slot]:
    return [
        Slot(number, tuple(tensor.shape), fw.is_floating(tensor))
        for number, tensor in enumerate(tensors_in(value, fw.tensor))
    ]


@contextmanager
def calls_told(fw: Framework, on_call: OnCall, names: Sequence[str] = ()) -> Iterator[None]:
    """Have functional calls made by `on_call` while the context lasts; not those that a told call makes inside itself.

    names: Canonical names; all where there are none.
    """
    busy: list[bool] = []
    undo: list[Callable[[], None]] = []
    for name in names or fw.places:
        for owner, attribute in fw.places[name]:
            undo.append(_patched(owner, attribute, _told(name, getattr(owner, attribute), on_call, busy)))
    try:
        yield
    finally:
        for restore in reversed(undo):
            restore()


def _patched(owner: Any, attribute: str, function: Callable[..., Any]) -> Callable[[], None]:
    had = vars(owner).get(attribute)
    setattr(owner, attribute, function)
    if had is None:
        return lambda: delattr(owner, attribute)
    return lambda: setattr(owner, attribute, had)


def _told(name: str, function: Callable[..., Any], on_call: OnCall, busy: list[bool]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if busy:
            return function(*args, **kwargs)
        busy.append(True)
        try:
            return on_call(name, function, args, kwargs)
        finally:
            busy.pop()

    return call


class CallCounter:
    """Count the calls of each (route, name), as `Seen.calls` numbers them."""

    def __init__(self) -> None:
        self._made: Counter[tuple[str, str]] = Counter()

    def next(self, route: str, name: str) -> int:
        """Return the number of this call."""
        self._made[route, name] += 1
        return self._made[route, name] - 1

    def restart(self) -> None:
        """Count from 0 again: a new forward begins."""
        self._made.clear()
