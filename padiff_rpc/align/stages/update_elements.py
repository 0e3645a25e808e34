"""Tell the elements of one parameter apart by their gradients: those that rounding noise alone moves, and all others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from padiff_rpc.tensors.blocks import abreast
from padiff_rpc.tensors.float64 import to_float64
from padiff_rpc.tensors.tensor import TensorStream

_MARGIN = 10.0
"""Gradients up to this many times the noise are taken for noise: what is left of their sign and ratio is not reliable."""


@dataclass(frozen=True)
class NoisyElements:
    """The elements of one parameter whose gradients hold nothing but rounding noise.

    Attributes:
        mask: holds one bit per value, packed as by numpy.packbits; a complex element has two values.
        count: counts the noisy values.
        total: counts all values.
        floor: is the magnitude up to which a gradient is taken for noise.
        reach: is the L2 norm, over all other values, of the share of a gradient that is rounding.
    """

    mask: np.ndarray
    count: int
    total: int
    floor: float
    reach: float


def find_noisy_elements(
    base: TensorStream, raw: TensorStream, noise: float, before: np.ndarray | None
) -> NoisyElements:
    """Find the elements whose gradients are noise, in base and in raw.

    The gradients of both sides lie below ten times the computed noise, and one of them is not zero. Where one side's gradient
    stands out of the noise, the difference is no noise, whatever the other's is. Where both are zero nothing moves the element,
    unless an optimiser's moments still hold the noise of an earlier step.

    Args:
        base: streams base's gradients.
        raw: streams raw's gradients, in the same layout.
        noise: bounds the rounding noise of an element, as an absolute value.
        before: is the mask of the step before; None where there was none.

    Raises:
        PadiffError: DATA_LOSS where a stream does not fill its spec exactly.
    """
    floor = _MARGIN * noise
    masks: list[np.ndarray] = []
    count = total = 0
    reach = 0.0
    for base_block, raw_block in abreast(base, raw):
        mine, other = to_float64(base_block, base.spec.dtype), to_float64(raw_block, raw.spec.dtype)
        greater = np.maximum(np.abs(mine), np.abs(other))
        noisy = (greater <= floor) & (greater > 0)
        if before is not None:
            noisy |= (greater == 0) & _bits(before, total, greater.size)
        told = ~noisy & (greater > 0) & np.isfinite(greater)
        rounding = np.minimum(np.abs(mine - other), noise)[told] / greater[told]
        reach += float(rounding @ rounding)
        masks.append(np.packbits(noisy))
        count += int(noisy.sum())
        total += noisy.size
    return NoisyElements(np.concatenate(masks), count, total, floor, math.sqrt(reach))


@dataclass(frozen=True)
class ElementsApart:
    """How far the two sides' values of one parameter are apart.

    Attributes:
        noisy: is the greatest distance of a noisy element.
        others: is the L2 norm of the distances of all other elements.
        worst: is the flat index of the greatest distance among these.
    """

    noisy: float
    others: float
    worst: int


def measure_apart(base: TensorStream, raw: TensorStream, noisy: NoisyElements) -> ElementsApart:
    """Measure the distances of noisy elements and of the others; raises DATA_LOSS as `abreast` does."""
    start = worst = 0
    greatest = farthest = square = 0.0
    for base_block, raw_block in abreast(base, raw):
        apart = np.abs(to_float64(base_block, base.spec.dtype) - to_float64(raw_block, raw.spec.dtype))
        mask = _bits(noisy.mask, start, apart.size)
        farthest = max(farthest, float(apart[mask].max(initial=0.0)))
        apart[mask] = 0.0
        square += float(apart @ apart)
        if apart.size and float(apart.max()) > greatest:
            at = int(apart.argmax())
            greatest, worst = float(apart[at]), start + at
        start += apart.size
    return ElementsApart(farthest, math.sqrt(square), worst)


def unpacked(noisy: NoisyElements) -> np.ndarray:
    """Return the mask as booleans, one for each value."""
    return _bits(noisy.mask, 0, noisy.total)


def _bits(mask: np.ndarray, start: int, count: int) -> np.ndarray:
    """Unpack the bits of some values; `start` is a multiple of 8, as every block but the last has full bytes."""
    return np.unpackbits(mask[start // 8 : (start + count + 7) // 8], count=count).astype(bool)
