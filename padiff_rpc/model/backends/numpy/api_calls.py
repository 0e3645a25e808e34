"""Report the functional calls that a NumPy model's own code makes, by the same patches as in paddle."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

from padiff_rpc.model.api_names import spellings
from padiff_rpc.model.backends.backend import Listen, OnCall, module_of_forward
from padiff_rpc.model.backends.patches import PatchedName, module_scopes, patched
from padiff_rpc.numpy_framework import autograd as numpy_autograd
from padiff_rpc.numpy_framework import functions as numpy_functions
from padiff_rpc.numpy_framework.nn import Layer

_SPELLINGS = {**spellings("paddle"), **spellings("torch")}


def is_own_layer(layer: Layer) -> bool:
    """Return True where the layer's forward was written in numpy_framework."""
    return _is_ours(module_of_forward(layer))


def intercept(layers: Iterable[Layer], on_call: OnCall) -> AbstractContextManager[Listen]:
    """Report functional calls to `on_call`, as Backend.intercept says."""
    places = [
        PatchedName(owner, spelling, name)
        for spelling, name in _SPELLINGS.items()
        for owner, held in (
            (vars(numpy_functions), vars(numpy_functions)),
            (numpy_autograd.Tensor, vars(numpy_autograd.Tensor)),
        )
        if spelling in held
    ]
    return patched(places, module_scopes(layers, _is_ours), _is_ours, on_call)


def _is_ours(module: str) -> bool:
    return module.startswith("padiff_rpc.numpy_framework.")
