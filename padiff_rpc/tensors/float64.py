"""Convert element types to float64, block by block. Only this module decodes bfloat16 and float8."""

from __future__ import annotations

import numpy as np

from padiff_rpc.tensors.tensor import DType

BLOCK_ITEMS = 1 << 16
"""The number of elements in a block: half a MiB of float64, so that a few blocks stay in a core's cache."""

_DOT_ITEMS = 1 << 13
"""OpenBLAS splits dot by threads beyond 10,000 elements; the last digit would then depend on the machine."""


def to_float64(block: np.ndarray, dtype: DType, out: np.ndarray | None = None) -> np.ndarray:
    """Convert a 1-D block of `dtype.storage` to float64.

    Complex elements yield two values each, the real part and then the imaginary part. 64-bit integers beyond 2**53 are
    rounded to nearest.

    Args:
        block: The elements. A block of F64 or C128 is not copied, and `out` stays untouched.
        dtype: The elements' type.
        out: Memory for the result (float64, 1-D, long enough), which is written to its front; None allocates it.
    """
    if dtype is DType.F64:
        return block
    if dtype.is_complex:
        block = block.view(np.float64 if dtype is DType.C128 else np.float32)
        if dtype is DType.C128:
            return block
    elif dtype is DType.BF16:
        block = np.left_shift(block, 16, dtype=np.uint32).view(np.float32)
    elif dtype is DType.F8_E4M3:
        return np.take(_E4M3, block, out=None if out is None else out[: block.size], mode="clip")
    elif dtype is DType.F8_E5M2:
        return np.take(_E5M2, block, out=None if out is None else out[: block.size], mode="clip")
    front = np.empty(block.size, np.float64) if out is None else out[: block.size]
    # A signalling NaN of a half or single raises the invalid flag when it is widened; it stays NaN.
    with np.errstate(invalid="ignore"):
        np.copyto(front, block)
    return front


def square_sum(block: np.ndarray) -> float:
    """Sum the squares of a 1-D block, piece by piece in the block's own precision."""
    pieces, rest = _cut(block)
    return _total(np.matmul(pieces[:, None, :], pieces[:, :, None])) + float(np.dot(rest, rest))


def single_sum(block: np.ndarray) -> float:
    """Sum a 1-D float32 block without negative elements, piece by piece in float32, within 2e-5 of the sum.

    A product with ones makes the sum: BLAS is five times as fast at it as NumPy is at a sum.
    """
    pieces, rest = _cut(block)
    return _total(np.matmul(pieces[:, None, :], _ONES[:, None])) + float(np.dot(rest, _ONES[: rest.size]))


def _cut(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the whole pieces of a block, one in a row, so that one call of matmul makes a dot of each; and the rest.

    The result is aligned, since matmul is slow where its operands are not: a stream's chunk may begin anywhere.
    """
    block = np.require(block, requirements="A")
    whole = block.size - block.size % _DOT_ITEMS
    return block[:whole].reshape(-1, _DOT_ITEMS), block[whole:]


def _total(sums: np.ndarray) -> float:
    return float(sums.sum(dtype=np.float64))


_ONES = np.ones(_DOT_ITEMS, np.float32)

_SQUARABLE_PEAKS = (1e-15, 1e15)
"""A float32 block whose largest magnitude lies between these has a sum of squares that overflows nowhere.

The sum loses nothing that counts to underflow.
"""


def single_square_sum(block: np.ndarray, peak: float) -> float | None:
    """Sum the squares of a 1-D float32 block in float32, within 2e-5 of the sum; None where float32 does not hold them.

    `peak` is the block's largest magnitude, max |element|.
    """
    low, high = _SQUARABLE_PEAKS
    if peak == 0.0:
        return 0.0
    return square_sum(block) if low < peak < high else None


def _float8_table(exponent_bits: int, bias: int, finite_only: bool) -> np.ndarray:
    """Decode all 256 bit patterns (OCP OFP8 1.0): E4M3 has no infinity and NaN only at S.1111.111."""
    mantissa_bits = 7 - exponent_bits
    table = np.empty(256, np.float64)
    for bits in range(256):
        sign = -1.0 if bits & 0x80 else 1.0
        exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1)
        mantissa = bits & ((1 << mantissa_bits) - 1)
        top = exponent == (1 << exponent_bits) - 1
        if top and finite_only and mantissa == (1 << mantissa_bits) - 1:
            value = np.nan
        elif top and not finite_only:
            value = sign * np.inf if mantissa == 0 else np.nan
        elif exponent == 0:
            value = sign * mantissa * 2.0 ** (1 - bias - mantissa_bits)
        else:
            value = sign * (1 + mantissa * 2.0**-mantissa_bits) * 2.0 ** (exponent - bias)
        table[bits] = value
    return table


_E4M3 = _float8_table(exponent_bits=4, bias=7, finite_only=True)
_E5M2 = _float8_table(exponent_bits=5, bias=15, finite_only=False)
