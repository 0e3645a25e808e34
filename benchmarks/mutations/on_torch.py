"""Torch, as mutations handle it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.mutations.frameworks import Framework, Place, grouped

_METHODS = (
    ("softmax", "softmax"),
    ("matmul", "matmul"),
    ("matmul", "__matmul__"),
    ("add", "__add__"),
    ("mul", "__mul__"),
    ("divide", "__truediv__"),
    ("triangle", "triu"),
    ("triangle", "tril"),
    ("exp", "exp"),
    ("rsqrt", "rsqrt"),
    ("sigmoid", "sigmoid"),
    ("tanh", "tanh"),
    ("relu", "relu"),
    ("fill", "masked_fill"),
    ("mean", "mean"),
)
_FUNCTIONS = (
    ("softmax", "softmax"),
    ("matmul", "matmul"),
    ("matmul", "bmm"),
    ("add", "add"),
    ("mul", "mul"),
    ("divide", "div"),
    ("triangle", "triu"),
    ("triangle", "tril"),
    ("positions", "arange"),
    ("concat", "cat"),
    ("concat", "stack"),
    ("where", "where"),
    ("exp", "exp"),
    ("rsqrt", "rsqrt"),
    ("sigmoid", "sigmoid"),
    ("tanh", "tanh"),
    ("relu", "relu"),
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


class OnTorch:
    """Implements Framework."""

    def __init__(self) -> None:
        self._torch: Any = importlib.import_module("torch")
        torch, functional = self._torch, self._torch.nn.functional
        self.tensor: type = torch.Tensor
        self.places: Mapping[str, Sequence[Place]] = grouped(
            ((torch.Tensor, _METHODS), (torch, _FUNCTIONS), (functional, _IN_FUNCTIONAL))
        )
        self.activations: Mapping[str, Callable[[Any], Any]] = {
            "gelu": functional.gelu,
            "silu": functional.silu,
            "relu": functional.relu,
            "tanh": torch.tanh,
            "sigmoid": torch.sigmoid,
        }

    def layers(self, model: Any) -> dict[str, Any]:
        return dict(model.named_modules())

    def parameters(self, layer: Any) -> dict[str, Any]:
        return {name: tensor for name, tensor in layer._parameters.items() if tensor is not None}

    def hold(self, layer: Any, name: str, tensor: Any) -> None:
        layer._parameters[name] = tensor

    def is_floating(self, tensor: Any) -> bool:
        return bool(tensor.is_floating_point())

    def take(self, tensor: Any, indices: Sequence[int], axis: int) -> Any:
        return tensor.index_select(axis, self._torch.tensor(list(indices)))

    def swapped(self, tensor: Any, one: int, other: int) -> Any:
        return tensor.transpose(one, other)

    def rounded(self, tensor: Any) -> Any:
        return tensor.to(self._torch.bfloat16).to(tensor.dtype)

    def constant(self, values: np.ndarray, like: Any) -> Any:
        return self._torch.from_numpy(np.ascontiguousarray(values)).to(like.dtype)

    def leaf(self, values: np.ndarray) -> Any:
        tensor = self._torch.from_numpy(values.copy())
        return tensor.requires_grad_() if tensor.is_floating_point() else tensor

    def array(self, tensor: Any) -> np.ndarray:
        return tensor.detach().double().numpy()

    def gradient(self, tensor: Any) -> np.ndarray | None:
        return None if tensor.grad is None else self.array(tensor.grad)

    def state(self, model: Any) -> dict[str, np.ndarray]:
        return {name: tensor.detach().numpy().copy() for name, tensor in self._held(model).items()}

    def load(self, model: Any, state: Mapping[str, np.ndarray]) -> None:
        with self._torch.no_grad():
            held = self._held(model)
            for name, array in state.items():
                held[name].copy_(self._torch.from_numpy(array))

    def _held(self, model: Any) -> dict[str, Any]:
        return dict([*model.named_parameters(), *model.named_buffers()])


def framework() -> Framework:
    """Return torch."""
    return OnTorch()
