"""Values beyond a range: NaN and Inf that first show here, overflow of a half type, values cut off at a bound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import explained, told_share
from padiff_rpc.result import Cause

_F16_LARGEST = 65504.0
_AT_BOUND = 3
"""Elements that have to lie exactly at a bound."""


def out_of_range(evidence: Evidence) -> Sequence[Cause]:
    """Find NaN or Inf on one side alone, and values of one side that are the other's, cut off at a bound."""
    base, raw = evidence.base, evidence.raw
    if base is None or raw is None or base.shape != raw.shape or base.dtype.kind != "f" or raw.dtype.kind != "f":
        return ()
    broken = {"base": ~np.isfinite(base), "raw": ~np.isfinite(raw)}
    counts = {side: int(mask.sum()) for side, mask in broken.items()}
    if counts["base"] != counts["raw"]:
        side = "raw" if counts["raw"] > counts["base"] else "base"
        own, other = (raw, base) if side == "raw" else (base, raw)
        return tuple(_non_finite(evidence, side, own, other, broken[side]))
    return tuple(_cut_off(evidence)) if not counts["base"] else ()


def _non_finite(
    evidence: Evidence, side: str, own: np.ndarray, other: np.ndarray, broken: np.ndarray
) -> Iterator[Cause]:
    nan = int(np.isnan(own).sum())
    shown = f"{nan:,} NaN and {int(broken.sum()) - nan:,} Inf of {own.size:,} elements, and what comes before agrees"
    there = other[broken & np.isfinite(other)]
    peak = float(np.abs(there).max()) if there.size else 0.0
    if peak > _F16_LARGEST and float(np.abs(there).min()) > _F16_LARGEST:
        told = f"{shown}; the other side has {peak:.4g} there, and a half ends at {_F16_LARGEST:g}"
        yield Cause("overflow", f"{side} overflows the range of float16", told, 0.95)
        return
    rows = broken.reshape(-1, broken.shape[-1]) if broken.ndim else broken.reshape(1, 1)
    whole = rows.all(axis=1)
    if nan and whole.any() and not (rows.any(axis=1) & ~whole).any() and rows.shape[1] > 1:
        told = f"{shown}; {int(whole.sum()):,} rows are NaN throughout"
        yield Cause("NaN", f"{side} makes NaN of whole rows, as a softmax over nothing but -inf does", told, 0.75)
        return
    yield Cause("NaN", f"NaN or Inf first shows here, in {side}", shown, 0.65)


def _cut_off(evidence: Evidence) -> Iterator[Cause]:
    pair = evidence.pair
    if pair is None:
        return
    for side, cut, whole in (("raw", pair[1], pair[0]), ("base", pair[0], pair[1])):
        low, high = float(cut.min()), float(cut.max())
        at_bounds = int((cut == low).sum() + (cut == high).sum())
        beyond = int((whole < low).sum() + (whole > high).sum())
        share = explained(whole, cut, np.clip(whole, low, high))
        if share >= 0.99 and at_bounds >= max(_AT_BOUND, 0.9 * beyond):
            bounds = " and ".join(
                f"{bound:.6g}" for bound, end in ((low, whole.min()), (high, whole.max())) if bound != end
            )
            told = f"{at_bounds:,} elements lie at the bound; this {told_share(share)}"
            yield Cause("saturation", f"{side} cuts values off at {bounds}", told, 0.92 * share)
            return
