"""How much memory the processes of a case took, and what they wrote to disk."""

from __future__ import annotations

from benchmarks.cases import FRAMEWORKS
from benchmarks.figures import Figure, Tell
from benchmarks.memory import peak_bytes, written_bytes
from benchmarks.processes import Running

COORDINATOR_MB = 150.0
_WORKER_MB = 64.0
_LOGS_MB = 0.1
"""Workers log a few lines."""


def measure_footprint(run: Running, rounds: int, tell: Tell) -> list[Figure]:
    """Read the peaks since the start, so after the steps; then have one more step written to disk, or not."""
    told = run.coordinator.ask(do="memory")
    figures = [
        Figure(
            "memory",
            run.case.name,
            "coordinator",
            told["above_imports_bytes"] / 1e6,
            "MB above its imports",
            at_most=COORDINATOR_MB,
            note=f"imports take {run.coordinator.ready['imported_bytes'] / 1e6:.0f} MB",
        )
    ]
    for framework in FRAMEWORKS:
        bare, worker = peak_bytes(run.bare[framework].pid), peak_bytes(run.workers[framework].pid)
        budget = told["store_memory_bytes"][framework]
        figures.append(
            Figure(
                "memory",
                run.case.name,
                f"{framework} worker",
                (worker - bare) / 1e6,
                "MB over the bare process",
                at_most=round(budget / 1e6 + _WORKER_MB),
                note=f"{worker / 1e6:.0f} over {bare / 1e6:.0f}; the store's budget is {budget / 1e6:.0f}",
            )
        )
    pids = [run.coordinator.pid, *(worker.pid for worker in run.workers.values())]
    before = sum(map(written_bytes, pids))
    run.coordinator.ask(do="align", setting="strict")
    written = sum(map(written_bytes, pids)) - before
    tell(f"{run.case.name}: memory done")
    note = "by both workers and the coordinator, in a strict step"
    return [*figures, Figure("disk", run.case.name, "written", written / 1e6, "MB", at_most=_LOGS_MB, note=note)]
