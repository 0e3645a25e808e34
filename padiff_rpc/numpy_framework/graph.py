"""The graph of the NumPy autograd: its nodes, the mode that turns recording off, and the walk back.

It sees arrays, not tensors.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

Vjp = Callable[[np.ndarray], Sequence["np.ndarray | None"]]
"""Maps the gradient of an operation's result to those of its inputs; must not change the gradient that it is given."""
Hook = Callable[[np.ndarray], "np.ndarray | None"]
"""Receives a node's gradient, and returns a gradient to use in its stead, or None."""
Version = list[int]
"""One counter, shared by all tensors on the same memory, that counts changes in place."""

_mode = threading.local()  # as in torch: each thread has its own grad mode
_order = itertools.count()


def grad_enabled() -> bool:
    """Return True where operations of this thread become nodes of the graph."""
    return getattr(_mode, "enabled", True)


@contextmanager
def grad_mode(enabled: bool) -> Iterator[None]:
    """Turn the recording of operations on or off for this thread, for the length of the block."""
    before = grad_enabled()
    _mode.enabled = enabled
    try:
        yield
    finally:
        _mode.enabled = before


class GraphNode:
    """One operation in the graph, or a leaf, where gradients come to rest.

    Attributes:
        shape: The shape of the node's gradient.
        dtype: The dtype of the node's gradient.
        parents: The nodes of the operation's inputs; None for an input that wants no gradient.
        rest: Receives the gradient that arrives at a leaf; None for an operation.
    """

    def __init__(
        self, values: np.ndarray, parents: tuple[GraphNode | None, ...] = (), vjp: Vjp | None = None, *saved: Version
    ) -> None:
        """Add a node.

        Args:
            values: The operation's result, for its shape and dtype.
            parents: The nodes of the operation's inputs.
            vjp: Maps the result's gradient to the inputs' gradients.
            saved: The version counters of the values that the operation keeps for its gradient.
        """
        self.shape: tuple[int, ...] = values.shape
        self.dtype: np.dtype[np.generic] = values.dtype
        self.parents = parents
        self.rest: Callable[[np.ndarray], None] | None = None
        self._order = next(_order)
        self._vjp = vjp
        self._saved = [(version, version[0]) for version in saved]
        self._hooks: dict[int, Hook] = {}

    @property
    def is_leaf(self) -> bool:
        """True where gradients come to rest here."""
        return self.rest is not None

    def add_hook(self, hook: Hook) -> Callable[[], None]:
        """Call `hook` with this node's whole gradient, and return the hook's removal.

        An array that the hook returns replaces the gradient.
        """
        key = next(_order)
        self._hooks[key] = hook

        def remove() -> None:
            self._hooks.pop(key, None)

        return remove

    def walk_back(self) -> None:
        """Carry a gradient of ones from this node to the leaves, latest operation first.

        Raises:
            RuntimeError: An operation ran back before, or values that it kept were changed in place.
        """
        gradients: dict[GraphNode, np.ndarray] = {self: np.ones(self.shape, self.dtype)}
        queue: list[tuple[int, GraphNode]] = [(-self._order, self)]
        with grad_mode(False):
            while queue:
                node = heapq.heappop(queue)[1]
                gradient = node._hooked(gradients.pop(node))
                if node.rest is not None:
                    node.rest(gradient)
                    continue
                for parent, part in zip(node.parents, node._parts(gradient), strict=True):
                    if parent is None or part is None:
                        continue
                    part = parent._fit(part)
                    if parent in gradients:
                        gradients[parent] = gradients[parent] + part
                    else:
                        gradients[parent] = part
                        heapq.heappush(queue, (-parent._order, parent))

    def _parts(self, gradient: np.ndarray) -> Sequence[np.ndarray | None]:
        if self._vjp is None:
            raise RuntimeError("backward ran through this part of the graph before; run forward again")
        if any(version[0] != seen for version, seen in self._saved):
            raise RuntimeError("a tensor that backward needs was changed in place after it was used")
        vjp, self._vjp = self._vjp, None  # what it keeps is no longer needed
        return vjp(gradient)

    def _hooked(self, gradient: np.ndarray) -> np.ndarray:
        for hook in tuple(self._hooks.values()):
            replaced = hook(gradient)
            if replaced is not None:
                gradient = self._fit(replaced)
        return gradient

    def _fit(self, gradient: np.ndarray) -> np.ndarray:
        if gradient.shape != self.shape:
            raise ValueError(f"a gradient of shape {gradient.shape} does not fit a tensor of shape {self.shape}")
        return np.asarray(gradient, self.dtype)
