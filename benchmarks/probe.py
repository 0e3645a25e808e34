"""What recording costs one side: a step with hooks on, or off, in a worker over the same step in a bare process."""

from __future__ import annotations

import time

from benchmarks.cases import FRAMEWORKS
from benchmarks.figures import Figure, Tell, ratio
from benchmarks.processes import Running

_KINDS = {"recorded": 1.10, "probe off": 1.01}
"""And how much over the bare step each may take."""


def measure_probe(run: Running, rounds: int, tell: Tell) -> list[Figure]:
    """Time one side alone: a bare step, a recorded one of which nothing is fetched, and one that records nothing."""
    figures = []
    for framework in FRAMEWORKS:
        bare: list[float] = []
        seconds: dict[str, list[float]] = {kind: [] for kind in _KINDS}
        for kind in _KINDS:
            run.coordinator.ask(do="step", framework=framework, record=kind == "recorded")
        for _ in range(rounds):
            begun = time.monotonic()
            run.bare[framework].ask(do="step")
            bare.append(time.monotonic() - begun)
            run.bare[framework].ask(do="clear")
            for kind in _KINDS:
                answer = run.coordinator.ask(do="step", framework=framework, record=kind == "recorded")
                seconds[kind].append(answer["wall_s"])
        tell(f"{run.case.name}: {framework} with and without the probe, {rounds} rounds done")
        for kind, at_most in _KINDS.items():
            name = f"{framework}, {kind}"
            figures.append(ratio("probe", run.case.name, name, seconds[kind], bare, "x bare step", at_most=at_most))
    return figures
