"""What a mutation needs of a framework, and where its implementation for each framework lies."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

Place = tuple[Any, str]
"""The owner of a function (a module or a class) and the attribute under which callers find it."""


class Framework(Protocol):
    """Tensors and layers of one framework, as mutations and the oracle handle them.

    Attributes:
        tensor: The class of its tensors.
        places: Canonical name of a functional call -> all places from which models call it.
        activations: Name of an activation -> the function.
    """

    tensor: type
    places: Mapping[str, Sequence[Place]]
    activations: Mapping[str, Callable[[Any], Any]]

    def layers(self, model: Any) -> dict[str, Any]:
        """Return the model and all layers below it by route, each once."""
        ...

    def parameters(self, layer: Any) -> dict[str, Any]:
        """Return the parameters that a layer holds itself."""
        ...

    def hold(self, layer: Any, name: str, tensor: Any) -> None:
        """Let a layer compute with another tensor in the place of a parameter."""
        ...

    def is_floating(self, tensor: Any) -> bool:
        """Return True for a tensor of a floating type."""
        ...

    def take(self, tensor: Any, indices: Sequence[int], axis: int) -> Any:
        """Choose slices along an axis, in this order."""
        ...

    def swapped(self, tensor: Any, one: int, other: int) -> Any:
        """Exchange two axes."""
        ...

    def rounded(self, tensor: Any) -> Any:
        """Round to half precision, and return it in the tensor's own type."""
        ...

    def constant(self, values: np.ndarray, like: Any) -> Any:
        """Make a tensor without gradient, of the type of another."""
        ...

    def leaf(self, values: np.ndarray) -> Any:
        """Make an input, which takes a gradient where its type allows."""
        ...

    def array(self, tensor: Any) -> np.ndarray:
        """Return a tensor's values."""
        ...

    def gradient(self, tensor: Any) -> np.ndarray | None:
        """Return the gradient that a leaf has, None where it has none."""
        ...

    def state(self, model: Any) -> dict[str, np.ndarray]:
        """Return a copy of all parameters and buffers."""
        ...

    def load(self, model: Any, state: Mapping[str, np.ndarray]) -> None:
        """Write what state() gave into a model of the same build."""
        ...


def framework_of(name: str) -> Framework:
    """Import a framework ("torch", "paddle", "numpy") and return what mutations need of it."""
    return importlib.import_module(f"benchmarks.mutations.on_{name}").framework()


def grouped(tables: Sequence[tuple[Any, Sequence[tuple[str, str]]]]) -> dict[str, list[Place]]:
    """Collect the places of each functional call; tables: owner, (canonical name, attribute)."""
    places: dict[str, list[Place]] = {}
    for owner, table in tables:
        for name, attribute in table:
            if callable(vars(owner).get(attribute)) or (isinstance(owner, type) and hasattr(owner, attribute)):
                places.setdefault(name, []).append((owner, attribute))
    return places
