"""Tensors in what a layer takes and returns: nests of tuples, lists and mappings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def tensors_in(value: Any, kind: type) -> Iterator[Any]:
    """Give the tensors of a nest, in order."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item, kind)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item, kind)


def with_tensor(value: Any, kind: type, number: int, change: Callable[[Any], Any]) -> Any:
    """Return a nest with its tensor of this number changed; everything around it is made anew, of its own class."""
    return _changed(value, kind, [number], change)


def _changed(value: Any, kind: type, left: list[int], change: Callable[[Any], Any]) -> Any:
    if isinstance(value, kind):
        left[0] -= 1
        return change(value) if left[0] == -1 else value
    if isinstance(value, dict):
        items = {key: _changed(item, kind, left, change) for key, item in value.items()}
        return items if type(value) is dict else type(value)(**items)
    if type(value) in (tuple, list):
        return type(value)([_changed(item, kind, left, change) for item in value])
    if isinstance(value, tuple):
        return type(value)(*(_changed(item, kind, left, change) for item in value))
    return value
