"""A tensor's floor: how far rounding alone moves it in this run, and what follows for a difference."""

from __future__ import annotations

import math
from dataclasses import dataclass

from padiff_rpc.compare.standard import Standard
from padiff_rpc.tensors.tensor import Digest, DType, TensorSpec

HEALTHY, WRONG = 4.0, 16.0
"""Up to HEALTHY times its floor a difference is rounding; beyond WRONG it is none unless float64 shows that it is.

Two right models, torch against paddle in float32, are 2.4 floors apart at most in forward, and 4 in a transformer's backward; a
LayerNorm's epsilon of 1e-6 for 1e-5 is 26 floors.
"""

_LEAST = {DType.F32: 2.0**-22, DType.F16: 2.0**-9, DType.BF16: 2.0**-7}
"""Two moves by the last bit: no floor is lower. In float64 none is measured, since the table is as sharp."""

_GREATEST = {DType.F32: 1e-2, DType.F16: 0.5, DType.BF16: 0.5}
"""Beyond this an activation has not moved by rounding: base does not run twice alike."""

_SMALL = 1e-2
"""By this share of that at least, measured by the largest activation."""


@dataclass(frozen=True)
class Floor:
    """How far base's tensor moves by rounding, as a relative L2 distance."""

    relative: float

    def excuses(self, rel_l2: float, max_scaled: float) -> bool:
        """Tell whether a difference is that of rounding: its norm, and its greatest element in the same measure."""
        return rel_l2 <= WRONG * self.relative and max_scaled <= WRONG * self.relative


def floor_of(base: Digest, base_spec: TensorSpec, raw_spec: TensorSpec, standard: Standard) -> Floor | None:
    """Return the floor that base's digest tells.

    None where it was not measured, does not hold for raw's element type, or tells of a base that does not run twice alike.
    """
    least = _LEAST.get(base_spec.dtype)
    if base.floor is None or least is None or raw_spec.dtype is not base_spec.dtype or not base.norm:
        return None
    if not standard.repeats:
        return None
    return Floor(max(base.floor / base.norm, least))


def least_floor(dtype: DType) -> float | None:
    """Return the lowest floor of tensors of this type, which is that of one rounding; None where none is measured."""
    return _LEAST.get(dtype)


def is_random(base: Digest, spec: TensorSpec, largest: float) -> bool:
    """Tell whether an activation has moved by more than rounding can: base does not run twice alike.

    An activation that is zero but for rounding moves as far as it is large; that is little beside others.

    Args:
        base: is the activation's digest.
        spec: is its spec.
        largest: is the largest root mean square of the activations so far.
    """
    greatest = _GREATEST.get(spec.dtype)
    if greatest is None or base.floor is None or not base.norm or base.floor <= greatest * base.norm:
        return False
    return base.floor > _SMALL * greatest * largest * math.sqrt(base.count)


def root_mean_square(digest: Digest) -> float:
    """Return the root mean square of a tensor's elements; 0 where the digest does not tell it."""
    return digest.norm / math.sqrt(digest.count) if digest.norm and math.isfinite(digest.norm) else 0.0
