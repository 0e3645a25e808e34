"""Forms of one tensor: shapes that hold the same elements, though two models spell them differently."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import Digest, Tensor, TensorStream


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
    narrow = np.frombuffer(tensor.data, tensor.spec.dtype.storage).reshape(tensor.spec.shape)
    wide = Tensor.from_array(np.ascontiguousarray(np.broadcast_to(narrow, shape)), tensor.spec.dtype)
    return wide.stream(stream.name), digest(np.frombuffer(wide.data, np.uint8), wide.spec)
