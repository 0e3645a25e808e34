"""The optimiser's step: decay, learning rate, epsilon and its place, bias correction, fitted on the values of the first step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import ENOUGH, sampled, square, told_factor, told_share
from padiff_rpc.result import Cause

_LEAST = 16
_ELEMENTS = 1 << 16
"""So many elements show the formula."""
_EPSILONS = (1e-8, 1e-6, 1e-5, 1e-7, 1e-10, 1e-3)
_DECAYS = (0.01, 0.1, 0.05, 1e-3, 1e-4, 5e-4)
_BETAS = [(one, two) for one in (0.9, 0.8, 0.95, 0.5) for two in (0.999, 0.95, 0.98, 0.9999)]
"""The usual ones of Adam."""
_TOLD = 4


@dataclass(frozen=True)
class _Fit:
    """A first step as rate x direction - decay x weights."""

    direction: str
    rate: float
    decay: float
    rest: float


def optimizer_options(evidence: Evidence) -> Sequence[Cause]:
    """Name the options of the two optimisers that differ."""
    base, raw = evidence.optimizers
    if evidence.stage != "weights" or base is None or raw is None:
        return ()
    names = sorted({*base.options, *raw.options})
    told = [
        f"{name}={_told(base.options.get(name))} against {_told(raw.options.get(name))}"
        for name in names
        if name in base.options and name in raw.options and not _same(base.options[name], raw.options[name])
    ]
    if not told:
        return ()
    return (Cause("optimiser option", "options of the two optimisers differ", "; ".join(told[:_TOLD]), 0.8),)


def update(evidence: Evidence) -> Sequence[Cause]:
    """Fit what the step changed on either side, by the gradient and the weights before it, and tell what the fits differ in."""
    moves = evidence.moves
    if evidence.stage != "weights" or moves is None or evidence.before is None or moves[0].size < _LEAST:
        return ()
    base, raw, before = sampled(_ELEMENTS, *moves, evidence.before)
    if not (base.any() or raw.any()):
        return ()
    for side, still, other in (("raw", raw, base), ("base", base, raw)):
        if not still.any() and other.any():
            shown = f"no element changed in {side}, all or some did on the other side"
            return (Cause("no update", f"{side}'s optimiser does not step this parameter", shown, 0.96),)
    found = list(_decayed(evidence, base, raw, before))
    if not found and evidence.gradient is not None and evidence.gradient.size == evidence.before.size:
        found = list(_fitted(base, raw, before, *sampled(_ELEMENTS, evidence.gradient)))
    return found


def _decayed(evidence: Evidence, base: np.ndarray, raw: np.ndarray, before: np.ndarray) -> Iterator[Cause]:
    """Find that the two steps differ by the weights times a constant."""
    size, apart = square(before), raw - base
    amount = float(np.vdot(before, apart)) / size if size else 0.0
    share = 1.0 - square(apart - amount * before) / square(apart) if square(apart) else 0.0
    if share < ENOUGH or not amount:
        return
    less, more = ("raw", "base") if amount > 0 else ("base", "raw")
    shown = f"raw - base = {amount:+.4g} x the weights before the step{_product(evidence, abs(amount))}; this {told_share(share)}"
    words = f"{less} decays this parameter less than {more}, or not at all (weight decay)"
    yield Cause("weight decay", words, shown, 0.97 * share)


def _product(evidence: Evidence, amount: float) -> str:
    for optimizer in evidence.optimizers:
        if optimizer is None:
            continue
        rate, decay = optimizer.options.get("lr", 0.0), optimizer.options.get("weight_decay", 0.0)
        if rate and decay and math.isclose(rate * decay, amount, rel_tol=0.02):
            return f", which is lr x weight_decay = {rate * decay:.4g}"
    return ""


def _fitted(base: np.ndarray, raw: np.ndarray, before: np.ndarray, gradient: np.ndarray) -> Iterator[Cause]:
    apart = square(raw - base)
    if not apart:
        return
    candidates = list(_directions(gradient, before))
    mine, theirs = (_best(moved, candidates, before, apart) for moved in (base, raw))
    share = 1.0 - (mine.rest + theirs.rest) / apart
    if share < ENOUGH:
        return
    ending = f"; this {told_share(share)}"
    if mine.direction != theirs.direction:
        words = f"base steps by {mine.direction}, raw by {theirs.direction}"
        yield Cause("update formula", words, f"fitted to the gradient and both steps{ending}", 0.95 * share)
        return
    if mine.rate and not math.isclose(mine.rate, theirs.rate, rel_tol=1e-3):
        factor = theirs.rate / mine.rate
        rates = f"({mine.rate:.4g} against {theirs.rate:.4g}, by {mine.direction})"
        shown = f"raw's step = {told_factor(factor)} x base's {rates}{ending}"
        words = "the learning rates differ"
        for one, two in _BETAS if "Adam" in mine.direction else ():
            uncorrected = (1 - one) / math.sqrt(1 - two)  # by how much Adam's first step is then too long
            for value, lacking in ((uncorrected, "raw"), (1 / uncorrected, "base")):
                if "bias" not in words and math.isclose(factor, value, rel_tol=1e-3):
                    words = f"{lacking} does not correct the bias of Adam's moments (no bias correction)"
                    rates = f"{rates}; betas of {one:g} and {two:g} make such a factor"
                    shown = f"raw's step = {told_factor(factor)} x base's {rates}{ending}"
        yield Cause("bias correction" if "bias" in words else "learning rate", words, shown, 0.95 * share)
        return
    less, more = ("raw", "base") if abs(theirs.decay) < abs(mine.decay) else ("base", "raw")
    shown = f"{mine.decay:.4g} x the weights in base, {theirs.decay:.4g} in raw{ending}"
    yield Cause("weight decay", f"{less} decays this parameter less than {more}", shown, 0.93 * share)


def _best(moved: np.ndarray, candidates: Sequence[tuple[str, np.ndarray]], before: np.ndarray, apart: float) -> _Fit:
    fits: list[_Fit] = []
    weights = before.reshape(-1)
    for name, direction in candidates:
        columns = np.stack([-direction.reshape(-1), -weights], axis=1)
        fitted = np.linalg.lstsq(columns, moved.reshape(-1), rcond=None)[0]
        rest = square(moved.reshape(-1) - columns @ fitted)
        fits.append(_Fit(name, float(fitted[0]), float(fitted[1]), rest))
    limit = 2.0 * min(fit.rest for fit in fits) + 1e-6 * apart
    return next(fit for fit in fits if fit.rest <= limit)


def _directions(gradient: np.ndarray, before: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the directions of a first step: of SGD, Adam and RMSprop, with each epsilon at each place, and L2 decay."""
    size = np.abs(gradient)
    yield "the gradient", gradient
    for epsilon in _EPSILONS:
        yield f"Adam's direction with an epsilon of {epsilon:g}", gradient / (size + epsilon)
    for epsilon in _EPSILONS:
        small = epsilon / math.sqrt(0.001)
        yield f"Adam's direction, not corrected, with an epsilon of {epsilon:g}", gradient / (size + small)
    for epsilon in _EPSILONS:
        yield (
            f"Adam's direction with an epsilon of {epsilon:g} inside the root",
            gradient / np.sqrt(gradient**2 + epsilon),
        )
    for alpha in (0.99, 0.95, 0.9):
        root = math.sqrt(1 - alpha)
        for epsilon in (1e-8, 1e-6):
            outside = gradient / (root * size + epsilon)
            inside = gradient / np.sqrt((1 - alpha) * gradient**2 + epsilon)
            yield f"RMSprop's direction (alpha {alpha:g}) with an epsilon of {epsilon:g} outside the root", outside
            yield f"RMSprop's direction (alpha {alpha:g}) with an epsilon of {epsilon:g} inside the root", inside
    for decay in _DECAYS:
        decayed = gradient + decay * before
        yield f"Adam's direction of gradient + {decay:g} x weights (L2)", decayed / (np.abs(decayed) + 1e-8)


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9)


def _told(value: float | None) -> str:
    return "(none)" if value is None else f"{value:g}"
