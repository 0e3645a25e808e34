"""Tell by their digests whether two tensors carry the same numbers, in whatever order."""

from __future__ import annotations

from padiff_rpc.compare.criteria import Criteria
from padiff_rpc.compare.standard import Standard
from padiff_rpc.tensors.tensor import Digest, TensorSpec


def carry_alike(base_spec: TensorSpec, base: Digest, raw_spec: TensorSpec, raw: Digest, standard: Standard) -> bool:
    """Tell whether number, sizes and extremes of two tensors' elements agree as closely as the elements would have to.

    None of these figures depends on the order of the elements. Tensors of one single number are not alike, since all their
    figures are that number; nor is anything that holds NaN or Inf.
    """
    if base_spec.count != raw_spec.count or base.nan_count or base.inf_count or raw.nan_count or raw.inf_count:
        return False
    if base.min == base.max or None in (base.norm, base.mean, base.abs_mean, raw.norm, raw.mean, raw.abs_mean):
        return False
    if base_spec.dtype.is_floating != raw_spec.dtype.is_floating:
        return False
    return Criteria(standard, base_spec, raw_spec).figures_agree(base, raw)
