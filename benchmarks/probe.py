"""What recording costs one side: a step with hooks on, or off, in a worker over the same step in a bare process."""

from __future__ import annotations

import time

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
    """Time steps of one model in one process, without messages: hosted with nothing recorded and plain, in turn."""
    command = [str(python_of(framework)), "-m", "benchmarks.one_process", framework, run.case.name]
    with Child(f"the {framework} process of {run.case.name} that steps both ways", command, cwd=ROOT) as child:
        seconds: dict[str, list[float]] = {"hosted": [], "plain": []}
        for kind in seconds:
            child.ask(do=kind)
        for _ in range(rounds):
            for kind, taken in seconds.items():
                taken.append(child.ask(do=kind)["wall_s"])
    name, at_most = f"{framework}, probe off, one process", _KINDS["probe off"]
    return ratio("probe", run.case.name, name, seconds["hosted"], seconds["plain"], "x plain step", at_most=at_most)
