"""Move every element of a floating tensor by its last bit, so that doing it again puts back exactly what was there."""

from __future__ import annotations

import functools

import numpy as np

from padiff_rpc.tensors.tensor import DType

_BITS = 1 << 16
_BLOCK_ITEMS = 1 << 16

_LAYOUTS: dict[DType, tuple[type[np.unsignedinteger], int, int]] = {
    DType.F64: (np.uint64, 64, 52),
    DType.F32: (np.uint32, 32, 23),
    DType.F16: (np.uint16, 16, 10),
    DType.BF16: (np.uint16, 16, 7),
}
"""By dtype: the unsigned integers of its size, their bits, and the bits of the mantissa."""


def can_perturb(dtype: DType) -> bool:
    """Tell whether perturb() changes tensors of this type."""
    return dtype in _LAYOUTS


def perturb(flat: np.ndarray, dtype: DType, seed: int) -> None:
    """Move every normal number to a neighbour, up or down as the seed has it; zeros, subnormals, NaN and Inf stay.

    Two neighbours are exchanged: a second call with the same seed restores every bit. The relative change of an element is
    between u / 2 and u, where u = 2^-23 for F32, 2^-10 for F16, 2^-7 for BF16 and 2^-52 for F64.

    Args:
        flat: The tensor's bytes (flat uint8, writable), which are changed in place.
        dtype: The element type; nothing happens to one that can_perturb() denies.
        seed: Chooses the directions.
    """
    if not can_perturb(dtype):
        return
    kind, bits, mantissa = _LAYOUTS[dtype]
    items = flat.view(kind)
    choice = _random_bits(bits)
    magnitude = kind((1 << (bits - 1)) - 1)
    smallest, infinite = kind((1 << mantissa) >> 1), kind((((1 << (bits - 1 - mantissa)) - 1) << mantissa) >> 1)
    one = kind(1)
    for start in range(0, items.size, _BLOCK_ITEMS):
        block = items[start : start + _BLOCK_ITEMS]
        shift = (seed * 7919 + start // _BLOCK_ITEMS * 104729) % _BITS
        up = choice[shift : shift + block.size]
        # The pairs are (0, 1), (2, 3), ... or (1, 2), (3, 4), ...: each element has one neighbour in either.
        paired = block + up
        pair = (paired & magnitude) >> one
        moved = (paired ^ one) - up
        normal = (pair > smallest) & (pair < infinite)  # the same for both elements of a pair
        np.copyto(block, moved, where=normal)


@functools.cache
def _random_bits(bits: int) -> np.ndarray:
    drawn = np.random.default_rng(14).integers(0, 2, _BITS, np.uint8).astype(f"u{bits // 8}")
    return np.concatenate([drawn, drawn])
