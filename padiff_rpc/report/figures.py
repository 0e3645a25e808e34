"""Find the worst pair of each stage, and write numbers as text."""

from __future__ import annotations

import math
from dataclasses import dataclass

from padiff_rpc.result import STAGES, Metrics, Pair, Result, Stage

_MEASURES = {
    "rel_l2": "relative L2 error",
    "max_scaled": "greatest difference over the greatest value",
    "max_abs": "greatest difference",
    "mismatched": "elements that differ",
    "mean": "difference of the means",
    "abs_mean": "difference of the absolute means",
}


@dataclass(frozen=True)
class StageRow:
    """The pairs of one stage of a run.

    Attributes:
        stage: the stage.
        compared: the number of pairs that were compared.
        failed: the number of those that failed.
        worst: the pair that went furthest over its tolerance or, if none failed, came nearest to it; None if none was measured.
    """

    stage: Stage
    compared: int
    failed: int
    worst: Pair | None


def stage_rows(result: Result) -> list[StageRow]:
    """Return a row for each stage in which anything was compared, in the order of the stages."""
    rows = []
    for stage in STAGES:
        pairs = [pair for pair in result.pairs if pair.stage == stage and pair.status != "skipped"]
        measured = [pair for pair in pairs if pair.metrics is not None]
        if pairs:
            worst = max(measured, key=_urgency, default=None)
            rows.append(StageRow(stage, len(pairs), sum(pair.status == "fail" for pair in pairs), worst))
    return rows


def _urgency(pair: Pair) -> tuple[float, float]:
    """Return by what to find the worst pair; among exact matches it is one that was allowed a difference."""
    return ratio(pair.metrics), pair.metrics.allowed if pair.metrics else 0.0


def ratio(metrics: Metrics | None) -> float:
    """Return what was measured over what was allowed: 0 for an exact match, above 1 for a failure, infinity for NaN."""
    if metrics is None or metrics.measured == 0:
        return 0.0
    if math.isnan(metrics.measured) or not metrics.allowed:
        return math.inf
    return metrics.measured / metrics.allowed


def measured_text(metrics: Metrics) -> str:
    """Return a phrase that holds what was measured against what was allowed."""
    times = ratio(metrics)
    over = f" ({number(times)} times)" if 1 < times < math.inf else ""
    name = _MEASURES.get(metrics.measure, metrics.measure)
    return f"{name} {number(metrics.measured)}, allowed {number(metrics.allowed)}{over}"


def number(value: float) -> str:
    """Return a number with three digits, which are enough to judge an error by."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
