"""Convert inputs as PaDiff's users give them (arrays, tensors of a framework) to what a model here or elsewhere takes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends import load_backend
from padiff_rpc.model.backends.backend import Backend
from padiff_rpc.model.forward_signature import signature_text
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.hosting.native_inputs import NativeInput
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import Inputs, Model
from padiff_rpc.tensors.tensor import Tensor


def inputs_for(model: Model, values: Any, side: str) -> Inputs:
    """Return forward's keyword arguments in the form that a model takes.

    A model in this process gets tensors of its own framework on their device, and other objects as they are. Arrays and tensors
    of another framework are copied. For a model in another process all values must be fit to be sent.

    Args:
        model: the model that is to run.
        values: forward's keyword arguments, a dict by name.
        side: the name of the model for messages, such as "base".

    Raises:
        PadiffError: BAD_INPUTS if `values` is no dict, or for a value that cannot be sent to another process.
    """
    if not isinstance(values, Mapping):
        raise PadiffError(
            f"{side}'s inputs are a dict of forward's keyword arguments, got {type(values).__name__}",
            reason=Reason.BAD_INPUTS,
            hint="inputs is a pair of dicts: ({'x': base_x}, {'x': raw_x})",
        )
    if isinstance(model, HostedModel):
        return {str(name): _local(model.backend, value) for name, value in values.items()}
    return as_inputs({name: _travelling(value) for name, value in values.items()})


def by_name(model: Model, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by the names of forward's parameters, as a model in another process takes them.

    Args:
        model: the model that is to run.
        args: the positional arguments of the call.
        kwargs: its keyword arguments.

    Raises:
        PadiffError: BAD_INPUTS for positional arguments where the names are not known, where forward takes fewer, or where one
            is given twice.
    """
    if not args:
        return dict(kwargs)
    signature = model.describe().forward
    if signature is None:
        raise PadiffError(
            "the names of forward's parameters are not known, so that this model takes keyword arguments only",
            reason=Reason.BAD_INPUTS,
            hint="call it by the names of forward's parameters: model(x=array)",
        )
    names = [each.name for each in signature if each.passing in ("positional_only", "either")]
    rest = next((each.name for each in signature if each.passing == "rest"), None)
    named = dict(zip(names, args, strict=False))
    if len(args) > len(names) and rest is not None:
        named[rest] = tuple(args[len(names) :])
    twice = [name for name in kwargs if name in named]
    if twice or (len(args) > len(names) and rest is None):
        wrong = (
            f"{', '.join(twice)} is given twice" if twice else f"it takes {len(names)} by position, and got {len(args)}"
        )
        raise PadiffError(
            f"forward does not take these arguments: {wrong}",
            reason=Reason.BAD_INPUTS,
            hint=f"it is {signature_text(signature)}",
        )
    return {**named, **kwargs}


def to_tensor(value: Any) -> Tensor | None:
    """Return a copy of a framework's tensor, an array or a number as a Tensor; None for anything else."""
    backend = _backend_of(value)
    if backend is not None:
        return _tensor(backend, value)
    if isinstance(value, (np.ndarray, np.generic, bool, int, float, complex)):
        return Tensor.from_array(np.asarray(value))
    return None


def _local(backend: Backend, value: Any) -> Any:
    """Convert one value for a model in this process; its backend is given."""
    if isinstance(value, np.ndarray):
        return Tensor.from_array(value)
    if backend.is_tensor(value):
        return NativeInput(value, _tensor(backend, value), backend.wants_gradient(value))
    other = _backend_of(value)
    if other is not None:
        return _tensor(other, value)
    if type(value) in (list, tuple):
        return type(value)(_local(backend, item) for item in value)
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {key: _local(backend, item) for key, item in value.items()}
    return value if isinstance(value, Tensor) else NativeInput(value)


def _travelling(value: Any) -> Any:
    """Convert one value for a model in another process: each framework's tensor becomes a Tensor."""
    backend = _backend_of(value)
    if backend is not None:
        return _tensor(backend, value)
    if isinstance(value, Mapping):
        return {key: _travelling(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_travelling(item) for item in value] if isinstance(value, list) else tuple(map(_travelling, value))
    return value


def _tensor(backend: Backend, value: Any) -> Tensor:
    """Return a copy of a framework's tensor."""
    return Tensor(backend.spec(value), memoryview(backend.to_bytes(value).tobytes()))


def _backend_of(value: Any) -> Backend | None:
    """Return the framework whose tensor this is, if any. A framework that is not imported has no tensors."""
    for name in ("torch", "paddle"):
        if type(value).__module__.partition(".")[0] == name and name in sys.modules:
            backend = load_backend(name)
            if backend.is_tensor(value):
                return backend
    return None
