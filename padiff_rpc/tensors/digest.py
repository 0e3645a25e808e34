"""Summarise a tensor's bytes, block by block: statistics in float64, and a hash."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import xxhash

from padiff_rpc.tensors.float64 import BLOCK_ITEMS, single_square_sum, square_sum, to_float64
from padiff_rpc.tensors.scratch import scratch
from padiff_rpc.tensors.tensor import Digest, DType, Statistics, TensorSpec

_TINY_SQUARES = 1e-280
"""A sum of squares below this may have lost terms to underflow."""


def hash_of(flat: np.ndarray) -> bytes:
    """Return the hash that the digest of these bytes (flat uint8) has: xxh3-128, 16 bytes."""
    return xxhash.xxh3_128_digest(flat.data)


def digest(flat: np.ndarray, spec: TensorSpec, statistics: Statistics = Statistics.ALL) -> Digest:
    """Summarise a tensor whose bytes lie in one piece.

    Integers are exact up to 2**53; min and max of larger integers are rounded to the nearest float64. Booleans count as 0
    and 1. Where sums of finite numbers overflow or underflow float64, they are taken again, scaled by the largest magnitude.

    Args:
        flat: `spec.size_bytes` bytes (flat uint8), row-major and little-endian.
        spec: The tensor's dtype and shape.
        statistics: The statistics that the digest holds beside extremes, counts and hash.
    """
    return digest_chunks(lambda: (flat.data,), spec, statistics=statistics)


def digest_chunks(
    read: Callable[[], Iterable[memoryview]],
    spec: TensorSpec,
    hash: bytes | None = None,
    statistics: Statistics = Statistics.ALL,
) -> Digest:
    """Summarise a tensor whose bytes come piece by piece, with the same result as digest().

    Args:
        read: Returns the pieces. It is called a second time where sums must be scaled. Each piece but the last must be a
            multiple of 1 MiB, so that sums are taken over the same blocks as in one piece.
        spec: The tensor's dtype and shape.
        hash: The bytes' hash, where it is known already; None computes it.
        statistics: The statistics that the digest holds beside extremes, counts and hash.
    """
    hasher = xxhash.xxh3_128()

    def hashed() -> Iterator[memoryview]:
        for chunk in read():
            if hash is None:
                hasher.update(chunk)
            yield chunk

    wanted = _Wanted.of(statistics)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        sums = _sums(hashed(), spec, wanted, 1.0)
        if spec.count == 0:
            return Digest(0, *wanted.figures(0.0, 0.0, 0.0), 0.0, 0.0, 0, 0, hash or hasher.digest())
        peak, scale = max(abs(sums.low), abs(sums.high)), 1.0
        vanished = wanted.norm and sums.squares < _TINY_SQUARES and peak > 0.0
        if math.isfinite(peak) and (vanished or not math.isfinite(sums.total + sums.absolute + sums.squares)):
            sums, scale = _sums(read(), spec, wanted, peak), peak
    parts = spec.count * (2 if spec.dtype.is_complex else 1)
    mean, abs_mean, norm = wanted.figures(
        scale * (sums.total / parts), scale * (sums.absolute / parts), scale * math.sqrt(sums.squares)
    )
    return Digest(
        count=spec.count,
        mean=mean,
        abs_mean=abs_mean,
        norm=norm,
        min=sums.low,
        max=sums.high,
        nan_count=sums.nans,
        inf_count=sums.infs,
        hash=hash or hasher.digest(),
    )


@dataclass(frozen=True)
class _Wanted:
    """The sums to take. `roughly`: the norm of float32 need not be summed in float64."""

    mean: bool
    abs_mean: bool
    norm: bool
    roughly: bool

    @classmethod
    def of(cls, statistics: Statistics) -> _Wanted:
        every = statistics is Statistics.ALL
        sizes = statistics is Statistics.SIZES
        return cls(
            mean=every or statistics is Statistics.MEAN,
            abs_mean=every or statistics is Statistics.ABS_MEAN,
            norm=every or sizes,
            roughly=sizes,
        )

    def figures(self, mean: float, abs_mean: float, norm: float) -> tuple[float | None, float | None, float | None]:
        """Return the statistics that are wanted, and None for the others."""
        return mean if self.mean else None, abs_mean if self.abs_mean else None, norm if self.norm else None


class _Sums:
    """Hold running sums over blocks; `low` and `high` are unscaled. NaN in any element makes all of them NaN."""

    def __init__(self) -> None:
        self.total = 0.0
        self.absolute = 0.0
        self.squares = 0.0
        self.low = math.inf
        self.high = -math.inf
        self.nans = 0
        self.infs = 0


def _sums(chunks: Iterable[memoryview], spec: TensorSpec, wanted: _Wanted, scale: float) -> _Sums:
    sums = _Sums()
    parts = 2 if spec.dtype.is_complex else 1
    single = spec.dtype is DType.F32
    block_items = min(BLOCK_ITEMS, max(spec.count, 1))
    wide, work = (scratch(f"digest.{n}", block_items * parts) for n in range(2))
    for items in (np.frombuffer(chunk, spec.dtype.storage) for chunk in chunks if chunk.nbytes):
        for start in range(0, items.size, block_items):
            narrow = items[start : start + block_items]
            # Of float32 the extremes are sought where they cost half.
            ends = narrow if single else to_float64(narrow, spec.dtype, wide)
            low, high = float(ends.min()), float(ends.max())
            # np.minimum, unlike min(), keeps an earlier block's NaN.
            sums.low, sums.high = float(np.minimum(sums.low, low)), float(np.maximum(sums.high, high))
            if single and wanted.roughly and scale == 1.0:
                squares = single_square_sum(narrow, max(abs(low), abs(high)))
                if squares is not None:
                    sums.squares += squares
                    continue
            block = to_float64(narrow, spec.dtype, wide) if single else ends
            if scale != 1.0:
                block = np.divide(block, scale, out=wide[: block.size])
            if not (math.isfinite(low) and math.isfinite(high)):
                sums.nans += int(np.count_nonzero(np.isnan(block)))
                sums.infs += int(np.count_nonzero(np.isinf(block)))
            _add(sums, wanted, block, low >= 0.0, work)
    return sums


def _add(sums: _Sums, wanted: _Wanted, block: np.ndarray, no_negatives: bool, work: np.ndarray) -> None:
    total = float(block.sum()) if wanted.mean or (wanted.abs_mean and no_negatives) else 0.0
    if wanted.mean:
        sums.total += total
    if wanted.norm:
        sums.squares += square_sum(block)
    if wanted.abs_mean:  # no element is negative after a ReLU or a softmax
        sums.absolute += total if no_negatives else float(np.abs(block, out=work[: block.size]).sum())
