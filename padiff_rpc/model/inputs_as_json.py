"""Convert forward's inputs to a JSON skeleton and tensors, to which it refers by {"$tensor": NAME}, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Inputs
from padiff_rpc.tensors.tensor import Tensor

INPUTS_JSON_LIMIT_BYTES = 1 << 20
"""The largest skeleton.

A larger one means data in lists, which belong into a tensor (and gRPC's message limit is near).
"""

_TENSOR, _TUPLE, _FLOAT, _DICT = "$tensor", "$tuple", "$float", "$dict"


def inputs_to_json(inputs: Inputs) -> tuple[str, dict[str, Tensor]]:
    """Return the JSON skeleton of inputs, and their tensors by place (`x`, `past.0.1`).

    Raises:
        PadiffError: BAD_INPUTS for a value that cannot travel, and for a skeleton that is too large or nested too deeply.
    """
    tensors: dict[str, Tensor] = {}
    try:
        text = json.dumps({name: _pack(value, name, tensors) for name, value in inputs.items()}, allow_nan=False)
    except RecursionError as err:
        raise PadiffError("the inputs are nested too deeply", reason=Reason.BAD_INPUTS) from err
    if len(text) > INPUTS_JSON_LIMIT_BYTES:
        raise PadiffError(
            f"the inputs beside the tensors take {len(text)} bytes; the limit is {INPUTS_JSON_LIMIT_BYTES}",
            reason=Reason.BAD_INPUTS,
            hint="pass long lists of numbers as arrays",
        )
    return text, tensors


def inputs_from_json(text: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Put inputs together from a JSON skeleton and tensors.

    Raises:
        PadiffError: BAD_INPUTS for a skeleton that does not parse, or that refers to other tensors than the given ones.
    """
    used: set[str] = set()
    try:
        skeleton = json.loads(text)
        if not isinstance(skeleton, dict):
            raise PadiffError(f"the inputs are {skeleton!r}, not named arguments", reason=Reason.BAD_INPUTS)
        inputs = {name: _unpack(value, tensors, used) for name, value in skeleton.items()}
    except (ValueError, TypeError, RecursionError) as err:
        raise PadiffError(f"cannot read the skeleton of the inputs: {err}", reason=Reason.BAD_INPUTS) from err
    unused = sorted(set(tensors) - used)
    if unused:
        raise PadiffError(f"tensor {unused[0]!r} came, but the inputs do not name it", reason=Reason.BAD_INPUTS)
    return inputs


def _pack(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        # Two places may be spelt alike ({"a.b": x, "a": {"b": y}}); each tensor still needs a name of its own.
        name = place if place not in tensors else f"{place}#{len(tensors)}"
        tensors[name] = value
        return {_TENSOR: name}
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {_FLOAT: repr(float(value))}
    if isinstance(value, (list, tuple)):
        items = [_pack(item, f"{place}.{index}", tensors) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {_TUPLE: items}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise PadiffError(f"input {place!r} has the key {key!r}, no text", reason=Reason.BAD_INPUTS)
        packed = {key: _pack(item, f"{place}.{key}", tensors) for key, item in value.items()}
        return {_DICT: packed} if any(key.startswith("$") for key in packed) else packed
    raise PadiffError(
        f"input {place!r} is a {type(value).__name__}, which cannot be sent to a worker",
        reason=Reason.BAD_INPUTS,
        hint="pass a Tensor (Tensor.from_array(array)), None, bool, int, float, str, or lists, tuples and dicts of these",
    )


def _unpack(value: Any, tensors: Mapping[str, Tensor], used: set[str]) -> Any:
    if isinstance(value, list):
        return [_unpack(item, tensors, used) for item in value]
    if not isinstance(value, dict):
        return value
    mark = next(iter(value)) if len(value) == 1 else ""
    content: Any = value.get(mark)
    if mark == _TENSOR:
        if content not in tensors:
            raise PadiffError(f"the inputs name tensor {content!r}, which did not come", reason=Reason.BAD_INPUTS)
        used.add(content)
        return tensors[content]
    if mark == _FLOAT:
        return float(content)
    if mark == _TUPLE:
        return tuple(_unpack(item, tensors, used) for item in content)
    if mark == _DICT:
        if not isinstance(content, dict):
            raise PadiffError(f"the inputs hold {value!r}, which has no meaning", reason=Reason.BAD_INPUTS)
        value = content
    return {key: _unpack(item, tensors, used) for key, item in value.items()}
