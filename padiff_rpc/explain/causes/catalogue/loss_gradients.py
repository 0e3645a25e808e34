"""A loss that differs, seen in what it sends back to the outputs: a factor, other positions, other labels, smoothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import explained, square, told_factor, told_share
from padiff_rpc.result import Cause

_ROWS = 1 << 12
"""So many positions are looked at."""
_EXACT = 0.99999
"""The correlation from which on two losses' gradients are one but for a factor."""
_CLOSE = 1e-2
_LINE = 1e-4
"""The share of its square that the gradient of a cross entropy may be off a line over the softmax."""
_MOST = 0.8
"""The share of the positions that has to show a shift."""


def loss_gradients(evidence: Evidence) -> Sequence[Cause]:
    """Compare the two losses' gradients with respect to the outputs, which agree."""
    given = evidence.of_output
    if evidence.stage != "loss" or given is None:
        return ()
    base, raw = given
    if base.shape != raw.shape or not base.any() or not np.isfinite(base).all() or not np.isfinite(raw).all():
        return ()
    if not raw.any():
        return (Cause("cut gradient", "raw's loss sends nothing back", "its gradient of the outputs is zero", 0.95),)
    if np.allclose(base, raw, rtol=1e-4, atol=1e-6 * float(np.abs(base).max())):
        words = "the losses differ by what the outputs have no part in: a constant, or a term that is detached"
        return (Cause("constant of a loss", words, "their gradients with respect to the outputs agree", 0.8),)
    factor = list(_factor(evidence, base, raw))
    return factor or [*_by_position(evidence, base, raw)]


def _factor(evidence: Evidence, base: np.ndarray, raw: np.ndarray) -> Iterator[Cause]:
    factor = float(np.vdot(base, raw)) / square(base)
    r = float(np.vdot(base, raw)) / math.sqrt(square(base) * square(raw))
    if r < _EXACT:
        return
    words, known = _known(evidence, base, factor)
    shown = f"raw's gradient of the outputs = {told_factor(factor)} x base's{known}, r = {r:.6f}"
    yield Cause("loss factor", words, shown, 0.96 if known else 0.9)


def _known(evidence: Evidence, base: np.ndarray, factor: float) -> tuple[str, str]:
    """Say what number a factor is; the second text is empty where it is none that is known."""
    rows = _flat(base)
    numbers = {
        "the number of positions that have a gradient": int(rows.any(axis=1).sum()),
        "the number of positions": len(rows),
        "the batch size": len(base) if base.ndim else 1,
        "the number of elements": base.size,
        "the size of the last axis": rows.shape[1],
    }
    counted = numbers["the number of positions that have a gradient"]
    for words, number in numbers.items():
        for value, side, other in ((number, "raw", "base"), (1 / max(number, 1), "base", "raw")):
            if number > 1 and math.isclose(factor, value, rel_tol=1e-3):
                shown = f", which is {'' if value >= 1 else 'one over '}{words}, {number}"
                return f"{side} sums the loss where {other} takes the mean (reduction), or divides less often", shown
    for side, value in (("raw", counted / len(rows)), ("base", len(rows) / counted)):
        if counted < len(rows) and math.isclose(factor, value, rel_tol=1e-3):
            shown = f", which is {counted} / {len(rows)}: positions with a gradient and all"
            return f"{side}'s denominator counts the ignored positions", shown if value < 1 else f"{shown}, turned"
    return "a constant factor lies between the two losses", ""


# -- by position ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _CrossEntropy:
    """A gradient as that of a cross entropy: at each position a line over the softmax, and one element below it.

    Attributes:
        labels: are the elements below the line, -1 where the gradient is zero.
        weights: is how far they are below it.
        slope: is the median of the lines' slopes.
        smoothing: is the share that all classes get.
    """

    labels: np.ndarray
    weights: np.ndarray
    slope: float
    smoothing: float


def _by_position(evidence: Evidence, base: np.ndarray, raw: np.ndarray) -> Iterator[Cause]:
    shape = base.shape[:-1]
    rows_base, rows_raw = _flat(base), _flat(raw)
    if len(rows_base) > _ROWS:
        return
    fits = None
    if evidence.output is not None and evidence.output.shape == base.shape and base.shape[-1] > 3:
        softmax = _softmax(_flat(evidence.output))
        one, other = _fitted(rows_base, softmax), _fitted(rows_raw, softmax)
        fits = (one, other) if one is not None and other is not None else None
    if fits is not None:
        found = [*_shifted(shape, *fits), *_smoothed(*fits)]
        if found:
            yield from found
            return
    has_base = np.asarray(rows_base.any(axis=1))
    has_raw = np.asarray(rows_raw.any(axis=1))
    if (has_base != has_raw).any():
        more, fewer = ("raw", "base") if has_raw.sum() > has_base.sum() else ("base", "raw")
        apart = int((has_base != has_raw).sum())
        words = f"{fewer} ignores positions that {more} counts (ignore_index, a mask)"
        shown = f"{apart} of {len(has_base)} positions have a gradient on one side alone"
        yield Cause("ignored positions", words, shown, 0.93)
        return
    if fits is not None:
        yield from _weighted(*fits)
    yield from _factor_of_positions(rows_base[has_base], rows_raw[has_base])


def _shifted(shape: tuple[int, ...], base: _CrossEntropy, raw: _CrossEntropy) -> Iterator[Cause]:
    """Find that raw has each label a place or two further along the axis before the last."""
    if not shape or shape[-1] < 4:
        return
    mine, theirs = base.labels.reshape(-1, shape[-1]), raw.labels.reshape(-1, shape[-1])
    same = _agreeing(mine, theirs)
    for by in (1, -1, 2, -2):
        one = mine[:, :-by] if by > 0 else mine[:, -by:]
        other = theirs[:, by:] if by > 0 else theirs[:, :by]
        share = _agreeing(one, other)
        if share >= _MOST and share > same + 0.3:
            words = f"the labels are shifted by {by:+d} position{'s' if abs(by) > 1 else ''} in raw"
            shown = (
                f"{100 * share:.0f} % of raw's labels are base's at position i {-by:+d}, {100 * same:.0f} % at its own"
            )
            yield Cause("shifted labels", words, shown, 0.97)
            return


def _agreeing(one: np.ndarray, other: np.ndarray) -> float:
    both = (one >= 0) & (other >= 0)
    return float((one[both] == other[both]).mean()) if both.sum() >= 4 else 0.0


def _smoothed(base: _CrossEntropy, raw: _CrossEntropy) -> Iterator[Cause]:
    if abs(base.smoothing - raw.smoothing) < 1e-3 or min(base.smoothing, raw.smoothing) < -1e-3:
        return
    told = [f"{one.smoothing:.3f}" if one.smoothing > 1e-3 else "0" for one in (base, raw)]
    words = f"label smoothing of {told[0]} in base and of {told[1]} in raw"
    shown = "at classes other than the label, the gradient is softmax - smoothing / classes, times a constant, on either side"
    yield Cause("label smoothing", words, shown, 0.97)


def _weighted(base: _CrossEntropy, raw: _CrossEntropy) -> Iterator[Cause]:
    """Find that the labels count by another factor than the rest of the loss does."""
    at: np.ndarray = base.labels >= 0
    ratio = raw.weights[at] / base.weights[at]
    factor = float(np.median(ratio))
    if not np.isfinite(factor) or np.abs(ratio - factor).max() > _CLOSE * abs(factor) or abs(factor - 1) < 1e-3:
        return
    counted, every = int(at.sum()), at.size
    mine, theirs = (float(np.median(one.weights[at])) for one in (base, raw))
    words = "raw's cross entropy has another factor than base's, beside what else the loss adds up"
    if any(math.isclose(one, counted, rel_tol=_CLOSE) for one in (1 / mine, 1 / theirs)):
        words = "the cross entropy has another denominator: the positions that count, or ignored ones too"
    shown = (
        f"each label weighs 1 / {1 / mine:.4g} in base and 1 / {1 / theirs:.4g} in raw; {counted} of {every} positions have a "
        "gradient"
    )
    yield Cause("loss denominator", words, shown, 0.95)


def _factor_of_positions(base: np.ndarray, raw: np.ndarray) -> Iterator[Cause]:
    factors = (base * raw).sum(axis=1, keepdims=True) / np.maximum((base * base).sum(axis=1, keepdims=True), 1e-300)
    share = explained(base, raw, base * factors)
    rest = square(raw - base * factors) / square(raw)
    if share >= 0.99 and rest < 1e-6 and base.shape[1] > 1:
        shown = f"raw = base x one factor for each position, {factors.min():.4g} to {factors.max():.4g}; this {told_share(share)}"
        yield Cause("weights of positions", "each position has a factor of its own (a weight, a mask)", shown, 0.9)


def _fitted(rows: np.ndarray, softmax: np.ndarray) -> _CrossEntropy | None:
    """Fit each position's gradient by a line over the softmax, its lowest element aside; None where it is none."""
    at = rows.any(axis=1)
    if at.sum() < 2:
        return None
    labels = np.full(len(rows), -1)
    labels[at] = rows[at].argmin(axis=1)
    picked = np.zeros(rows.shape, bool)
    picked[np.flatnonzero(at), labels[at]] = True
    count = rows.shape[1] - 1
    y, x = rows[at][~picked[at]].reshape(-1, count), softmax[at][~picked[at]].reshape(-1, count)
    mean_x, mean_y = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    slopes = ((x - mean_x) * (y - mean_y)).sum(axis=1) / np.maximum(((x - mean_x) ** 2).sum(axis=1), 1e-300)
    ends = mean_y[:, 0] - slopes * mean_x[:, 0]
    if square(y - slopes[:, None] * x - ends[:, None]) > _LINE * square(y):
        return None
    weights = np.zeros(len(rows))
    weights[at] = slopes * softmax[picked] + ends - rows[picked]
    slope = float(np.median(slopes))
    smoothing = float(-np.median(ends / slopes)) * rows.shape[1]
    return _CrossEntropy(labels, weights, slope, smoothing) if slope > 0 and (weights[at] > 0).all() else None


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)


def _softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
