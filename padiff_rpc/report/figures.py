"""Numbers as text, and the worst pair of each stage."""

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
    """One stage of the run: how many pairs, and the one that came nearest to its tolerance or went furthest over."""

    stage: Stage
    compared: int
    failed: int
    worst: Pair | None


def stage_rows(result: Result) -> list[StageRow]:
    """Return the stages in which anything was compared, in their order."""
    rows = []
    for stage in STAGES:
        pairs = [pair for pair in result.pairs if pair.stage == stage and pair.status != "skipped"]
        measured = [pair for pair in pairs if pair.metrics is not None]
        if pairs:
            worst = max(measured, key=_urgency, default=None)
            rows.append(StageRow(stage, len(pairs), sum(pair.status == "fail" for pair in pairs), worst))
    return rows


def _urgency(pair: Pair) -> tuple[float, float]:
    """Among exact matches, one that allowed something stands for the stage rather than one that must be exact."""
    return ratio(pair.metrics), pair.metrics.allowed if pair.metrics else 0.0


def ratio(metrics: Metrics | None) -> float:
    """Return what was measured over what was allowed: above 1 fails, NaN counts as infinite, 0 is an exact match."""
    if metrics is None or metrics.measured == 0:
        return 0.0
    if math.isnan(metrics.measured) or not metrics.allowed:
        return math.inf
    return metrics.measured / metrics.allowed


def measured_text(metrics: Metrics) -> str:
    """Say what was measured against what was allowed, in one phrase."""
    times = ratio(metrics)
    over = f" ({number(times)} times)" if 1 < times < math.inf else ""
    name = _MEASURES.get(metrics.measure, metrics.measure)
    return f"{name} {number(metrics.measured)}, allowed {number(metrics.allowed)}{over}"


def number(value: float) -> str:
    """Three digits: enough to judge an error by."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
