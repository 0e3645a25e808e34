"""The aligned step over the floor, in interleaved rounds."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.cases import FRAMEWORKS
from benchmarks.figures import Figure, Tell, ratio
from benchmarks.processes import Running
from benchmarks.settings import SETTINGS


def warm_up(run: Running) -> None:
    """Assign the weights, and run every kind of step once."""
    floor(run)
    run.coordinator.ask(do="assign")
    for setting in SETTINGS:
        run.coordinator.ask(do="align", setting=setting)


def measure_steps(run: Running, rounds: int, tell: Tell) -> list[Figure]:
    """Time the floor and every setting once per round."""
    floors: list[float] = []
    answers: dict[str, list[dict[str, Any]]] = {setting: [] for setting in SETTINGS}
    for number in range(1, rounds + 1):
        floors.append(floor(run))
        for setting in SETTINGS:
            answers[setting].append(run.coordinator.ask(do="align", setting=setting))
        seconds = ", ".join(f"{setting} {answers[setting][-1]['step_s']:.2f}" for setting in SETTINGS)
        tell(f"{run.case.name}: steps, round {number} of {rounds}: floor {floors[-1]:.2f} s, {seconds}")
    return [_figure(run, setting, answers[setting], floors) for setting in SETTINGS]


def floor(run: Running) -> float:
    """Run a plain step in both bare processes at the same time; return the seconds until both are done.

    Gradients go afterwards, as align() has them go before its step; nor would four models with theirs fit into 24 GB.
    """
    begun = time.monotonic()
    for framework in FRAMEWORKS:
        run.bare[framework].send(do="step")
    for framework in FRAMEWORKS:
        run.bare[framework].answer()
    wall_s = time.monotonic() - begun
    for framework in FRAMEWORKS:
        run.bare[framework].ask(do="clear")
    return wall_s


def _figure(run: Running, setting: str, answers: list[dict[str, Any]], floors: list[float]) -> Figure:
    steps = [answer["step_s"] for answer in answers]
    last = answers[-1]
    said = "aligned" if last["aligned"] else "differs"
    note = f"{said}, {last['compared']} compared, {last['bytes_moved'] / 1e6:.0f} MB by {last['transport']}"
    at_most = SETTINGS[setting].at_most
    return ratio("aligned step", run.case.name, setting, steps, floors, "x floor", at_most=at_most, note=note)
