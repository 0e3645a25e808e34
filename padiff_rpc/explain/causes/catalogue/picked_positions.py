"""Positions picked out of a tensor, one for each entry of the batch: the wrong ones, or their mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import square, told_share
from padiff_rpc.result import Cause

_SAME = 1e-8
"""The share of its square that what was picked may be off where it came from."""


def picked_positions(evidence: Evidence) -> Sequence[Cause]:
    """Find, where one axis of a source is gone, which index of it each entry is on either side."""
    pair = evidence.pair
    if pair is None or evidence.stage != "forward":
        return ()
    base, raw = pair
    for name, source in evidence.sources.items():
        if source.ndim != 3 or source.shape[::2] != base.shape or source.shape[1] < 2 or not np.isfinite(source).all():
            continue
        mine, theirs = _places(source, base), _places(source, raw)
        if mine is None:
            continue
        if theirs is not None:
            by = theirs - mine
            shift = (
                f"the position one {'further' if by[0] > 0 else 'less'}"
                if np.abs(by).max() == 1
                else "another position"
            )
            words = (
                f"raw takes {shift}, a shift of the index"
                if (by == by[0]).all()
                else "raw takes other positions (index)"
            )
            shown = f"of {name}, base takes {_told(mine)}, raw {_told(theirs)}"
            return (Cause("picked positions", words, shown, 0.97),)
        mean = source.mean(axis=1)
        share = 1.0 - square(raw - mean) / square(raw - base)
        if share > 0.99:
            shown = f"of {name}, base takes {_told(mine)}; raw is the mean over axis 1; this {told_share(share)}"
            return (Cause("picked positions", "raw takes the mean over the positions, base one of them", shown, 0.97),)
    return ()


def _places(source: np.ndarray, picked: np.ndarray) -> np.ndarray | None:
    """Return the index of each entry; None where it is at none."""
    apart = ((source - picked[:, None]) ** 2).sum(axis=2)
    places = apart.argmin(axis=1)
    rest = apart[np.arange(len(places)), places]
    return places if (rest <= _SAME * (picked**2).sum(axis=1)).all() else None


def _told(places: np.ndarray) -> str:
    first = ", ".join(map(str, places[:6].tolist()))
    return f"positions [{first}{', ...' if len(places) > 6 else ''}]"
