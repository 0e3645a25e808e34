"""Summarise a tensor's bytes: statistics in float64 and a hash, block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import xxhash

from padiff_rpc.promote import BLOCK_ITEMS, square_sum, to_float64
from padiff_rpc.scratch import scratch
from padiff_rpc.tensor import Digest, DType, TensorSpec

_TINY_SQUARES = 1e-280
"""A sum of squares below this may have lost terms to underflow."""


def hash_of(flat: np.ndarray) -> bytes:
    """Return the hash that a digest of these bytes (flat uint8) has."""
    return xxhash.xxh3_128_digest(flat.data)


def digest(flat: np.ndarray, spec: TensorSpec, hash: bytes | None = None) -> Digest:
    """Summarise `spec.size_bytes` bytes (flat uint8, row-major, little-endian), whose hash may be known.

    Integers are exact up to 2**53 (min and max of larger ones are rounded to the nearest float64); booleans count as 0
    and 1. Sums of finite numbers that overflow or underflow float64 are taken again, scaled by the largest magnitude.
    """
    return digest_chunks(lambda: (flat.data,), spec, hash)


def digest_chunks(read: Callable[[], Iterable[memoryview]], spec: TensorSpec, hash: bytes | None = None) -> Digest:
    """Summarise as digest() does what `read` returns piece by piece; it is called again where sums must be scaled.

    Each piece but the last is a multiple of 1 MiB, so that sums are taken over the same blocks as in one piece.
    """
    hasher = xxhash.xxh3_128()

    def hashed() -> Iterator[memoryview]:
        for chunk in read():
            if hash is None:
                hasher.update(chunk)
            yield chunk

    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        sums = _sums(hashed(), spec, 1.0)
        if spec.count == 0:
            return Digest(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, hash or hasher.digest())
        peak = max(abs(sums.low), abs(sums.high))
        lost = not math.isfinite(sums.total + sums.absolute + sums.squares) or (
            sums.squares < _TINY_SQUARES and peak > 0.0
        )
        if lost and math.isfinite(peak):
            sums = _sums(read(), spec, peak)
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
        hash=hash or hasher.digest(),
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


def _sums(chunks: Iterable[memoryview], spec: TensorSpec, scale: float) -> _Sums:
    sums = _Sums()
    parts = 2 if spec.dtype.is_complex else 1
    block_items = min(BLOCK_ITEMS, max(spec.count, 1))
    wide, work = (scratch(f"digest.{n}", block_items * parts) for n in range(2))
    for items in (np.frombuffer(chunk, spec.dtype.storage) for chunk in chunks if chunk.nbytes):
        for start in range(0, items.size, block_items):
            narrow = items[start : start + block_items]
            block = to_float64(narrow, spec.dtype, wide)
            # Of float32 the extremes are sought where they cost half. np.minimum, unlike min(), keeps an earlier block's NaN.
            ends = narrow if spec.dtype is DType.F32 else block
            low, high = float(ends.min()), float(ends.max())
            sums.low, sums.high = float(np.minimum(sums.low, low)), float(np.maximum(sums.high, high))
            if scale != 1.0:
                block = np.divide(block, scale, out=wide[: block.size])
            total = float(block.sum())
            if not math.isfinite(total):
                sums.nans += int(np.count_nonzero(np.isnan(block)))
                sums.infs += int(np.count_nonzero(np.isinf(block)))
            sums.total += total
            sums.squares += square_sum(block)
            if low >= 0.0:  # after a ReLU or a softmax
                sums.absolute += total
            else:
                sums.absolute += float(np.abs(block, out=work[: block.size]).sum())
    return sums
