"""The aligned step over the floor, in interleaved rounds; and the memory that it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.cases import FRAMEWORKS, Case, Framework
from benchmarks.child import Child
from benchmarks.figures import Figure, ratio
from benchmarks.processes import bare_processes, coordinator, workers
from benchmarks.settings import SETTINGS

Tell = Callable[[str], None]


def measure_steps(case: Case, rounds: int, tell: Tell) -> list[Figure]:
    """Time the floor and every setting once per round, after a round to warm up in which the weights are assigned."""
    floors: list[float] = []
    answers: dict[str, list[dict[str, Any]]] = {setting: [] for setting in SETTINGS}
    with bare_processes(case) as bare, workers(case) as pair, coordinator(case, pair) as driver:
        tell(f"{case.name}: warming up")
        floor(bare)
        driver.ask(do="assign")
        for setting in SETTINGS:
            driver.ask(do="align", setting=setting)
        for number in range(1, rounds + 1):
            floors.append(floor(bare))
            for setting in SETTINGS:
                answers[setting].append(driver.ask(do="align", setting=setting))
            seconds = ", ".join(f"{setting} {answers[setting][-1]['step_s']:.2f}" for setting in SETTINGS)
            tell(f"{case.name}: round {number} of {rounds}: floor {floors[-1]:.2f} s, {seconds}")
    return [_figure(case, setting, answers[setting], floors) for setting in SETTINGS]


def floor(bare: dict[Framework, Child]) -> float:
    """Run a plain step in both bare processes at the same time; return the seconds until both are done."""
    begun = time.monotonic()
    for framework in FRAMEWORKS:
        bare[framework].send()
    for framework in FRAMEWORKS:
        bare[framework].answer()
    return time.monotonic() - begun


def _figure(case: Case, setting: str, answers: list[dict[str, Any]], floors: list[float]) -> Figure:
    steps = [answer["step_s"] for answer in answers]
    last = answers[-1]
    said = "aligned" if last["aligned"] else "differs"
    note = f"{said}, {last['compared']} compared, {last['bytes_moved'] / 1e6:.0f} MB moved"
    return ratio("aligned step", case.name, setting, steps, floors, "x floor", SETTINGS[setting].at_most, note=note)
