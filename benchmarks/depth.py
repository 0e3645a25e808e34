"""How the cost grows with depth: a narrow decoder of 12, 24, 48 and 96 layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median

import numpy as np

from benchmarks.cases import case_of
from benchmarks.figures import Figure, Tell
from benchmarks.footprint import COORDINATOR_MB
from benchmarks.processes import running

DEPTHS = (12, 24, 48, 96)
_DEVIATION_AT_MOST = 0.10
"""Of the time itself, from the straight line through all four."""
_GROWTH_AT_MOST = 1.10
"""The coordinator's memory at the greatest depth over that at 24 layers."""


def measure_depth(rounds: int, tell: Tell, depths: Sequence[int] = DEPTHS) -> list[Figure]:
    """Time a strict step of each depth once per round, all of them warm, and read each coordinator's peak after."""
    seconds: dict[int, list[float]] = {depth: [] for depth in depths}
    with ExitStack() as stack:
        runs = {depth: stack.enter_context(running(case_of(f"depth-{depth}"), with_bare=False)) for depth in depths}
        for run in runs.values():
            run.coordinator.ask(do="assign")
            run.coordinator.ask(do="align", setting="strict")
        for number in range(1, rounds + 1):
            for depth, run in runs.items():
                seconds[depth].append(run.coordinator.ask(do="align", setting="strict")["step_s"])
            tell(f"depth: round {number} of {rounds}: {', '.join(f'{seconds[depth][-1]:.2f} s' for depth in depths)}")
        peaks = {depth: run.coordinator.ask(do="memory")["above_imports_bytes"] for depth, run in runs.items()}
    return [*_times(seconds), *_peaks(peaks)]


def worst_deviation(times: Mapping[int, float]) -> float:
    """Return how far a time is at most from the line over depth, as a part of itself.

    The line has the least squares of just these parts: else the deepest would decide it, and the rest be off by chance.
    """
    depths, values = np.array(list(times), float), np.array(list(times.values()))
    slope, start = np.polyfit(depths, values, 1, w=1 / values)
    return float(np.max(np.abs(slope * depths + start - values) / values))


def _times(seconds: Mapping[int, list[float]]) -> list[Figure]:
    medians = {depth: median(taken) for depth, taken in seconds.items()}
    figures = [
        Figure(
            "depth",
            f"{depth} layers",
            "strict step",
            1e3 * medians[depth] / depth,
            "ms a layer",
            note=f"{medians[depth]:.3g} s",
            samples={"step_s": taken},
        )
        for depth, taken in seconds.items()
    ]
    deviation = worst_deviation(medians)
    note = "the part of the time by which one is off the line through all"
    return [*figures, Figure("depth", "all", "off linear", deviation, "", at_most=_DEVIATION_AT_MOST, note=note)]


def _peaks(peaks: Mapping[int, int]) -> list[Figure]:
    figures = [
        Figure("memory", f"{depth} layers", "coordinator", peak / 1e6, "MB above its imports", at_most=COORDINATOR_MB)
        for depth, peak in peaks.items()
    ]
    shallow = 24 if 24 in peaks else min(peaks)
    deep = max(peaks)
    growth = peaks[deep] / peaks[shallow]
    name = f"coordinator, {deep} over {shallow} layers"
    return [*figures, Figure("memory", "all depths", name, growth, "x", at_most=_GROWTH_AT_MOST)]
