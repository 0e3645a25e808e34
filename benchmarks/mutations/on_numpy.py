"""The small NumPy framework, as mutations handle it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.mutations.frameworks import Framework, Place, grouped
from padiff_rpc.numpy_framework import functions
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.numpy_framework.nn import Layer

_METHODS = (
    ("matmul", "__matmul__"),
    ("add", "__add__"),
    ("mul", "__mul__"),
    ("divide", "__truediv__"),
    ("exp", "exp"),
    ("tanh", "tanh"),
    ("relu", "relu"),
    ("mean", "mean"),
)
_FUNCTIONS = (("softmax", "softmax"), ("gelu", "gelu"), ("where", "where"), ("concat", "concat"))


class OnNumpy:
    """Implements Framework."""

    def __init__(self) -> None:
        self.tensor: type = Tensor
        self.places: Mapping[str, Sequence[Place]] = grouped(((Tensor, _METHODS), (functions, _FUNCTIONS)))
        self.activations: Mapping[str, Callable[[Any], Any]] = {
            "gelu": functions.gelu,
            "relu": Tensor.relu,
            "tanh": Tensor.tanh,
        }

    def layers(self, model: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self._collect(model, "", found)
        return found

    def _collect(self, layer: Layer, route: str, found: dict[str, Any]) -> None:
        if any(layer is other for other in found.values()):
            return
        found[route] = layer
        for name, child in layer.children().items():
            self._collect(child, f"{route}.{name}" if route else name, found)

    def parameters(self, layer: Any) -> dict[str, Any]:
        return layer.parameters()

    def hold(self, layer: Any, name: str, tensor: Any) -> None:
        layer.__dict__["_parameters"][name] = tensor

    def is_floating(self, tensor: Any) -> bool:
        return tensor.dtype.is_floating

    def take(self, tensor: Any, indices: Sequence[int], axis: int) -> Any:
        return tensor[(slice(None),) * (axis % tensor.ndim) + (np.asarray(indices),)]

    def swapped(self, tensor: Any, one: int, other: int) -> Any:
        axes = list(range(tensor.ndim))
        axes[one], axes[other] = axes[other], axes[one]
        return tensor.transpose(*axes)

    def rounded(self, tensor: Any) -> Any:
        correction = tensor.values.astype(np.float16).astype(np.float32) - tensor.values
        return tensor + Tensor(correction)

    def constant(self, values: np.ndarray, like: Any) -> Any:
        return Tensor(np.ascontiguousarray(values.astype(like.values.dtype)))

    def leaf(self, values: np.ndarray) -> Any:
        return Tensor(values.copy(), requires_grad=values.dtype.kind == "f")

    def array(self, tensor: Any) -> np.ndarray:
        return tensor.values.astype(np.float64)

    def gradient(self, tensor: Any) -> np.ndarray | None:
        return None if tensor.grad is None else self.array(tensor.grad)

    def state(self, model: Any) -> dict[str, np.ndarray]:
        return {name: tensor.data.copy() for name, tensor in self._held(model).items()}

    def load(self, model: Any, state: Mapping[str, np.ndarray]) -> None:
        held = self._held(model)
        for name, array in state.items():
            held[name].overwrite(array.copy())

    def _held(self, model: Any) -> dict[str, Any]:
        return {
            f"{route}.{name}": tensor
            for route, layer in self.layers(model).items()
            for name, tensor in {**layer.parameters(), **layer.buffers()}.items()
        }


def framework() -> Framework:
    """Return the NumPy framework."""
    return OnNumpy()
