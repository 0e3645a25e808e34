"""Sketch a tensor: a few sums from which the distance of two tensors is estimated, when only one of them is still there."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable

import numpy as np

from padiff_rpc.tensors.float64 import to_float64
from padiff_rpc.tensors.scratch import scratch
from padiff_rpc.tensors.tensor import TensorSpec

Sketch = np.ndarray
"""WIDTH sums, in float64."""

WIDTH = 127
"""The number of sums. It is odd, so that what lies in one channel of a tensor spreads over all of them.

The estimate of a distance has a standard deviation of about 1 / sqrt(2 * WIDTH), 6 %.
"""

_ROWS = 512
_BLOCK_ITEMS = WIDTH * _ROWS
_SIGNS = 65_521  # a prime
_STRIDE = 104_729
_KINDS = 4
"""Each fourth of the sums has signs of its own, so that equal elements in a row of a tensor do not all stand or fall together."""
_COLUMNS = np.arange(WIDTH)


def sketch(chunks: Iterable[memoryview], spec: TensorSpec) -> Sketch:
    """Return WIDTH sums (float64) of a floating tensor's elements, each element in one of them and with a sign of its own.

    The map is linear, and the squared norm of a result is an unbiased estimate of the tensor's own (the sketch of Alon, Matias
    and Szegedy, in WIDTH buckets). NaN and Inf make a sum NaN or Inf.

    Args:
        chunks: The tensor's bytes, row-major, in pieces that hold whole elements.
        spec: The tensor's dtype and shape.
    """
    sums = np.zeros((_KINDS, WIDTH))
    signs = _signs()
    wide = scratch("sketch", 2 * _BLOCK_ITEMS)
    number = 0
    with np.errstate(invalid="ignore", over="ignore"):
        for items in (np.frombuffer(chunk, spec.dtype.storage) for chunk in chunks if chunk.nbytes):
            for start in range(0, items.size, _BLOCK_ITEMS):
                block = to_float64(items[start : start + _BLOCK_ITEMS], spec.dtype, wide)
                rows, rest = divmod(block.size, WIDTH)
                at = number * _STRIDE % _SIGNS
                sums += signs[:, at : at + rows] @ block[: rows * WIDTH].reshape(rows, WIDTH)
                if rest:
                    sums[:, :rest] += signs[:, at + rows, None] * block[rows * WIDTH :]
                number += 1
    return sums[_COLUMNS % _KINDS, _COLUMNS]


def distance(one: Sketch, other: Sketch) -> float:
    """Estimate ||a - b|| from the sketches of two tensors a and b of one spec; NaN where either holds NaN or Inf."""
    gap = one - other
    return math.sqrt(float(gap @ gap))


@functools.cache
def _signs() -> np.ndarray:
    drawn = np.random.default_rng(20).choice(np.array([-1.0, 1.0]), (_KINDS, _SIGNS))
    return np.concatenate([drawn, drawn[:, : _ROWS + 1]], axis=1)
