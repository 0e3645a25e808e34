"""Patch functions of a framework while a run listens for calls to them, and restore them when the run ends."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from padiff_rpc.model.backends.backend import Listen, NativeLayer, OnCall

Owner = Any
"""The holder of an attribute: a class, or the dict of a module or of an instance."""


@dataclass(frozen=True)
class PatchedName:
    """Name one function to patch: the owner and attribute through which callers find it, and its canonical name."""

    owner: Owner
    attribute: str
    name: str


@dataclass
class _Listener:
    """The listener of one run in one thread.

    `inside` is True while a reported function, or on_call itself, runs.
    """

    on_call: OnCall
    listening: bool = False
    inside: bool = False


@dataclass
class _Patch:
    place: PatchedName
    original: Any
    stand_in: Any
    users: int = 0


_here = threading.local()  # .listener: this thread's
_lock = threading.Lock()
_patches: dict[tuple[int, str], _Patch] = {}
"""The patches in force, by owner and attribute.

The attributes belong to the whole process, so two runs at once share a patch, and the run that ends last restores it.
"""


@contextmanager
def patched(
    places: Iterable[PatchedName], scopes: Iterable[dict[str, Any]], ignores: Callable[[str], bool], on_call: OnCall
) -> Iterator[Listen]:
    """Patch functions for the length of a block, and call `on_call` for the calls that this thread makes.

    The block receives the function that turns listening on and off; it begins off. Calls from other threads go straight
    to the original functions.

    Args:
        places: The functions to patch.
        scopes: The dicts of modules and layers in which other references to these functions are patched, too.
        ignores: Tells by its name whether a module's calls go unreported.
        on_call: Receives the canonical name and the returned value of each reported call.
    """
    listener = _Listener(on_call)
    before = getattr(_here, "listener", None)
    held: list[_Patch] = []
    try:
        with _lock:
            places = list(places)
            for place in (*places, *_references(places, scopes)):
                held.append(_hold(place, ignores))
        _here.listener = listener
        yield functools.partial(setattr, listener, "listening")
    finally:
        _here.listener = before
        with _lock:
            for patch in reversed(held):
                _let_go(patch)


def module_scopes(layers: Iterable[NativeLayer], ignores: Callable[[str], bool]) -> list[dict[str, Any]]:
    """Return the dicts in which code of these layers looks functions up: its modules' globals and the layers' attributes.

    `ignores` tells by its name whether a class's module is left out.
    """
    found: dict[int, dict[str, Any]] = {}
    for layer in layers:
        scopes = [vars(layer)]
        for kind in type(layer).__mro__:
            if kind is object or ignores(kind.__module__):
                continue
            module = sys.modules.get(kind.__module__)
            scopes += [vars(module)] if module is not None else []
            # A file loaded under no name of its own, as a model factory may be, is in no table.
            scopes += [each.__globals__ for each in vars(kind).values() if isinstance(each, FunctionType)]
        found.update((id(scope), scope) for scope in scopes)
    return list(found.values())


def _references(places: Iterable[PatchedName], scopes: Iterable[dict[str, Any]]) -> Iterator[PatchedName]:
    """Find other names of the functions of `places`. A function that is patched already is known by its original."""
    originals = {id(patch.stand_in): patch.original for patch in _patches.values()}

    def identity(value: Any) -> int:
        return id(originals.get(id(value), value))

    names = {identity(_content(place.owner, place.attribute)): place.name for place in places}
    taken = {(id(place.owner), place.attribute) for place in places}
    for scope in scopes:
        for attribute, value in list(scope.items()):
            name = names.get(identity(value))
            if name is not None and (id(scope), attribute) not in taken:
                yield PatchedName(scope, attribute, name)


def _hold(place: PatchedName, ignores: Callable[[str], bool]) -> _Patch:
    key = (id(place.owner), place.attribute)
    patch = _patches.get(key)
    if patch is None:
        original = _content(place.owner, place.attribute)
        patch = _patches[key] = _Patch(place, original, _stand_in(original, place.name, ignores))
        _put(place, patch.stand_in)
    patch.users += 1
    return patch


def _let_go(patch: _Patch) -> None:
    patch.users -= 1
    if patch.users:
        return
    del _patches[id(patch.place.owner), patch.place.attribute]
    # Where the model's own code has put something else there meanwhile, that stays.
    if _content(patch.place.owner, patch.place.attribute) is patch.stand_in:
        _put(patch.place, patch.original)


def _stand_in(original: Any, name: str, ignores: Callable[[str], bool]) -> Any:
    if isinstance(original, (staticmethod, classmethod)):
        return type(original)(_stand_in(original.__func__, name, ignores))

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        listener: _Listener | None = getattr(_here, "listener", None)
        if listener is None or not listener.listening or listener.inside:
            return original(*args, **kwargs)
        if ignores(sys._getframe(1).f_globals.get("__name__", "")):
            return original(*args, **kwargs)
        listener.inside = True
        try:
            result = original(*args, **kwargs)
            listener.on_call(name, result)
            return result
        finally:
            listener.inside = False

    return call


def _content(owner: Owner, attribute: str) -> Any:
    """Return an attribute's value as it lies in the owner itself, not as a lookup would bind it."""
    return (owner if isinstance(owner, dict) else vars(owner)).get(attribute)


def _put(place: PatchedName, value: Any) -> None:
    if isinstance(place.owner, dict):
        place.owner[place.attribute] = value
    else:
        setattr(place.owner, place.attribute, value)
