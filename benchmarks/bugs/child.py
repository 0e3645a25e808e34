"""Run bugs or healthy pairs in raw's environment: `python -m benchmarks.bugs.child JOB`.

JOB is JSON: framework (raw's), bugs (titles) or healthy (names), seeds, tolerances. Base runs in a worker for each group of runs,
raw in this process, which coordinates as well. Each outcome is one line of JSON on stdout.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.bugs.bases import launched
from benchmarks.bugs.bug import Outcome
from benchmarks.bugs.catalogue import BUGS
from benchmarks.bugs.healthy import HEALTHY
from benchmarks.bugs.pairs import Run
from benchmarks.bugs.trial import found, testing_finds


def main(job: dict[str, Any]) -> None:
    """Print a line for each outcome."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what frameworks print is no outcome
    known = {each.title: each.run for each in BUGS} | {each.title: each.run for each in HEALTHY}
    runs = {title: known[title] for title in job["titles"]}

    def tell(outcome: Outcome) -> None:
        print(json.dumps(asdict(outcome)), file=told, flush=True)

    for group in _groups(runs):
        _run_group(group, job["seeds"], job["tolerances"], tell)


def _groups(runs: Mapping[str, Run]) -> list[dict[str, Run]]:
    """Put those together that take the same base."""
    groups: dict[str, dict[str, Run]] = {}
    for title, run in runs.items():
        key = json.dumps([run.architecture, run.full_args[0], run.dtype], sort_keys=True)
        groups.setdefault(key, {})[title] = run
    return list(groups.values())


def _run_group(
    group: Mapping[str, Run], seeds: Sequence[int], tolerances: Sequence[str], tell: Callable[[Outcome], None]
) -> None:
    runs = list(group.values())
    losses = sorted({run.loss for run in runs if run.loss})
    optimizers = sorted({run.optimizer for run in runs if run.optimizer})
    with launched(runs[0], losses, optimizers) as base:
        for title, run in group.items():
            for seed in seeds:
                start = time.monotonic()
                tools = {tolerance: found(run, base, seed, tolerance) for tolerance in tolerances}
                testing = testing_finds(run, base, seed)
                tell(Outcome(title, seed, tools, testing, time.monotonic() - start))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
