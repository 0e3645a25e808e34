"""Mutate raw in healthy pairs and ask the tool: `python -m benchmarks.mutations [--seed N] [--count N] [--pair NAME]`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

import click
import numpy as np
from rich.console import Console

from benchmarks.mutations.pairs import ROOT, SMALL_PAIRS, MutatedPair
from benchmarks.mutations.report import report
from benchmarks.mutations.trial import Trial
from benchmarks.mutations.zoo_pairs import zoo_pairs

RESULTS = ROOT / "benchmarks" / "results" / "mutations"
_PAIRS = {each.name: each for each in (*SMALL_PAIRS, *zoo_pairs())}
_TABLE_COLUMNS = 180


@click.command()
@click.option("--seed", default=0, show_default=True, help="Another seed draws other mutations.")
@click.option("--count", default=200, show_default=True, type=click.IntRange(1), help="How many, over all pairs.")
@click.option("--pair", "names", multiple=True, type=click.Choice(list(_PAIRS)), help="Only this pair.")
def main(seed: int, count: int, names: tuple[str, ...]) -> None:
    """Print a table, and write all trials to benchmarks/results/mutations/seed-N.json.

    Exit status 0: no mutation with an effect was called aligned; 1: some were; 2: a pair could not be tried, or bad usage.
    """
    pairs = [_PAIRS[name] for name in names or _PAIRS]
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"seed-{seed}.json"
    trials: list[Trial] = []
    broken: list[str] = []
    for number, pair in enumerate(pairs):
        share = count // len(pairs) + (number < count % len(pairs))
        for trial in _tried(pair, share, seed + number, broken):
            click.echo(f"{len(trials) + 1}/{count} {pair.name}: {trial.label}, {trial.verdict}", err=True)
            trials.append(trial)
        path.write_text(json.dumps([asdict(each) for each in trials], indent=1))
    columns = None if sys.stdout.isatty() else max(_TABLE_COLUMNS, shutil.get_terminal_size().columns)
    report(trials, {pair.name: pair for pair in pairs}, Console(width=columns))
    click.echo(f"written to {path}", err=True)
    for line in broken:
        click.echo(line, err=True)
    sys.exit(2 if broken or not trials else any(trial.missed for trial in trials))


def _tried(pair: MutatedPair, count: int, seed: int, broken: list[str]) -> Iterator[Trial]:
    """Try mutations in a process of raw's environment; what goes wrong there is added to `broken`."""
    inputs, log = RESULTS / f"{pair.name}.npz", RESULTS / f"{pair.name}.log"
    np.savez(inputs, allow_pickle=False, **pair.inputs)
    told = {"base": asdict(pair.base), "raw": asdict(pair.raw), "allow_extra": pair.allow_extra}
    job = json.dumps({"name": pair.name, **told, "inputs": str(inputs), "count": count, "seed": seed})
    command = [str(pair.raw.python), "-m", "benchmarks.mutations.child", job]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            yield Trial(**json.loads(line))
    if child.returncode:
        last = (log.read_text().splitlines() or [""])[-1]
        broken.append(f"{pair.name} ended with {child.returncode}: {last} (see {log})")


if __name__ == "__main__":
    main()
