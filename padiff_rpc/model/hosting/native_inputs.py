"""Forward's inputs on their way into a native model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.backend import Backend
from padiff_rpc.tensors.tensor import Tensor


@dataclass(frozen=True)
class NativeInput:
    """An input that is the framework's own already, for a model in this process; it cannot travel.

    data: the values of a tensor, of which each forward gets a copy, so that a model that writes into its inputs does not
    change them for the next run. None for what is passed as it is. traced: the copy is to get a gradient, as the tensor
    would: that of the user's own stays as it is, and what it was made of is not run backward through.
    """

    value: Any
    data: Tensor | None = None
    traced: bool = False


def to_native(backend: Backend, model: Any, name: str, value: Any) -> Any:
    """Turn an input into what the framework takes: its tensors on the model's device, all else as it is.

    BAD_INPUTS for a value of a type that inputs cannot have; `name` says which input.
    """
    if isinstance(value, Tensor):
        return backend.from_tensor(value, None, model)
    if isinstance(value, NativeInput):
        if value.data is None:
            return value.value
        copy = backend.from_tensor(value.data, value.value, model)
        return backend.traced(copy) if value.traced else copy
    if isinstance(value, (list, tuple)):
        items = [to_native(backend, model, f"{name}.{index}", item) for index, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: to_native(backend, model, f"{name}.{key}", item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise PadiffError(
        f"input {name!r} is a {type(value).__module__}.{type(value).__qualname__}",
        reason=Reason.BAD_INPUTS,
        hint="an input is a Tensor, None, bool, int, float, str, or a list, tuple or dict (str keys) of these",
    )


def check_call(model: Any, inputs: Mapping[str, Any]) -> None:
    """Hold the names of the inputs against forward's signature; BAD_INPUTS names what it takes."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return  # compiled or wrapped beyond inspection: the call itself will tell
    try:
        signature.bind(**inputs)
    except TypeError as err:
        parameters = ", ".join(str(each.replace(annotation=each.empty)) for each in signature.parameters.values())
        raise PadiffError(
            f"forward of {type(model).__name__} does not take the inputs {', '.join(inputs) or '(none)'}: {err}",
            reason=Reason.BAD_INPUTS,
            hint=f"it is forward({parameters})",
        ) from err
