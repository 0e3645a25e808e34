"""Measure how far two tensors lie apart, as a whole and element by element, in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from padiff_rpc.tensors.float64 import BLOCK_ITEMS, to_float64
from padiff_rpc.tensors.tensor import DType, Tensor

_MANTISSA_BITS = {DType.BF16: 7, DType.F16: 10, DType.F32: 23}


@dataclass(frozen=True)
class Distance:
    """How two tensors of one shape differ. Equal infinities at one place count as equal, and for nothing else.

    Attributes:
        count: The number of elements.
        base_squares: The sum of base's squares.
        raw_squares: The sum of raw's squares.
        apart_squares: The sum of the squares of the differences.
        product: The sum of the products of base's and raw's elements.
        unlike: The number of places where one side alone is infinite or NaN, or both are infinite with other signs.
        nans: The number of places where both are NaN.
    """

    count: int
    base_squares: float
    raw_squares: float
    apart_squares: float
    product: float
    unlike: int
    nans: int

    @property
    def rms(self) -> float:
        """The root mean square of the larger of the two tensors."""
        return math.sqrt(max(self.base_squares, self.raw_squares) / self.count) if self.count else 0.0

    @property
    def factor(self) -> float:
        """The number by which base's tensor comes nearest to raw's; 1 where base's is zero."""
        return self.product / self.base_squares if self.base_squares else 1.0

    def relative(self, least_rms: float = 0.0) -> float:
        """Return the norm of the difference over that of base's tensor; infinite where the one is not zero and the other is.

        Args:
            least_rms: A root mean square below which base's is not taken: of a tensor that is zero but for rounding, every
                element is noise, whose size is told by the tensors around it.
        """
        if self.unlike or self.nans:
            return math.inf
        size = max(self.base_squares, least_rms**2 * self.count)
        if not size:
            return math.inf if self.apart_squares else 0.0
        return math.sqrt(self.apart_squares / size)


def distance(base: Tensor, raw: Tensor) -> Distance:
    """Measure the distance between two tensors of one shape, of any dtypes."""
    mine = theirs = between = product = 0.0
    unlike = nans = 0
    for one, other in _blocks(base, raw):
        wild = ~(np.isfinite(one) & np.isfinite(other))
        if wild.any():
            both_nan = np.isnan(one) & np.isnan(other)
            nans += int(both_nan.sum())
            unlike += int((wild & ~both_nan & (one != other)).sum())
            one, other = np.where(wild, 0.0, one), np.where(wild, 0.0, other)
        apart = other - one
        mine, theirs = mine + float(np.dot(one, one)), theirs + float(np.dot(other, other))
        between, product = between + float(np.dot(apart, apart)), product + float(np.dot(one, other))
    return Distance(base.spec.count, mine, theirs, between, product, unlike, nans)


def share_of_difference(base: Tensor, raw: Tensor, part: float = 0.9) -> float:
    """Return the smallest share of the elements that hold a part of the squared difference; 0 where there is none."""
    squares = np.concatenate([np.square(other - one) for one, other in _blocks(base, raw)] or [np.zeros(0)])
    total = squares.sum()
    if not total or not np.isfinite(total):
        return 0.0
    held = np.cumsum(np.sort(squares)[::-1])
    return float(np.searchsorted(held, part * total) + 1) / squares.size


def flipped_signs(base: Tensor, raw: Tensor, exact: Tensor, reach: float) -> tuple[int, int]:
    """Count the elements of two tensors whose signs differ: near zero, and elsewhere.

    Near zero means that the element of `exact` is not larger than `reach` times the largest of `exact`.
    """
    largest = max((float(np.abs(one).max()) for one, _ in _blocks(exact, exact)), default=0.0)
    near = far = 0
    for (one, other), (z, _) in zip(_blocks(base, raw), _blocks(exact, exact), strict=True):
        flipped = np.sign(one) != np.sign(other)
        close = np.abs(z) <= reach * largest
        near += int((flipped & close).sum())
        far += int((flipped & ~close).sum())
    return near, far


def narrowest(tensor: Tensor) -> DType | None:
    """Return the least precise of bfloat16, float16 and float32 that holds every element of a float64 tensor; None for none.

    The range of the exponent does not count.
    """
    used = 0
    for start in range(0, tensor.spec.count, BLOCK_ITEMS):
        bits = tensor.to_array().reshape(-1)[start : start + BLOCK_ITEMS].view(np.uint64)
        used |= int(np.bitwise_or.reduce(bits))
    for dtype, kept in _MANTISSA_BITS.items():
        if not used & ((1 << (52 - kept)) - 1):
            return dtype
    return None


def _blocks(base: Tensor, raw: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the elements of both tensors as float64, block by block; complex ones as two numbers each."""
    one, other = base.to_array().reshape(-1), raw.to_array().reshape(-1)
    for start in range(0, one.size, BLOCK_ITEMS):
        part = slice(start, start + BLOCK_ITEMS)
        yield to_float64(one[part], base.spec.dtype), to_float64(other[part], raw.spec.dtype)
