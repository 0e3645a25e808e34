"""What an optimiser's step made of all parameters: gradients clipped on one side, by one norm, each by its own or by value."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence, SeenStep
from padiff_rpc.explain.causes.fit import square, told_factor
from padiff_rpc.per_side import SIDES
from padiff_rpc.result import Cause

_LEAST = 3
"""Parameters that show whether a factor is one of all."""
_SAME = 2e-3
_FIT = 1e-5
"""The share of its square that a step may be off the gradient times a rate."""
_MOMENTA = (0.9, 0.95, 0.99, 0.8, 0.5)


def clipping(evidence: Evidence) -> Sequence[Cause]:
    """Fit each parameter's first step by its gradient, and compare the rates of all parameters."""
    moved = [one for one in evidence.steps if one.gradient.any() and all(move.any() for move in one.moves)]
    if evidence.stage != "weights" or evidence.step or len(moved) < _LEAST:
        return ()
    rates = [np.array([_rate(one, one.moves.of(side)) for one in moved]) for side in SIDES]
    by_value = list(_by_value(moved, rates))
    if by_value or np.isnan(rates[0]).any() or np.isnan(rates[1]).any():
        return by_value
    alike = [float(np.ptp(rate)) <= _SAME * float(np.abs(rate).max()) for rate in rates]
    if all(alike):
        return tuple(_of_all(evidence, moved, float(np.median(rates[0])), float(np.median(rates[1]))))
    if any(alike):
        return tuple(_of_each(moved, rates, "raw" if alike[0] else "base"))
    return ()


def _rate(step: SeenStep, move: np.ndarray) -> float:
    """Return the rate of a step along the gradient; NaN where it goes elsewhere."""
    rate = -float(np.vdot(step.gradient, move)) / square(step.gradient)
    return rate if square(move + rate * step.gradient) <= _FIT * square(move) + _rounding(step) else math.nan


def _rounding(step: SeenStep) -> float:
    """Return the square of what rounding the stepped parameter to float32 may leave of its step."""
    return (2.0**-23) ** 2 * square(step.before)


def _of_all(evidence: Evidence, moved: Sequence[SeenStep], base: float, raw: float) -> Iterator[Cause]:
    if not base or math.isclose(base, raw, rel_tol=1e-3):
        return
    factor = raw / base
    every = f"raw's step = {told_factor(factor)} x base's in all {len(moved)} parameters that were looked at"
    told = {one.options.get("momentum", 0.0) for one in evidence.optimizers if one is not None} - {0.0}
    for momentum in (*told, *_MOMENTA):
        for value, side, other in ((1 + momentum, "raw", "base"), (1 / (1 + momentum), "base", "raw")):
            if math.isclose(factor, value, rel_tol=2e-4):
                words = f"{side} takes Nesterov's momentum, {other} does not"
                of = f"; with a momentum of {momentum:g}, Nesterov's first step is {1 + momentum:g} x as long"
                yield Cause("nesterov", words, every + of, 0.97)
                return
    norm = math.sqrt(sum(square(one.gradient) for one in moved))
    for side, clipped, other, whole in (("raw", raw, "base", base), ("base", base, "raw", raw)):
        limit = clipped * norm / whole
        if clipped < whole and _is_round(limit) and _is_round(whole):
            words = f"{side} clips the gradients by their global norm, {other} does not"
            shown = (
                f"{every}; {side}'s steps together are as long as for gradients of norm {limit:.4g} at {other}'s rate"
            )
            yield Cause("clipping", words, f"{shown} of {whole:.4g}", 0.975)
            return


def _of_each(moved: Sequence[SeenStep], rates: Sequence[np.ndarray], side: str) -> Iterator[Cause]:
    """Find that one side's rates are those of clipping each parameter by its own norm."""
    own = rates[1 if side == "raw" else 0]
    other = "base" if side == "raw" else "raw"
    norms = np.array([math.sqrt(square(one.gradient)) for one in moved])
    lengths = own * norms
    clipped = lengths >= (1 - _SAME) * lengths.max()
    whole = own[~clipped]
    even = not len(whole) or float(np.ptp(whole)) <= _SAME * float(whole.max())
    if clipped.sum() < _LEAST or not even or (len(whole) and own[clipped].max() > (1 + _SAME) * whole.min()):
        return
    words = f"{side} clips each parameter's gradient by its own norm, {other} has one factor for all"
    shown = (
        f"{int(clipped.sum())} of {len(moved)} parameters move by one length in {side}, {lengths.max():.4g}; in {other} all move "
        "by one factor of their gradients"
    )
    yield Cause("clipping", words, shown, 0.975)


def _by_value(moved: Sequence[SeenStep], rates: Sequence[np.ndarray]) -> Iterator[Cause]:
    """Find that one side steps by gradients whose elements are cut off at a bound, the same one in all parameters."""
    for at, side in enumerate(SIDES):
        cut = [one for one, rate in zip(moved, rates[at], strict=True) if math.isnan(rate)]
        if not cut or np.isnan(rates[1 - at]).all():
            continue
        bound = max(float(np.abs(one.moves.of(side)).max()) for one in cut)
        fitted = [_cut_off(one, one.moves.of(side), bound) for one in cut]
        if all(fitted):
            other = "base" if side == "raw" else "raw"
            words = f"{side} clips each element of the gradients (by value), {other} does not"
            shown = f"in {len(cut)} parameters {side}'s steps end at {bound:.4g}, which {sum(fitted)} elements have;"
            yield Cause("clipping", words, f"{shown} the others follow the gradient", 0.975)
            return


def _cut_off(one: SeenStep, move: np.ndarray, bound: float) -> int:
    """Return how many elements lie at the bound; 0 where the step is not the gradient, cut off there."""
    below = np.abs(move) < bound * (1 - 1e-4)
    at_bound = int((~below).sum())
    kept = one.gradient[below]
    if not kept.any() or not at_bound:
        return 0
    rate = -float(np.vdot(kept, move[below])) / square(kept)
    made = -np.clip(rate * one.gradient, -bound, bound)
    return at_bound if square(move - made) <= _FIT * square(move) + _rounding(one) else 0


def _is_round(number: float) -> bool:
    """Tell whether a number has one or two digits, as what people set does."""
    return math.isclose(number, float(f"{number:.2g}"), rel_tol=5e-4)
