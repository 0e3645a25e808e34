"""Tensors with gradients over NumPy arrays: the core of the framework that the NumPy backend adapts.

Tensors own their memory and are never views of each other, `alias` and `detach` apart. Values that an operation keeps for
its gradient carry a version, so that changing them in place is an error in backward, never a wrong gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.numpy_framework.graph import GraphNode, Vjp, grad_enabled
from padiff_rpc.tensors.tensor import DType

OPAQUE = frozenset({DType.BF16, DType.F8_E4M3, DType.F8_E5M2})
"""The types that NumPy can store but not compute with; their bytes are held as unsigned integers."""

_NATIVE = {dtype.storage: dtype for dtype in DType if dtype not in OPAQUE}


class Tensor:
    """An array of values with a node in the graph, through which its gradient comes.

    Attributes:
        data: The values, or unsigned integers for an opaque dtype.
        dtype: The element type.
        grad: The sum of the gradients that have arrived at a leaf; None before the first.
        node: The tensor's node in the graph; None where no gradient is wanted.
        version: The number of changes in place, in a list that all tensors on the same memory share.

    Raises:
        TypeError: A NumPy dtype has no DType, or is not the storage of `dtype`.
    """

    __array_ufunc__ = None  # an array on the left leaves the operation to us

    def __init__(self, data: Any, requires_grad: bool = False, dtype: DType | None = None) -> None:
        array = np.asarray(data)
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("<"))
        if array.dtype not in _NATIVE:
            raise TypeError(f"there are no tensors of NumPy's dtype {array.dtype}")
        if dtype is not None and array.dtype != dtype.storage:
            raise TypeError(f"{dtype.value} is stored as {dtype.storage}, not as {array.dtype}")
        self.data: np.ndarray = array
        self.dtype: DType = dtype or _NATIVE[array.dtype]
        self.grad: Tensor | None = None
        self.node: GraphNode | None = None
        self.version: list[int] = [0]  # shared by all tensors on the same memory
        self._seen = 0  # the version that `node` describes
        self._base: Tensor | None = None
        if requires_grad:
            self.requires_grad_()

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each axis."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.data.ndim

    @property
    def requires_grad(self) -> bool:
        """True where the tensor has a node, so that a gradient can reach it."""
        return self.node is not None

    @property
    def values(self) -> np.ndarray:
        """The data, to compute with.

        Raises:
            PadiffError: NOT_SUPPORTED for an opaque dtype.
            RuntimeError: The tensor was changed through another tensor on the same memory, so that its node no longer
                describes it.
        """
        if self.dtype in OPAQUE:
            raise PadiffError(
                f"NumPy cannot compute with {self.dtype.value}",
                reason=Reason.NOT_SUPPORTED,
                hint="use float32, or host the model in torch or paddle",
            )
        if self.node is not None and self._seen != self.version[0]:
            raise RuntimeError("this tensor was changed in place through another tensor on the same memory")
        return self.data

    def __repr__(self) -> str:
        return f"Tensor({self.dtype.value}{list(self.shape)}, requires_grad={self.requires_grad})\n{self.data}"

    # -- gradients ------------------------------------------------------------------------------------------------
    def requires_grad_(self, wanted: bool = True) -> Tensor:
        """Make this tensor a leaf that collects gradients, or one that does not.

        Raises:
            TypeError: The tensor is not floating.
        """
        if wanted and self.data.dtype.kind != "f":
            raise TypeError(f"only a floating tensor can have a gradient, this is {self.dtype.value}")
        self.node = GraphNode(self.data) if wanted else None
        self._seen = self.version[0]
        if self.node is not None:
            self.node.rest = self._accumulate
        return self

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> Callable[[], None]:
        """Call `hook` with the whole gradient of this tensor's present value, and return the hook's removal.

        A tensor that the hook returns replaces the gradient.

        Raises:
            RuntimeError: The tensor requires no gradient.
        """
        if self.node is None:
            raise RuntimeError("no gradient will ever reach this tensor, so it takes no hook")

        def on_array(gradient: np.ndarray) -> np.ndarray | None:
            replaced = hook(Tensor(gradient))
            return None if replaced is None else replaced.values

        return self.node.add_hook(on_array)

    def backward(self) -> None:
        """Carry the gradient of this scalar back to the leaves, once.

        Raises:
            RuntimeError: The tensor is no scalar, requires no gradient, or its graph was run back before.
        """
        if self.node is None or self.data.size != 1:
            raise RuntimeError(
                f"backward starts from a scalar that depends on a parameter, not from a tensor of shape {self.shape} with "
                f"requires_grad={self.requires_grad}"
            )
        self.node.walk_back()

    def detach(self) -> Tensor:
        """Return a tensor on the same memory without a node."""
        twin = Tensor(self.data, dtype=self.dtype)
        twin.version, twin._seen = self.version, self.version[0]
        return twin

    def alias(self) -> Tensor:
        """Return a tensor on the same memory with a node of its own.

        Changing the alias in place changes this tensor, too, its node included.
        """
        twin = self.detach()
        if self.node is not None and grad_enabled():
            twin.node = GraphNode(self.values, (self.node,), lambda g: (g,))
        twin._base = self
        return twin

    def _accumulate(self, gradient: np.ndarray) -> None:
        self.grad = Tensor(gradient.copy() if self.grad is None else self.grad.data + gradient)

    # -- in place -------------------------------------------------------------------------------------------------
    def add_(self, other: Any) -> Tensor:
        """Add another tensor, or a number, in place."""
        return self._become(self + other)

    def mul_(self, other: Any) -> Tensor:
        """Multiply by another tensor, or a number, in place."""
        # The gradient of `other` needs the factor as it was, so that one must be a copy.
        kept = isinstance(other, Tensor) and other.node is not None
        return self._become((self + 0 if kept else self) * other)

    def copy_(self, other: Tensor) -> Tensor:
        """Take over another tensor's values in place, so that this tensor's gradient flows on to it."""
        return self._become(other.alias())  # a node of its own: `other` may be a leaf

    def relu_(self) -> Tensor:
        """Set negative elements to zero in place."""
        return self._become(self.relu())

    __iadd__ = add_
    __imul__ = mul_

    def overwrite(self, array: np.ndarray) -> None:
        """Set the values in place, outside the graph.

        Raises:
            ValueError: The shape or the storage dtype differs.
        """
        if array.shape != self.shape or array.dtype != self.data.dtype:
            raise ValueError(f"{array.dtype}{list(array.shape)} does not fit {self.data.dtype}{list(self.shape)}")
        self.data[...] = array
        self.note_write()

    def note_write(self) -> None:
        """Count a write to the memory that was made outside the graph."""
        self.version[0] += 1
        self._seen = self.version[0]

    def convert_(self, dtype: DType) -> None:
        """Change the element type of a leaf, or of a tensor without a node, and drop its gradient.

        Raises:
            RuntimeError: An operation made the tensor.
        """
        if self.node is not None and not self.node.is_leaf:
            raise RuntimeError("only a leaf can change its type in place")
        trained = self.requires_grad
        self.data, self.dtype, self.grad = self.values.astype(dtype.storage), dtype, None
        self.version = [0]  # a new memory
        self.requires_grad_(trained)

    def lend(self, source: Tensor) -> Callable[[], None]:
        """Take over another tensor's memory and type, without a gradient, until the returned function is called.

        That puts all back as it was. A leaf stays one, with a new node.
        """
        own = dict(vars(self))
        leaf = self.node is not None and self.node.is_leaf
        self.data, self.dtype, self.grad, self.node = source.data, source.dtype, None, None
        self.version, self._seen, self._base = [0], 0, None
        if leaf:
            self.requires_grad_()
        return lambda: vars(self).update(own)

    def _become(self, result: Tensor) -> Tensor:
        """Take over a result's values in this tensor's memory, and its node in the graph."""
        if result.shape != self.shape:
            raise ValueError(f"a tensor of shape {self.shape} cannot become one of {result.shape} in place")
        result = result.cast(self.dtype)
        family: list[Tensor] = [self]
        while (base := family[-1]._base) is not None:
            family.append(base)
        if grad_enabled() and any(member.node is not None and member.node.is_leaf for member in family):
            raise RuntimeError("a leaf that collects gradients cannot be changed in place")
        self.data[...] = result.data
        self.version[0] += 1
        for member in family:
            member.node, member._seen = result.node, self.version[0]
        return self

    # -- arithmetic -----------------------------------------------------------------------------------------------
    def __add__(self, other: Any) -> Tensor:
        other = _lift(other, self)
        a, b = self.shape, other.shape
        return apply(self.values + other.values, (self, other), lambda g: (_unbroadcast(g, a), _unbroadcast(g, b)))

    def __sub__(self, other: Any) -> Tensor:
        return self + -_lift(other, self)

    def __mul__(self, other: Any) -> Tensor:
        other = _lift(other, self)
        a, b = self.values, other.values

        def vjp(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return _unbroadcast(g * b, a.shape), _unbroadcast(g * a, b.shape)

        return apply(a * b, (self, other), vjp, _saved_by_product(self, other))

    def __truediv__(self, other: Any) -> Tensor:
        other = _lift(other, self)
        a, b = self.values, other.values

        def vjp(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return _unbroadcast(g / b, a.shape), _unbroadcast(-g * a / (b * b), b.shape)

        return apply(a / b, (self, other), vjp, (other, *_saved_by_product(self, other)))

    def __matmul__(self, other: Tensor) -> Tensor:
        a, b = self.values, other.values
        if a.ndim < 2 or b.ndim < 2:
            raise ValueError(f"matmul takes matrices or stacks of them, got shapes {a.shape} and {b.shape}")

        def vjp(g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return _unbroadcast(g @ b.swapaxes(-1, -2), a.shape), _unbroadcast(a.swapaxes(-1, -2) @ g, b.shape)

        return apply(a @ b, (self, other), vjp, _saved_by_product(self, other))

    def __neg__(self) -> Tensor:
        return apply(-self.values, (self,), lambda g: (-g,))

    def __radd__(self, other: Any) -> Tensor:
        return self + other

    def __rmul__(self, other: Any) -> Tensor:
        return self * other

    def __rsub__(self, other: Any) -> Tensor:
        return _lift(other, self) - self

    def __rtruediv__(self, other: Any) -> Tensor:
        return _lift(other, self) / self

    def exp(self) -> Tensor:
        """Return e to the power of each element."""
        y = np.exp(self.values)
        return apply(y, (self,), lambda g: (g * y,), saves_result=True)

    def sqrt(self) -> Tensor:
        """Return the square root of each element."""
        y = np.sqrt(self.values)
        return apply(y, (self,), lambda g: (g / (2 * y),), saves_result=True)

    def tanh(self) -> Tensor:
        """Return the hyperbolic tangent of each element."""
        y = np.tanh(self.values)
        return apply(y, (self,), lambda g: (g * (1 - y * y),), saves_result=True)

    def relu(self) -> Tensor:
        """Return max(element, 0); a NaN stays NaN."""
        x = self.values
        y = np.maximum(x, x.dtype.type(0))  # a NaN stays one
        return apply(y, (self,), lambda g: (g * (y > 0),), saves_result=True)

    # -- shape, type and sums ---------------------------------------------------------------------------------------
    def cast(self, dtype: DType) -> Tensor:
        """Return this tensor in another element type; the tensor itself where it has that type already.

        Raises:
            PadiffError: NOT_SUPPORTED for an opaque target, and from float8.
        """
        if dtype is self.dtype:
            return self
        if dtype in OPAQUE:
            raise PadiffError(f"NumPy cannot convert to {dtype.value}", reason=Reason.NOT_SUPPORTED)
        if self.dtype is DType.BF16:  # the upper half of a float32
            return Tensor((self.data.astype(np.uint32) << 16).view(np.float32)).cast(dtype)
        return apply(self.values.astype(dtype.storage), (self,), lambda g: (g,))

    def reshape(self, *shape: int) -> Tensor:
        """Return a copy of another shape, in which one size may be -1."""
        before = self.shape
        return apply(self.values.reshape(shape).copy(), (self,), lambda g: (g.reshape(before),))

    def transpose(self, *axes: int) -> Tensor:
        """Permute the axes: `axes[i]` of this tensor becomes axis i."""
        back = np.argsort([axis % self.ndim for axis in axes])
        return apply(np.array(self.values.transpose(axes), order="C"), (self,), lambda g: (g.transpose(back),))

    def __getitem__(self, index: Any) -> Tensor:
        index = _plain_index(index)
        shape, dtype = self.shape, self.data.dtype

        def vjp(g: np.ndarray) -> tuple[np.ndarray]:
            full = np.zeros(shape, dtype)
            np.add.at(full, index, g)  # an element taken twice gets both gradients
            return (full,)

        return apply(np.array(self.values[index], order="C"), (self,), vjp)

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """Sum over one axis, several axes, or all of them."""
        shape = self.shape
        values = np.asarray(np.sum(self.values, axis=axis, keepdims=keepdims))
        return apply(values, (self,), lambda g: (_spread(g, shape, axis, keepdims),))

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
        """Average over one axis, several axes, or all of them."""
        shape, size = self.shape, self.data.size
        values = np.asarray(np.mean(self.values, axis=axis, keepdims=keepdims))
        return apply(values, (self,), lambda g: (_spread(g, shape, axis, keepdims) * (values.size / size),))


def apply(
    values: Any, inputs: tuple[Tensor, ...], vjp: Vjp, saved: tuple[Tensor, ...] = (), saves_result: bool = False
) -> Tensor:
    """Wrap an operation's result as a tensor, and give it a node where an input has one.

    Args:
        values: The result, which must not share memory with the inputs.
        inputs: The operation's inputs.
        vjp: Maps the result's gradient to the inputs' gradients (or None), in the inputs' shapes.
        saved: The inputs whose values `vjp` reads.
        saves_result: True where `vjp` reads the result's values.

    Raises:
        TypeError: A complex result wants a gradient.
    """
    result = Tensor(values)
    parents = tuple(tensor.node for tensor in inputs)
    if not grad_enabled() or all(parent is None for parent in parents):
        return result
    if result.dtype.is_complex:
        raise TypeError("gradients of complex tensors are not supported")
    if result.dtype.is_floating:
        kept = [tensor.version for tensor in saved] + ([result.version] if saves_result else [])
        result.node = GraphNode(result.data, parents, vjp, *kept)
    return result


def _saved_by_product(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Return the factors that a product's gradient still reads: each factor where the other wants a gradient."""
    return tuple(kept for kept, partner in ((a, b), (b, a)) if partner.node is not None)


def _plain_index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_plain_index(item) for item in index)
    return index.values.copy() if isinstance(index, Tensor) else index


def _lift(other: Any, like: Tensor) -> Tensor:
    """Wrap an array or scalar as a tensor.

    A scalar gets the type of `like` where that is floating (NumPy 1 and 2 promote scalars differently).
    """
    if isinstance(other, Tensor):
        return other
    if isinstance(other, (int, float, np.generic)) and like.dtype.is_floating:
        return Tensor(np.asarray(other, like.values.dtype))
    return Tensor(other)


def _unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum a gradient over the axes along which an operand of `shape` was broadcast."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    axes = tuple(i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1)
    return gradient.sum(axis=axes, keepdims=True)


def _spread(
    gradient: np.ndarray, shape: tuple[int, ...], axis: int | tuple[int, ...] | None, keepdims: bool
) -> np.ndarray:
    """Broadcast the gradient of a reduction over `axis` back to `shape`."""
    if axis is not None and not keepdims:
        gradient = np.expand_dims(gradient, axis)
    return np.broadcast_to(gradient, shape)
