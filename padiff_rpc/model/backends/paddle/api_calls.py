"""Report the functional calls that a paddle model's own code makes, by patches that last as long as a run."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.api_names import spellings
from padiff_rpc.model.backends.backend import Listen, NativeLayer, OnCall, module_of_forward
from padiff_rpc.model.backends.paddle.import_paddle import paddle
from padiff_rpc.model.backends.patches import PatchedName, module_scopes, patched

THIRD_PARTY = "PADDLE_THIRDPARTY_API"
"""The environment variable that names custom operators, as in PaDiff: `pkg.mod.func,pkg2.func`."""

_NAMESPACES = (vars(paddle), paddle.Tensor, vars(paddle.nn.functional), vars(paddle.linalg))


def is_own_layer(layer: NativeLayer) -> bool:
    """Return True where the layer's forward was written in the package paddle, but not in paddle.vision.models."""
    return _is_paddles(module_of_forward(layer))


def intercept(layers: Iterable[NativeLayer], on_call: OnCall) -> AbstractContextManager[Listen]:
    """Report functional calls to `on_call`, as Backend.intercept says, those of custom operators included.

    Raises:
        PadiffError: BAD_CONFIG where the environment variable THIRD_PARTY names an operator that cannot be found.
    """
    places = [*_own_places(), *_third_party_places(os.environ.get(THIRD_PARTY, ""))]
    return patched(places, module_scopes(layers, _is_paddles), _is_paddles, on_call)


def _is_paddles(module: str) -> bool:
    # The models that paddle ships are written as users write theirs, and are ported to and from.
    return module.partition(".")[0] == "paddle" and not module.startswith("paddle.vision.models")


def _own_places() -> Iterator[PatchedName]:
    for spelling, name in spellings("paddle").items():
        for namespace in _NAMESPACES:
            held = namespace if isinstance(namespace, dict) else vars(namespace)
            if callable(held.get(spelling)):
                yield PatchedName(namespace, spelling, name)


def _third_party_places(listed: str) -> Iterator[PatchedName]:
    for path in filter(None, (each.strip() for each in listed.split(","))):
        owner, _, attribute = path.rpartition(".")
        holder = _find(owner, path)
        if isinstance(holder, type):
            place = PatchedName(holder, attribute, attribute)
            known = attribute in vars(holder)
        else:
            place = PatchedName(vars(holder), attribute, attribute)
            known = callable(vars(holder).get(attribute))
        if not known:
            raise _not_found(path, f"{owner} has no function {attribute!r}")
        yield place


def _find(owner: str, path: str) -> Any:
    """Import and return the module, or the class in a module, that holds a custom operator."""
    if not owner:
        raise _not_found(path, "it names no module")
    try:
        return importlib.import_module(owner)
    except ImportError as err:
        module, _, kind = owner.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), kind, None) if module else None
        except ImportError:
            found = None
        if not isinstance(found, type):
            raise _not_found(path, str(err)) from err
        return found


def _not_found(path: str, why: str) -> PadiffError:
    return PadiffError(
        f"{THIRD_PARTY} names {path!r}, which cannot be found: {why}",
        reason=Reason.BAD_CONFIG,
        hint="write package.module.function, several of them with commas, importable where the worker runs",
    )
