"""Find the framework's own optimisers in what a user's function returned: itself, or inside wrappers and lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MethodType, ModuleType
from typing import Any

_DEPTH = 4
"""How many objects may lie around an optimiser; a wrapper that clips, around one that schedules, is 2."""


def find_optimizers(made: Any, is_optimizer: Callable[[object], bool], is_other: Callable[[object], bool]) -> list[Any]:
    """Return the optimisers that an object is or holds in its attributes, each once.

    Args:
        made: The object.
        is_optimizer: Tells an optimiser of the framework.
        is_other: Tells what is not looked into: models and tensors.
    """
    found: dict[int, Any] = {}
    seen: set[int] = set()
    level = [made]
    for _ in range(_DEPTH + 1):
        within: list[Any] = []
        for one in level:
            if id(one) in seen or is_other(one):
                continue
            seen.add(id(one))
            if is_optimizer(one):
                found[id(one)] = one
            else:
                within.extend(_held(one))
        level = within
    return list(found.values())


def _held(value: Any) -> Iterator[Any]:
    if isinstance(value, (str, bytes, int, float, type, ModuleType)):
        return
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, MethodType):
        yield value.__self__  # a bound step() that a wrapper took for its own
    else:
        yield from getattr(value, "__dict__", {}).values()
