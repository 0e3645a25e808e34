"""Paddle, as mutations handle it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.mutations.frameworks import Framework, Place, grouped

_METHODS = (
    ("matmul", "matmul"),
    ("matmul", "__matmul__"),
    ("add", "__add__"),
    ("mul", "__mul__"),
    ("divide", "__truediv__"),
    ("divide", "__div__"),
    ("triangle", "triu"),
    ("triangle", "tril"),
    ("exp", "exp"),
    ("rsqrt", "rsqrt"),
    ("sigmoid", "sigmoid"),
    ("tanh", "tanh"),
    ("mean", "mean"),
)
_FUNCTIONS = (
    ("matmul", "matmul"),
    ("matmul", "bmm"),
    ("add", "add"),
    ("mul", "multiply"),
    ("divide", "divide"),
    ("triangle", "triu"),
    ("triangle", "tril"),
    ("positions", "arange"),
    ("concat", "concat"),
    ("concat", "stack"),
    ("where", "where"),
    ("exp", "exp"),
    ("rsqrt", "rsqrt"),
    ("tanh", "tanh"),
    ("mean", "mean"),
)
_IN_FUNCTIONAL = (
    ("softmax", "softmax"),
    ("gelu", "gelu"),
    ("silu", "silu"),
    ("relu", "relu"),
    ("sigmoid", "sigmoid"),
    ("attention", "scaled_dot_product_attention"),
    ("layer_norm", "layer_norm"),
)


class OnPaddle:
    """Implements Framework."""

    def __init__(self) -> None:
        self._paddle: Any = importlib.import_module("paddle")
        paddle, functional = self._paddle, self._paddle.nn.functional
        self.tensor: type = paddle.Tensor
        self.places: Mapping[str, Sequence[Place]] = grouped(
            ((paddle.Tensor, _METHODS), (paddle, _FUNCTIONS), (functional, _IN_FUNCTIONAL))
        )
        self.activations: Mapping[str, Callable[[Any], Any]] = {
            "gelu": functional.gelu,
            "silu": functional.silu,
            "relu": functional.relu,
            "tanh": paddle.tanh,
            "sigmoid": functional.sigmoid,
        }

    def layers(self, model: Any) -> dict[str, Any]:
        return {"": model, **dict(model.named_sublayers())}

    def parameters(self, layer: Any) -> dict[str, Any]:
        return {name: tensor for name, tensor in layer._parameters.items() if tensor is not None}

    def hold(self, layer: Any, name: str, tensor: Any) -> None:
        layer._parameters[name] = tensor

    def is_floating(self, tensor: Any) -> bool:
        return bool(self._paddle.is_floating_point(tensor))

    def take(self, tensor: Any, indices: Sequence[int], axis: int) -> Any:
        index = self._paddle.to_tensor(list(indices), dtype="int64")
        return self._paddle.index_select(tensor, index, axis % tensor.ndim)

    def swapped(self, tensor: Any, one: int, other: int) -> Any:
        axes = list(range(tensor.ndim))
        axes[one], axes[other] = axes[other], axes[one]
        return self._paddle.transpose(tensor, axes)

    def rounded(self, tensor: Any) -> Any:
        return tensor.astype("bfloat16").astype(tensor.dtype)

    def constant(self, values: np.ndarray, like: Any) -> Any:
        return self._paddle.to_tensor(np.ascontiguousarray(values)).astype(like.dtype)

    def leaf(self, values: np.ndarray) -> Any:
        return self._paddle.to_tensor(values, stop_gradient=values.dtype.kind != "f")

    def array(self, tensor: Any) -> np.ndarray:
        return tensor.detach().astype("float64").numpy()

    def gradient(self, tensor: Any) -> np.ndarray | None:
        return None if tensor.grad is None else self.array(tensor.grad)

    def state(self, model: Any) -> dict[str, np.ndarray]:
        arrays = {name: tensor.numpy().copy() for name, tensor in self._held(model).items()}
        # The state of a GRU's dropout was never filled: its values are not of its shape.
        return {name: array for name, array in arrays.items() if array.size}

    def load(self, model: Any, state: Mapping[str, np.ndarray]) -> None:
        held = self._held(model)
        for name, array in state.items():
            held[name].set_value(array)

    def _held(self, model: Any) -> dict[str, Any]:
        return dict([*model.named_parameters(), *model.named_buffers()])


def framework() -> Framework:
    """Return paddle."""
    return OnPaddle()
