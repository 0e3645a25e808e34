"""Gradients that one side lacks, or cuts to zero."""

from __future__ import annotations

from collections.abc import Sequence

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.result import Cause


def tied_parameter(evidence: Evidence) -> Sequence[Cause]:
    """Find that the parameter is tied on one side alone, so that its gradient adds up what other parameters get there."""
    base, raw = evidence.tied
    if evidence.stage not in ("grads", "weights") or not base or not raw or len(base) == len(raw):
        return ()
    side, names, other = ("base", base, "raw") if len(base) > len(raw) else ("raw", raw, "base")
    words = f"the parameter is tied (shared between layers) in {side}, and in {other} it is not, or to fewer"
    return (Cause("tied parameter", words, f"in {side} {' and '.join(names)} are one tensor", 0.96),)


def lost_gradient(evidence: Evidence) -> Sequence[Cause]:
    """Find a gradient that does not come, or comes as zeros, on one side."""
    if evidence.stage not in ("backward", "grads"):
        return ()
    if evidence.failure == "missing":
        words = "one side sends no gradient there: it detaches, freezes or does not use what it comes from"
        return (Cause("missing gradient", words, evidence.why or "the comparison lacks one side's gradient", 0.95),)
    pair = evidence.pair
    if pair is None:
        return ()
    base, raw = pair
    for side, zero, other in (("raw", raw, base), ("base", base, raw)):
        if not zero.any() and other.any():
            shown = f"all {zero.size:,} elements are 0 in {side}, and up to {abs(other).max():.3g} on the other side"
            return (Cause("cut gradient", f"{side}'s gradient is zero: it is cut off, or masked", shown, 0.95),)
    return ()
