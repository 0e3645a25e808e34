"""Read the hyper-parameters of a torch module off its attributes, as plain JSON values."""

from __future__ import annotations

import math
from enum import Enum
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np
import torch

_LONGEST = 64
"""A longer list is data (a vocabulary, a schedule), no hyper-parameter."""

_LEFT_OUT = object()


def hyperparameters(layer: Any) -> dict[str, Any]:
    """Return the public attributes of the instance, and the plain ones of its classes (`expansion = 4`), by name.

    Numbers, strings, booleans, None and lists of these are kept; a dtype, a device and a function appear by name. Infinity and
    NaN appear as text. `bias` is True or False where the module has a parameter slot `bias` or `in_proj_bias`.
    """
    found: dict[str, Any] = {}
    for kind in reversed(type(layer).__mro__):
        if issubclass(kind, torch.nn.Module) and kind is not torch.nn.Module:
            found.update((name, value) for name, value in vars(kind).items() if not callable(value))
    found.update(vars(layer))
    found.pop("training", None)
    plain = {name: _plain(value) for name, value in found.items() if not name.startswith("_")}
    plain = {name: value for name, value in plain.items() if value is not _LEFT_OUT}
    for name in ("bias", "in_proj_bias"):  # the second is MultiheadAttention's
        if name in layer._parameters:
            plain["bias"] = layer._parameters[name] is not None
    return plain


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
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value)
    if isinstance(value, (FunctionType, BuiltinFunctionType)):
        return value.__name__
    if isinstance(value, (tuple, list)) and len(value) <= _LONGEST:
        items = [_plain(item) for item in value]
        return _LEFT_OUT if any(item is _LEFT_OUT for item in items) else items
    return _LEFT_OUT
