"""Write and read PaDiff's words for shapes, dtypes, devices and layers, which are as the framework prints them."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from padiff_rpc.model.model import LayerInfo
from padiff_rpc.tensors.tensor import DType, TensorSpec

_NAMES = {
    DType.BOOL: "bool",
    DType.U8: "uint8",
    DType.I8: "int8",
    DType.U16: "uint16",
    DType.I16: "int16",
    DType.U32: "uint32",
    DType.I32: "int32",
    DType.U64: "uint64",
    DType.I64: "int64",
    DType.F8_E4M3: "float8_e4m3fn",
    DType.F8_E5M2: "float8_e5m2",
    DType.BF16: "bfloat16",
    DType.F16: "float16",
    DType.F32: "float32",
    DType.F64: "float64",
    DType.C64: "complex64",
    DType.C128: "complex128",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_LAYOUTS = {"torch": "torch.strided", "paddle": "NCHW"}


def tensor_texts(framework: str, spec: TensorSpec, device: str) -> dict[str, str]:
    """Return a tensor's shape, dtype, place and layout as PaDiff writes them. `device` is as the framework names it."""
    return {
        "shape": f"{framework}.Size({list(spec.shape)})",
        "dtype": f"{framework}.{_NAMES[spec.dtype]}",
        "place": f"Place({device})" if framework == "paddle" else device,
        "layout": _LAYOUTS.get(framework, "row-major"),
    }


def dtype_from_text(text: str) -> DType | None:
    """Read `torch.float32` or `paddle.bfloat16`; None for a word that names no element type."""
    return _DTYPES.get(text.rpartition(".")[2])


def shape_from_text(text: str) -> tuple[int, ...] | None:
    """Read `torch.Size([2, 5])` or `[2, 5]`; None if there are no brackets."""
    found = re.search(r"\[([\d, ]*)\]", text)
    return None if found is None else tuple(int(number) for number in re.findall(r"\d+", found[1]))


def device_from_text(text: str) -> str:
    """Read `cpu`, `cuda:0` or `Place(gpu:0)`, and return the part without `Place()`."""
    return text.removeprefix("Place(").removesuffix(")")


def layer_text(layer: LayerInfo) -> str:
    """Return a layer as its framework would print it: `Linear(in_features=8, out_features=4)`."""
    return f"{layer.class_name}({', '.join(f'{name}={value!r}' for name, value in layer.hyperparameters.items())})"


def hyperparameters_from_text(text: str) -> Mapping[str, Any]:
    """Read the hyperparameters that a printed layer names: eps of `LayerNorm((8,), eps=1e-05)`.

    Values without a name are passed over. A value that is no Python literal stays text, and a tuple becomes a list.
    """
    inside = text.partition("(")[2].rpartition(")")[0]
    found: dict[str, Any] = {}
    for item in re.split(r",\s*(?![^(\[{]*[)\]}])", inside):
        name, equals, value = item.partition("=")
        if equals and name.strip().isidentifier():
            found[name.strip()] = _plain(value.strip())
    return found


def _plain(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # paddle prints text without quotes
    return list(value) if isinstance(value, tuple) else value
