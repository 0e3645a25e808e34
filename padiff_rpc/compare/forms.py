"""Forms of one tensor: shapes that hold the same elements, though two models spell them differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from math import prod
from typing import Literal

import numpy as np

from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import Digest, Tensor, TensorStream

_MOST_AXES = 5
"""Five axes have 120 orders, of which sizes leave few."""


def are_regrouped(base: Sequence[int], raw: Sequence[int]) -> bool:
    """Tell whether two shapes differ in axes of size 1, and in neighbouring axes that one of them merges.

    In both, the elements then lie in one order. [B, T, D] and [B * T, D] are such shapes; [2, 3] and [3, 2] are none, since one
    of them may be the other transposed. Nor are [B, 1, T] and [B, T, 1]: one broadcasts along the rows, the other along the
    columns.
    """
    mine, theirs = [size for size in base if size != 1], [size for size in raw if size != 1]
    if prod(mine) != prod(theirs) or (len(base) == len(raw) and mine == theirs and 1 in base):
        return False
    while mine and theirs:
        one, other = [mine.pop(0)], [theirs.pop(0)]
        while prod(one) != prod(other):
            shorter, rest = (one, mine) if prod(one) < prod(other) else (other, theirs)
            if not rest:
                return False
            shorter.append(rest.pop(0))
        if len(one) > 1 and len(other) > 1:
            return False
    return not mine and not theirs


def is_broadcast(narrow: Sequence[int], wide: Sequence[int]) -> bool:
    """Tell whether repeating the elements of a tensor of shape `narrow` gives one of shape `wide`, as NumPy broadcasts."""
    if len(narrow) > len(wide) or 0 in (*narrow, *wide):
        return False
    padded = (*[1] * (len(wide) - len(narrow)), *narrow)
    return padded != tuple(wide) and all(mine in (1, size) for mine, size in zip(padded, wide, strict=True))


def widened(stream: TensorStream, shape: tuple[int, ...]) -> tuple[TensorStream, Digest]:
    """Read a stream whole, repeat its tensor to a shape, as NumPy broadcasts, and return the stream and digest of that."""
    tensor = stream.collect()
    wide, figures = digested(_remade(tensor, np.broadcast_to(tensor.to_array(), shape)))
    return wide.stream(stream.name), figures


def orders_of_axes(shape: Sequence[int], other: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the orders of a tensor's axes, other than its own, in which it has the other's shape.

    The other may merge axes that are neighbours then: [B, C, H, W] against [B, H * W, C]. Orders that only move axes of size 1
    are left out, since the elements stay where they are. Nothing is yielded for tensors of more than _MOST_AXES axes.
    """
    if len(other) > len(shape) or len(shape) > _MOST_AXES or prod(shape) != prod(other):
        return
    for order in permutations(range(len(shape))):
        moved = [axis for axis in order if shape[axis] != 1]
        turned = tuple(shape[axis] for axis in order)
        if moved != sorted(moved) and (
            turned == tuple(other) or (len(other) < len(shape) and are_regrouped(turned, other))
        ):
            yield order


def in_order(tensor: Tensor, order: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Return a tensor with its axes in another order, and then in a shape that may merge some of them."""
    return _remade(tensor, tensor.to_array().transpose(order).reshape(shape))


def told_order(order: Sequence[int], merged: Literal["", "base", "raw"] = "") -> str:
    """Say in words which axes an order moves. merged: the side that has merged some, if one has."""
    moved = [axis for axis, place in enumerate(order) if axis != place]
    if len(moved) == 2 and not merged:
        return f"axes {moved[0]} and {moved[1]} are swapped"
    one, other = ("raw", "base") if merged == "raw" else ("base", "raw")
    order_then = f"{one}'s are {other}'s {', '.join(map(str, order))}"
    return f"the axes are in another order: {order_then}" + (", some of them merged" if merged else "")


def digested(tensor: Tensor) -> tuple[Tensor, Digest]:
    """Return a tensor with its digest."""
    return tensor, digest(np.frombuffer(tensor.data, np.uint8), tensor.spec)


def _remade(tensor: Tensor, array: np.ndarray) -> Tensor:
    return Tensor.from_array(np.ascontiguousarray(array), tensor.spec.dtype)
