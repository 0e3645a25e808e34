"""Convert forward's inputs to the framework's own, and check their names."""

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
    """An input that is the framework's own already, for a model in this process. It cannot travel to a worker.

    Attributes:
        value: The framework's own value.
        data: The values of a tensor. Each forward gets a copy of them, so that a model that writes into its inputs does
            not change them for the next run. None for a value that is passed as it is.
        traced: True where the copy receives a gradient. The gradient of the user's own tensor stays as it is, and
            backward does not run through the operations that made that tensor.
    """

    value: Any
    data: Tensor | None = None
    traced: bool = False


def to_native(backend: Backend, model: Any, name: str, value: Any) -> Any:
    """Convert an input to the framework's own: its tensors lie on the model's device, all else stays as it is.

    Args:
        backend: The framework.
        model: The model whose device the tensors go to.
        name: The input's name, for the error.
        value: The input; see `model.Inputs`.

    Raises:
        PadiffError: BAD_INPUTS for a value of a type that inputs cannot have.
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
    """Check the names of the inputs against the signature of the model's forward.

    Raises:
        PadiffError: BAD_INPUTS where forward does not take them; the hint quotes the signature.
    """
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
