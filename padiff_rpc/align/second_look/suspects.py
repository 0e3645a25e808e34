"""Tell rounding from faults among the differences that are larger than this run's floor, by the same step in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.compare.floor import HEALTHY, WRONG
from padiff_rpc.result import Metrics, Pair, Stage

_SHARE = 0.25
"""The share of a difference that float64 must show, too, for it to be none of rounding.

Of a fault float64 shows all but the rounding, which is a fourth at most beyond HEALTHY floors; of rounding it shows 1e-8, or
1e-2 where a side computes in float32 inside.
"""
_CLEAR_SHARE, _CLEAR = 0.5, 2.0**-22
"""Beside a fault, what float64 shows for the most part, and beyond what computing in float32 inside makes (1e-7), is one, too.

A fault may show at its own layer within a few floors, and grow beyond them further on.
"""

_NONE = "no floor was measured: both sides have to compute in one type, float32 or a half"

_Key = tuple[Stage, str, str, int, str]
Finding = Literal["fault", "rounding", "unknown"]


def first_suspect_step(steps: Sequence[StepResult]) -> int | None:
    """Return the number of the first step with a pass beyond HEALTHY floors; None where there is none."""
    return next((one.step for one in steps if any(_is_suspect(pair) for pair in one.pairs)), None)


def notes_on_floor(prepared: Prepared, steps: Sequence[StepResult]) -> list[str]:
    """Say where no floor could be measured."""
    for route in prepared.sides.random:
        where = route or "the whole model"
        return [
            f"base does not run twice alike (first at {where}): its floor tells nothing, and the table alone decides"
        ]
    if not any(pair.metrics is not None and pair.metrics.floor is not None for one in steps for pair in one.pairs):
        why = "base's tape holds no floor: record it with --tolerance auto" if prepared.sides.replays else _NONE
        return [f"{why}; the table alone decides"]
    return []


def settle_suspects(steps: Sequence[StepResult], float64: StepResult | None, why_not: str) -> list[str]:
    """Fail the suspects that float64 shows as well, and say of the others what they are; return notes.

    Without float64 a suspect of the forward fails beyond WRONG floors, where no healthy pair has been seen; a gradient passes by
    the table, since it may be the kink of a ReLU.

    Args:
        steps: are changed in place.
        float64: are the comparisons of the same step in float64; None where it could not be run.
        why_not: says why it could not.
    """
    known = {} if float64 is None else {_key(pair): pair for pair in float64.pairs}
    counts: dict[Finding, list[Pair]] = {"fault": [], "rounding": [], "unknown": []}

    def settle(pair: Pair) -> Pair:
        if not _is_suspect(pair):
            return pair
        settled, finding = _settle(pair, known.get(_key(pair)), why_not)
        counts[finding].append(settled)
        return settled

    _replace_pairs(steps, settle)
    if counts["fault"]:
        _replace_pairs(steps, lambda pair: _beside_a_fault(pair, known.get(_key(pair))))
    return _notes(counts, why_not)


def _is_suspect(pair: Pair) -> bool:
    ratio = None if pair.metrics is None else pair.metrics.ratio
    return pair.status == "pass" and ratio is not None and ratio > HEALTHY and not _is_noise(pair)


def _is_noise(pair: Pair) -> bool:
    """Tell whether a gradient passed since it is nothing but rounding, whose bound is known."""
    return pair.metrics is not None and pair.metrics.measure == "max_abs"


def _settle(pair: Pair, there: Pair | None, why_not: str) -> tuple[Pair, Finding]:
    here, exact = pair.metrics, None if there is None else there.metrics
    assert here is not None
    assert here.ratio is not None
    size = _size(here)
    if exact is not None:
        if _share(here, exact) < _SHARE:
            return replace(pair, why=f"{size}; float64 agrees to {exact.rel_l2:.2g}: rounding"), "rounding"
        why = f"{size}; {exact.rel_l2:.2g} in float64, where rounding makes nothing of it"
        return _failing(pair, why, HEALTHY), "fault"
    if pair.stage == "forward" and here.ratio > WRONG:
        return _failing(pair, f"{size}; no healthy pair has been seen beyond {WRONG:.0f}", WRONG), "fault"
    return replace(pair, why=f"{size}; float64 could not be asked"), "unknown"


def _beside_a_fault(pair: Pair, there: Pair | None) -> Pair:
    here, exact = pair.metrics, None if there is None else there.metrics
    if pair.status != "pass" or here is None or here.ratio is None or exact is None:
        return pair
    if _is_noise(pair) or exact.rel_l2 < _CLEAR or _share(here, exact) < _CLEAR_SHARE:
        return pair
    return _failing(pair, f"{_size(here)}; {exact.rel_l2:.2g} in float64, where rounding makes nothing of it", 1.0)


def _share(here: Metrics, exact: Metrics) -> float:
    """Return how much of a difference float64 shows; what is zero but for rounding is smaller there by its elements."""
    shares = [
        there / mine for there, mine in ((exact.rel_l2, here.rel_l2), (exact.max_abs, here.max_abs)) if mine > 0.0
    ]
    return min(shares, default=0.0)


def _failing(pair: Pair, why: str, floors: float) -> Pair:
    here = pair.metrics
    assert here is not None
    metrics = replace(here, measured=here.rel_l2, measure="rel_l2", allowed=floors * (here.floor or 0.0))
    return replace(pair, status="fail", failure="floor", why=why, metrics=metrics)


def _size(here: Metrics) -> str:
    return f"{here.rel_l2:.2g} apart (relative L2), {here.ratio or 0.0:.1f} times what rounding makes of it in this run"


def _notes(counts: Mapping[Finding, Sequence[Pair]], why_not: str) -> list[str]:
    notes: list[str] = []
    if rounding := counts["rounding"]:
        worst = max(rounding, key=_ratio)
        notes.append(
            f"{len(rounding)} comparisons are more than {HEALTHY:.0f} times this run's floor (the worst {_ratio(worst):.0f} "
            f"times, {worst.raw_route or 'the whole model'} {worst.tensor}): a step in float64 shows that this is rounding"
        )
    if unknown := counts["unknown"]:
        worst = max(unknown, key=_ratio)
        notes.append(
            f"{len(unknown)} comparisons are more than {HEALTHY:.0f} times this run's floor (the worst {_ratio(worst):.0f} "
            f"times, {worst.raw_route or 'the whole model'} {worst.tensor}) and pass by the table alone"
            + (f": {why_not}" if why_not else ": float64 has no such comparison")
        )
    return notes


def _ratio(pair: Pair) -> float:
    return 0.0 if pair.metrics is None or pair.metrics.ratio is None else pair.metrics.ratio


def _key(pair: Pair) -> _Key:
    return pair.stage, pair.base_route, pair.raw_route, pair.call, pair.tensor


def _replace_pairs(steps: Sequence[StepResult], settle: Callable[[Pair], Pair]) -> None:
    for one in steps:
        one.forward = [_with_pairs(each, settle) for each in one.forward]
        one.backward = [_with_pairs(each, settle) for each in one.backward]
        one.others = [settle(pair) for pair in one.others]


def _with_pairs(one: Judged, settle: Callable[[Pair], Pair]) -> Judged:
    pairs = tuple(map(settle, one.pairs))
    return one if all(new is old for new, old in zip(pairs, one.pairs, strict=True)) else replace(one, pairs=pairs)
