"""Read the hyper-parameters of a paddle layer off its attributes, as plain JSON values."""

from __future__ import annotations

import inspect
import math
from enum import Enum
from functools import cache
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from padiff_rpc.model.backends.paddle.import_paddle import paddle

_LONGEST = 64
"""A longer list is data (a vocabulary, a schedule), no hyper-parameter."""

_RENAMED = {"ksize": "kernel_size", "divisor": "divisor_override", "_pad": "padding"}
"""The attributes that hold a constructor argument of paddle's own layers under another name."""

_BOOKKEEPING = frozenset({"training", "name", "device", "dtype", "could_use_cudnn", "state_components"})

_LEFT_OUT = object()


def hyperparameters(layer: Any) -> dict[str, Any]:
    """Return a layer's public attributes, its classes' plain ones (`expansion = 4`), and its constructor's arguments, by name.

    Paddle's layers keep their constructor's arguments under private names (`_epsilon`). Numbers, strings, booleans, None and
    lists of these are kept; a function appears by name, and Infinity and NaN as text. `bias` is True or False where the
    layer's class can hold a bias.
    """
    arguments = _constructor_arguments(type(layer))
    found: dict[str, Any] = {}
    for kind in reversed(type(layer).__mro__):
        if issubclass(kind, paddle.nn.Layer) and kind is not paddle.nn.Layer:
            found.update((name, value) for name, value in vars(kind).items() if not callable(value))
    found.update(vars(layer))
    config = found.get("_config")
    if isinstance(config, dict) and set(config) <= arguments | {"__class__"}:
        found.update(config)  # where Transformer layers keep the arguments that they were made with
    found.update(_linear_features(layer))
    plain: dict[str, Any] = {}
    for name, value in found.items():
        public = _public_name(name, arguments)
        if public is not None and (value := _plain(value)) is not _LEFT_OUT:
            plain.setdefault(public, value)
    bias = _bias(layer, arguments)
    return plain if bias is None else {**plain, "bias": bias}


@cache
def _constructor_arguments(kind: type) -> frozenset[str]:
    """Return the names of the arguments that the constructors of a class and its bases, down to Layer, take."""
    names: set[str] = set()
    for each in kind.__mro__:
        if each is paddle.nn.Layer:
            break
        if "__init__" in vars(each):
            names.update(inspect.signature(vars(each)["__init__"]).parameters)
    return frozenset(names - {"self", "args", "kwargs"})


def _public_name(name: str, arguments: frozenset[str]) -> str | None:
    if _RENAMED.get(name) in arguments:
        return _RENAMED[name]
    if name.startswith("_"):
        name = name[1:]
        if name.startswith("_") or name not in arguments:
            return None
    return None if name in _BOOKKEEPING or name.endswith("_attr") or name == "bias" else name


def _linear_features(layer: Any) -> dict[str, Any]:
    """Return the sizes of a Linear, which does not keep them itself, off its weight."""
    if not isinstance(layer, paddle.nn.Linear):
        return {}
    inputs, outputs = layer.weight.shape
    return {"in_features": inputs, "out_features": outputs}


def _bias(layer: Any, arguments: frozenset[str]) -> bool | None:
    """Return whether a layer holds a bias; None where its class can hold none."""
    if "bias" in layer._parameters or "bias" in vars(layer):
        return getattr(layer, "bias") is not None  # noqa: B009  a parameter, found through __getattr__
    if "bias" in arguments or any(name.startswith("bias_") and name.endswith("_attr") for name in arguments):
        holders = [layer, *layer.children()] if not layer._parameters else [layer]
        return any(name.startswith("bias") for holder in holders for name in _held(holder))
    return None


def _held(layer: Any) -> list[str]:
    return [name for name, parameter in layer._parameters.items() if parameter is not None]


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))  # JSON has no Infinity
    if isinstance(value, (FunctionType, BuiltinFunctionType)):
        return value.__name__
    if isinstance(value, (tuple, list)) and len(value) <= _LONGEST:
        items = [_plain(item) for item in value]
        return _LEFT_OUT if any(item is _LEFT_OUT for item in items) else items
    return _LEFT_OUT
