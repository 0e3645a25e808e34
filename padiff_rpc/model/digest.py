"""Summarise a tensor's bytes: statistics in float64 and a hash, block by block."""

from __future__ import annotations

import math

import numpy as np
import xxhash

from padiff_rpc.promote import BLOCK_ITEMS, to_float64
from padiff_rpc.tensor import Digest, TensorSpec

_TINY_SQUARES = 1e-280
"""A sum of squares below this may have lost terms to underflow."""


def digest(flat: np.ndarray, spec: TensorSpec) -> Digest:
    """Summarise `spec.size_bytes` bytes (flat uint8, row-major, little-endian).

    Integers are exact up to 2**53 (min and max of larger ones are rounded to the nearest float64); booleans count as 0
    and 1. Sums of finite numbers that overflow or underflow float64 are taken again, scaled by the largest magnitude.
    """
    hashed = xxhash.xxh3_128_digest(flat.data)
    if spec.count == 0:
        return Digest(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, hashed)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        sums = _sums(flat, spec, 1.0)
        peak = max(abs(sums.low), abs(sums.high))
        lost = not math.isfinite(sums.total + sums.absolute + sums.squares) or (
            sums.squares < _TINY_SQUARES and peak > 0.0
        )
        if lost and math.isfinite(peak):
            sums = _sums(flat, spec, peak)
            scale = peak
        else:
            scale = 1.0
    parts = spec.count * (2 if spec.dtype.is_complex else 1)
    return Digest(
        count=spec.count,
        mean=scale * (sums.total / parts),
        abs_mean=scale * (sums.absolute / parts),
        norm=scale * math.sqrt(sums.squares),
        min=sums.low,
        max=sums.high,
        nan_count=sums.nans,
        inf_count=sums.infs,
        hash=hashed,
    )


class _Sums:
    """Running sums over blocks; `low` and `high` are unscaled. NaN in any element makes all of them NaN."""

    def __init__(self) -> None:
        self.total = 0.0
        self.absolute = 0.0
        self.squares = 0.0
        self.low = math.inf
        self.high = -math.inf
        self.nans = 0
        self.infs = 0


def _sums(flat: np.ndarray, spec: TensorSpec, scale: float) -> _Sums:
    sums = _Sums()
    items = flat.view(spec.dtype.storage)
    parts = 2 if spec.dtype.is_complex else 1
    block_items = min(BLOCK_ITEMS, items.size)
    wide = np.empty(block_items * parts, np.float64)
    work = np.empty(block_items * parts, np.float64)
    for start in range(0, items.size, block_items):
        block = to_float64(items[start : start + block_items], spec.dtype, wide)
        # np.minimum, unlike min(), keeps the NaN of an earlier block.
        sums.low = float(np.minimum(sums.low, block.min()))
        sums.high = float(np.maximum(sums.high, block.max()))
        if scale != 1.0:
            block = np.divide(block, scale, out=wide[: block.size])
        total = float(block.sum())
        if not math.isfinite(total):
            sums.nans += int(np.count_nonzero(np.isnan(block)))
            sums.infs += int(np.count_nonzero(np.isinf(block)))
        sums.total += total
        # No np.dot: BLAS splits it by threads, and the last digit would depend on the machine.
        sums.absolute += float(np.abs(block, out=work[: block.size]).sum())
        sums.squares += float(np.multiply(block, block, out=work[: block.size]).sum())
    return sums
