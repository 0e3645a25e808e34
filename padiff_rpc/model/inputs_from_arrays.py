"""Convert values that people hold (NumPy arrays, numbers, nests of them) to the form that models take as inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Inputs
from padiff_rpc.tensors.tensor import Tensor


def as_inputs(values: Mapping[str, Any]) -> Inputs:
    """Return forward's keyword arguments with every array converted to a Tensor.

    Raises:
        PadiffError: BAD_INPUTS for a value that cannot travel; the message names it.
    """
    if not isinstance(values, Mapping):
        raise PadiffError(
            f"inputs are a dict of forward's keyword arguments, got {type(values).__name__}", reason=Reason.BAD_INPUTS
        )
    return {str(name): _convert(str(name), value) for name, value in values.items()}


def _convert(path: str, value: Any) -> Any:
    if isinstance(value, (Tensor, str, bool, int, float)) or value is None:
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        try:
            return Tensor.from_array(np.asarray(value))
        except PadiffError as err:
            raise PadiffError(f"input {path!r}: {err.message}", reason=Reason.BAD_INPUTS) from err
    if isinstance(value, Mapping):
        return {str(key): _convert(f"{path}.{key}", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_convert(f"{path}.{at}", item) for at, item in enumerate(value)])
    raise PadiffError(
        f"input {path!r} is of type {type(value).__module__}.{type(value).__qualname__}, which cannot travel",
        reason=Reason.BAD_INPUTS,
        hint="give NumPy arrays (tensor.numpy()), numbers, strings, None, or lists and dicts of these",
    )
