"""Judge a pair of tensors: by their specs, then by their digests, and by their bytes only where these leave it open."""

from __future__ import annotations

import math

import numpy as np

from padiff_rpc.compare.criteria import Criteria, nonfinite_by_digests
from padiff_rpc.compare.floor import floor_of
from padiff_rpc.compare.kernel import Known, measure
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.compare.standard import Standard
from padiff_rpc.result import Verdict
from padiff_rpc.tensors.tensor import Digest, DType, Statistics, TensorSpec, TensorStream, told


def compare_specs(base: TensorSpec, raw: TensorSpec, rules: CompareRules) -> Verdict | None:
    """Fail where shapes or element types differ; None where the values can be compared.

    With rules.allow_dtype_difference, two floating types may meet, or two complex ones, or two integer ones that
    fit into a common one; a boolean, or an integer against a float, may not.
    """
    if base.shape != raw.shape:
        return Verdict("fail", "shape", f"shapes differ: {base} in base, {raw} in raw", None)
    if base.dtype is raw.dtype:
        return None
    why = f"element types differ: {base.dtype.value} in base, {raw.dtype.value} in raw"
    if not rules.allow_dtype_difference:
        return Verdict("fail", "dtype", why, None)
    if not _comparable(base.dtype, raw.dtype):
        return Verdict("fail", "dtype", f"{why}, which are of different kinds", None)
    return None


def compare_digests(
    base_spec: TensorSpec, base: Digest, raw_spec: TensorSpec, raw: Digest, standard: Standard
) -> Verdict | None:
    """Settle a comparison by the digests alone; return None where the tensors are needed.

    The digests settle specs that differ, empty tensors, NaN on either side (counted, not placed), different numbers of Inf and
    equal hashes. In the modes "mean" and "abs_mean" they settle all floating tensors without Inf.
    """
    rules = standard.rules
    mismatch = compare_specs(base_spec, raw_spec, rules)
    if mismatch is not None:
        return mismatch
    if base_spec.count == 0:
        return _EMPTY
    if base.nan_count or raw.nan_count or base.inf_count != raw.inf_count:
        return nonfinite_by_digests(base_spec, base, raw)
    criteria = Criteria(standard, base_spec, raw_spec)
    if base.hash and base.hash == raw.hash and base_spec == raw_spec:
        return criteria.identical(base.inf_count, floor_of(base, base_spec, raw_spec, standard))
    if criteria.exact or base.inf_count:
        return None
    if rules.mode == "mean":
        return criteria.means(told(base.mean), told(raw.mean))
    if rules.mode == "abs_mean":
        return criteria.means(told(base.abs_mean), told(raw.abs_mean))
    return None


def compare_streams(
    base: TensorStream, raw: TensorStream, base_digest: Digest, raw_digest: Digest, standard: Standard
) -> Verdict:
    """Read both streams abreast and judge every element. A stream is left unread where the specs settle it.

    Integers and booleans must be equal in every mode. NaN fails, on both sides too. Inf fails unless it stands at the same
    places with the same sign on both sides (as in attention masks); such places are counted and left out of all other
    metrics. -0.0 equals 0.0. Raises DATA_LOSS when a stream is short or long.
    """
    rules = standard.rules
    mismatch = compare_specs(base.spec, raw.spec, rules)
    if mismatch is not None:
        return mismatch
    if base.spec.count == 0:
        return _EMPTY
    criteria = Criteria(standard, base.spec, raw.spec)
    peak = _peak(base_digest)
    with_means = rules.mode in ("mean", "abs_mean")
    magnitude = max(peak, _peak(raw_digest))
    found = measure(base, raw, criteria.limit(peak), magnitude, with_means, _known(base_digest, raw_digest))
    return criteria.judge(found, floor_of(base_digest, base.spec, raw.spec, standard))


def statistics_for(rules: CompareRules) -> Statistics:
    """Return the statistics that digests must hold to be compared under these rules."""
    if rules.mode == "mean":
        return Statistics.MEAN
    if rules.mode == "abs_mean":
        return Statistics.ABS_MEAN
    # Strict verdicts hang on single elements; norms are told beside them.
    return Statistics.SIZES if rules.mode == "strict" else Statistics.ALL


_EMPTY = Verdict.skip("empty: there is nothing to compare")


def _comparable(base: DType, raw: DType) -> bool:
    if base.is_floating or raw.is_floating:
        return base.is_floating and raw.is_floating
    if base.is_complex or raw.is_complex:
        return base.is_complex and raw.is_complex
    # NumPy promotes booleans to integers, and int64 with uint64 to float64: neither is compared exactly.
    return DType.BOOL not in (base, raw) and np.promote_types(base.storage, raw.storage).kind in "iu"


def _known(base: Digest, raw: Digest) -> Known | None:
    """Return the figures that need not be measured anew: all of them, or None where some elements are not finite."""
    if base.nan_count or base.inf_count or raw.nan_count or raw.inf_count or base.norm is None or raw.norm is None:
        return None
    return Known(base.norm, raw.norm, _peak(base))


def _peak(digest: Digest) -> float:
    """Return max |element|, 0 where NaN or Inf hides it."""
    return digest.peak if math.isfinite(digest.peak) else 0.0
