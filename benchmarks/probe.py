"""What recording costs one side: a step with hooks on, or off, in a worker over the same step in a bare process."""

from __future__ import annotations

import time
from itertools import pairwise

from benchmarks.cases import FRAMEWORKS, ROOT, Framework
from benchmarks.child import Child
from benchmarks.figures import Figure, Tell, ratio
from benchmarks.processes import Running, python_of

_KINDS = {"recorded": 1.10, "probe off": 1.01}
"""And how much over the bare step each may take."""


def measure_probe(run: Running, rounds: int, tell: Tell) -> list[Figure]:
    """Time one side alone: a bare step, a recorded one of which nothing is fetched, and one that records nothing."""
    figures = []
    for framework in FRAMEWORKS:
        figures += _by_worker(run, framework, rounds)
        figures.append(_in_one_process(run, framework, rounds))
        tell(f"{run.case.name}: {framework} with and without the probe, {rounds} rounds done")
    return figures


def _by_worker(run: Running, framework: Framework, rounds: int) -> list[Figure]:
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
    return [
        ratio("probe", run.case.name, f"{framework}, {kind}", seconds[kind], bare, "x bare step", at_most=at_most)
        for kind, at_most in _KINDS.items()
    ]


def _in_one_process(run: Running, framework: Framework, rounds: int) -> Figure:
    """Time steps of one model in one process, without messages: plain, hosted with nothing recorded, plain, ...

    Each hosted one is set against the mean of the plain ones around it.
    """
    command = [str(python_of(framework)), "-m", "benchmarks.one_process", framework, run.case.name]
    with Child(f"the {framework} process of {run.case.name} that steps both ways", command, cwd=ROOT) as child:
        for kind in ("hosted", "plain"):
            child.ask(do=kind)
        plain, hosted = [child.ask(do="plain")["wall_s"]], []
        for _ in range(rounds):
            hosted.append(child.ask(do="hosted")["wall_s"])
            plain.append(child.ask(do="plain")["wall_s"])
    around = [(before + after) / 2 for before, after in pairwise(plain)]
    name = f"{framework}, probe off, one process"
    return ratio("probe", run.case.name, name, hosted, around, "x plain step", at_most=_KINDS["probe off"])
