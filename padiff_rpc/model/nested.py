"""List the tensors in nested Python values under stable names, and put other tensors in their places."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

IsTensor = Callable[[object], bool]
"""Returns True for a tensor of the framework at hand."""


def flatten(value: Any, is_tensor: IsTensor) -> list[tuple[str, Any]]:
    """List the tensors in a value, in order, as (name, tensor).

    The walk descends into tuples and lists (`0`, `1`), named tuples and dataclasses (field names) and mappings (`str(key)`), and
    joins the names by dots: `past.0.1`. A bare tensor is `0`. It does not look into anything else. A tensor that occurs
    twice is listed twice. Where two places would have the same name, the later one gets `#2` appended.
    """
    found: list[tuple[str, Any]] = []
    _Walk(is_tensor, lambda name, tensor: found.append((name, tensor)) or tensor).start(value)
    return found


def rebuild(value: Any, is_tensor: IsTensor, replacements: Mapping[str, Any]) -> Any:
    """Return a value with its named tensors replaced; containers that change are copied, in their own type.

    `replacements` maps the names that flatten() gives to the new tensors.
    """
    return _Walk(is_tensor, lambda name, tensor: replacements.get(name, tensor)).start(value)


def flatten_call(args: tuple[Any, ...], kwargs: Mapping[str, Any], is_tensor: IsTensor) -> list[tuple[str, Any]]:
    """List the tensors among a call's arguments: positional arguments under `0`, `1`, ..., the others under their keywords."""
    found: list[tuple[str, Any]] = []
    _Walk(is_tensor, lambda name, tensor: found.append((name, tensor)) or tensor).call(args, kwargs)
    return found


def rebuild_call(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], is_tensor: IsTensor, replacements: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a call's arguments with the tensors that flatten_call() names replaced; containers that change are copied."""
    return _Walk(is_tensor, lambda name, tensor: replacements.get(name, tensor)).call(args, kwargs)


def swap_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], is_tensor: IsTensor, replacements: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], Callable[[], None]]:
    """Return a call's arguments with the named tensors replaced, and a function to call once the call is over.

    Lists, mappings and dataclasses are changed in place, because the layer may write into them for its caller to see (a cache
    that it appends to). The returned function puts the original tensors back wherever a replacement still lies.
    """
    walk = _Walk(is_tensor, lambda name, tensor: replacements.get(name, tensor), in_place=True)
    new_args, new_kwargs = walk.call(args, kwargs)
    return new_args, new_kwargs, walk.restore


class _Walk:
    """One pass over a value. `visit(name, tensor)` returns the tensor to put in this place."""

    def __init__(self, is_tensor: IsTensor, visit: Callable[[str, Any], Any], in_place: bool = False) -> None:
        self._is_tensor = is_tensor
        self._visit = visit
        self._in_place = in_place
        self._names: set[str] = set()
        self._path: set[int] = set()  # containers being descended, so that a cycle ends
        self._changed: list[Any] = []  # containers changed in place
        self._originals: list[tuple[Any, Any]] = []  # (what was put in, what was there)

    def start(self, value: Any) -> Any:
        if self._is_tensor(value):
            return self._visit("0", value)
        return self._descend(value, "")

    def call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        new_args = tuple(self._value(item, str(index)) for index, item in enumerate(args))
        return new_args, {key: self._value(item, str(key)) for key, item in kwargs.items()}

    def restore(self) -> None:
        """Undo the changes made in place, except where the call has put another value."""
        for container in self._changed:
            for key, item in list(_items(container)):
                for new, old in self._originals:
                    if item is new:
                        _put(container, key, old)

    def _value(self, value: Any, name: str) -> Any:
        if not self._is_tensor(value):
            return self._descend(value, name)
        unique, count = name, 1
        while unique in self._names:
            count += 1
            unique = f"{name}#{count}"
        self._names.add(unique)
        new = self._visit(unique, value)
        if new is not value and self._in_place:
            self._originals.append((new, value))
        return new

    def _descend(self, value: Any, name: str) -> Any:
        if not _is_container(value) or id(value) in self._path:
            return value
        self._path.add(id(value))
        try:
            changes: list[tuple[Any, Any]] = []
            for key, item in list(_items(value)):
                new = self._value(item, f"{name}.{_label(value, key)}" if name else _label(value, key))
                if new is not item:
                    changes.append((key, new))
        finally:
            self._path.discard(id(value))
        return self._with_changes(value, changes) if changes else value

    def _with_changes(self, value: Any, changes: list[tuple[Any, Any]]) -> Any:
        if isinstance(value, tuple):
            items = list(value)
            for index, new in changes:
                items[index] = new
            # Named tuples take their fields one by one, plain tuples and torch's return types an iterable.
            make = getattr(type(value), "_make", type(value))
            return make(items)
        if self._in_place and not _is_frozen(value):
            target = value
            self._changed.append(value)
        else:
            target = copy.copy(value)
        for key, new in changes:
            _put(target, key, new)
        return target


def _is_container(value: Any) -> bool:
    return isinstance(value, (tuple, list, MutableMapping)) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    )


def _is_frozen(value: Any) -> bool:
    return not isinstance(value, (list, MutableMapping)) and value.__dataclass_params__.frozen


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (key, item) of a container; mappings before dataclasses, because transformers' outputs are both."""
    if isinstance(value, (tuple, list)):
        yield from enumerate(value)
    elif isinstance(value, MutableMapping):
        yield from value.items()
    else:
        for each in dataclasses.fields(value):
            if hasattr(value, each.name):
                yield each.name, getattr(value, each.name)


def _label(container: Any, key: Any) -> str:
    fields = getattr(container, "_fields", None) if isinstance(container, tuple) else None
    return str(fields[key] if fields else key)


def _put(container: Any, key: Any, item: Any) -> None:
    if isinstance(container, (list, MutableMapping)):
        container[key] = item
    else:
        object.__setattr__(container, key, item)  # a frozen dataclass is copied before, and has no other way in
