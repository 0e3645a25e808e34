"""Layers over the NumPy autograd. Weights are laid out as in torch, apart from LinearIO's, which is as in paddle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from padiff_rpc.model.backends import numpy_functions as F
from padiff_rpc.model.backends.numpy_autograd import Tensor
from padiff_rpc.tensor import DType

Before = Callable[[tuple[Any, ...], dict[str, Any]], "tuple[tuple[Any, ...], dict[str, Any]] | None"]
After = Callable[[tuple[Any, ...], dict[str, Any], Any], Any]


class Parameter(Tensor):
    """A tensor that a layer lists among its parameters when it is set as an attribute."""

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad)


class Layer:
    """Base of all layers: a tree of children, parameters and buffers, kept in the order in which they were set.

    A subclass calls super().__init__() first and defines forward(). Calling the layer runs forward between its hooks.
    """

    training: bool

    def __init__(self) -> None:
        self.__dict__.update(children={}, parameters={}, buffers={}, hooks={}, training=True)

    def __setattr__(self, name: str, value: Any) -> None:
        places = (self.children, self.parameters, self.buffers)
        kind = self.children if isinstance(value, Layer) else self.parameters if isinstance(value, Parameter) else None
        if kind is None and isinstance(value, Tensor) and name in self.buffers:
            kind = self.buffers
        for place in (self.__dict__, *places):
            if place is not kind:
                place.pop(name, None)
        (self.__dict__ if kind is None else kind)[name] = value

    def __getattr__(self, name: str) -> Any:
        for place in ("children", "parameters", "buffers"):
            if name in self.__dict__.get(place, ()):
                return self.__dict__[place][name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
