"""The parts of the benchmark: which there are, and how one that fails is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.cases import Case
from benchmarks.depth import measure_depth
from benchmarks.figures import Figure, Tell
from benchmarks.footprint import measure_footprint
from benchmarks.huge import measure_huge
from benchmarks.probe import measure_probe
from benchmarks.processes import Running, running
from benchmarks.sequential import measure_sequential
from benchmarks.step import measure_steps, warm_up
from benchmarks.transfer import measure_transfer
from benchmarks.weights import measure_weights
from padiff_rpc.errors import PadiffError

CASE_PARTS: dict[str, Callable[[Running, int, Tell], list[Figure]]] = {
    "steps": measure_steps,
    "memory": measure_footprint,
    "probe": measure_probe,
    "weights": measure_weights,
}
"""Measured in the processes of one case, in this order: the memory is that of the steps."""
OTHER_PARTS: dict[str, Callable[[int, Tell], list[Figure]]] = {
    "transfer": measure_transfer,
    "depth": measure_depth,
}
SLOW_PARTS: dict[str, Callable[[int, Tell], list[Figure]]] = {
    "huge": measure_huge,
    "sequential": measure_sequential,
}
"""Minutes each, and most of the machine's memory: only measured where they are asked for."""


def measure_case(case: Case, parts: Sequence[str], rounds: int, tell: Tell) -> list[Figure]:
    """Start the processes of a case, and measure these parts with them."""
    figures: list[Figure] = []
    try:
        with running(case) as run:
            tell(f"{case.name}: warming up")
            warm_up(run)
            for part in parts:
                figures += _guarded(part, case.name, lambda part=part: CASE_PARTS[part](run, rounds, tell))
    except PadiffError as err:
        figures.append(_not_taken("all parts", case.name, err))
    return figures


def measure_part(part: str, rounds: int, tell: Tell) -> list[Figure]:
    """Measure a part that belongs to no case."""
    measure = {**OTHER_PARTS, **SLOW_PARTS}[part]
    return _guarded(part, "", lambda: measure(rounds, tell))


def _guarded(part: str, case: str, measure: Callable[[], list[Figure]]) -> list[Figure]:
    try:
        return measure()
    except PadiffError as err:
        return [_not_taken(part, case, err)]


def _not_taken(part: str, case: str, error: PadiffError) -> Figure:
    """What could not be measured is a row that says why, and never left out."""
    return Figure(part, case, "all", None, "", note=str(error))
