"""A weighted sum of what the layer took and made inside: a scale that is missing, a branch left out, one taken twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import ENOUGH, sampled, square, told_factor, told_share
from padiff_rpc.result import Cause

_IS_SUM = {"F16": 5e-6, "BF16": 5e-5}
"""The share of its square that a sum may leave unexplained on both sides, by the type; else 1e-6, and float32 leaves 1e-13."""
_SAME = {"F16": 3e-3, "BF16": 2e-2}
"""By how much two weights may differ and be one; else 1e-5."""
_ELEMENTS = 1 << 17
"""So many elements show what sum it is."""
_LEAST = 16
"""Elements for each weight."""


def weighted_sum(evidence: Evidence) -> Sequence[Cause]:
    """Write both tensors as weighted sums of the layer's sources, and name the weights that differ."""
    pair = evidence.pair
    if pair is None or evidence.stage not in ("forward", "backward"):
        return ()
    base, raw = pair
    sources = _distinct(evidence, base)
    if not sources:
        return ()
    told = (base != 0.0) | (raw != 0.0)  # what is masked on both sides is no sum
    if np.count_nonzero(told) < _LEAST * len(sources):
        return ()
    flat_base, flat_raw, *flat_sources = sampled(
        _ELEMENTS, base[told], raw[told], *(source[told] for source in sources.values())
    )
    columns = np.stack(flat_sources, axis=1)
    weights: list[np.ndarray] = []
    rests: list[float] = []
    for flat in (flat_base, flat_raw):
        fitted = np.linalg.lstsq(columns, flat, rcond=1e-10)[0]
        rests.append(square(flat - columns @ fitted))
        weights.append(fitted)
        if rests[-1] > _IS_SUM.get(evidence.dtypes.base, 1e-6) * square(flat):
            return ()
    share = 1.0 - sum(rests) / square(flat_raw - flat_base)
    if share < ENOUGH:
        return ()
    same = _SAME.get(evidence.dtypes.base, 1e-5)
    weights_told = [
        f"{name}: {_weight(mine, same)} in base, {_weight(theirs, same)} in raw"
        for name, mine, theirs in zip(sources, *weights, strict=True)
        if abs(mine - theirs) > same * max(1.0, abs(mine))
    ]
    if not weights_told:
        return ()
    words = "the layer adds up the same tensors, with other weights"
    if len(sources) == 1:
        words = "the layer scales a tensor otherwise"
    evidence_told = f"{'; '.join(weights_told)}; this {told_share(share)}"
    # In the backward one source is most often base's own gradient, of which a constant factor tells more.
    score = 0.87 if evidence.stage == "backward" and len(sources) == 1 else 0.96
    return (Cause("weights of a sum", words, evidence_told, score * share),)


def _weight(weight: float, same: float) -> str:
    return told_factor(weight) if abs(weight) > same else "0"


def _distinct(evidence: Evidence, base: np.ndarray) -> dict[str, np.ndarray]:
    """Return the sources of base's shape, or of its first axes, that differ from each other.

    A dropout in evaluation hands on what it took.
    """
    found: dict[str, np.ndarray] = {}
    for name, source in reversed(list(evidence.sources.items())):
        if 2 <= source.ndim < base.ndim and source.shape == base.shape[: source.ndim]:
            source = np.broadcast_to(source.reshape(*source.shape, *[1] * (base.ndim - source.ndim)), base.shape)
        usable = source.shape == base.shape and source.dtype.kind == "f" and bool(np.isfinite(source).all())
        if usable and source.any() and not any(np.array_equal(source, other) for other in found.values()):
            found[name] = source
    return dict(reversed(found.items()))
