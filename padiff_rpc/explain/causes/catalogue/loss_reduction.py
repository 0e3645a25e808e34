"""A loss that is averaged over another number of elements: targets of -100 counted or not, a sum in place of a mean."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.result import Cause

IGNORED = -100
"""The class index of a position that is left out, in both frameworks."""
_CLOSE = 1e-4


def ignored_targets(evidence: Evidence) -> Sequence[Cause]:
    """Find the numbers of targets, all or counted, whose ratio is that of the two losses."""
    base, raw = evidence.base, evidence.raw
    if evidence.stage != "loss" or base is None or raw is None or base.size != 1 or raw.size != 1:
        return ()
    mine, theirs = float(base.reshape(-1)[0]), float(raw.reshape(-1)[0])
    if not mine or not math.isfinite(theirs / mine):
        return ()
    ratio = theirs / mine
    for words, number, shown in _numbers(evidence):
        for side, value in (("raw", number), ("base", 1.0 / number)):
            if number != 1.0 and math.isclose(ratio, value, rel_tol=_CLOSE):
                told = f"raw = {ratio:.6g} x base; {shown}"
                return (Cause("loss reduction", words.format(side=side), told, 0.95),)
    return ()


def _numbers(evidence: Evidence) -> Iterator[tuple[str, float, str]]:
    """Yield what one side may divide by and the other not: words with the side, the number, and where it comes from."""
    for name, ids in evidence.ids.items():
        counted = int(np.count_nonzero(ids != IGNORED))
        if 0 < counted < ids.size:
            yield (
                "{side} divides the loss by the counted targets alone, the other side by all (paddle 3.3.1's own "
                "cross_entropy does)",
                ids.size / counted,
                f"{counted} of {ids.size} values of {name} are not {IGNORED}",
            )
        if ids.ndim and ids.size > 1:
            yield (
                "{side} sums the loss, the other side takes the mean",
                float(ids.size),
                f"{name} has {ids.size} values",
            )
            yield (
                "{side} sums the loss over the batch, the other side takes the mean",
                float(ids.shape[0]),
                f"{name} has {ids.shape[0]} rows",
            )
