"""Gradients that one side lacks, or cuts to zero."""

from __future__ import annotations

from collections.abc import Sequence

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.result import Cause


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
