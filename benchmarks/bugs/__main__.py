"""Plant bugs and ask the tool: `python -m benchmarks.bugs [--only NAME] [--seeds N] [--tolerance auto|table]`; or `--healthy`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console

from benchmarks.bugs.bug import Found, Outcome
from benchmarks.bugs.catalogue import BUGS
from benchmarks.bugs.healthy import HEALTHY
from benchmarks.bugs.pairs import FRAMEWORKS, ROOT, Framework, environment
from benchmarks.bugs.report import report_bugs, report_healthy

RESULTS = ROOT / "benchmarks" / "results" / "bugs"
_TABLE_COLUMNS = 200


@click.command()
@click.option("--healthy", is_flag=True, help="Run the healthy pairs instead.")
@click.option("--only", "parts", multiple=True, help="Only those whose name has this in it; repeatable.")
@click.option(
    "--seeds", type=click.IntRange(1), help="How many draws of weights and inputs; 1, and 5 for healthy pairs."
)
@click.option("--tolerance", type=click.Choice(["auto", "table"]), help="Passed to the tool; default: the tool's own.")
@click.option("--pairs", is_flag=True, help="List what would be run, and do nothing.")
def main(healthy: bool, parts: tuple[str, ...], seeds: int | None, tolerance: str | None, pairs: bool) -> None:
    """Print a table, and write all outcomes to benchmarks/results/bugs.

    Exit status 0: every bug is found, or every healthy pair aligned; 1: not so; 2: something could not be run, or bad usage.
    """
    every = HEALTHY if healthy else BUGS
    chosen = [each for each in every if not parts or any(part in each.title for part in parts)]
    if pairs or not chosen:
        click.echo("\n".join(each.title for each in chosen) or f"none of {len(every)} has such a name")
        sys.exit(0 if chosen else 2)
    tolerances = [tolerance or ""]
    if tolerance == "auto" and not healthy:
        tolerances.append("table")
    outcomes: list[Outcome] = []
    broken: list[str] = []
    for framework in FRAMEWORKS:
        titles = [each.title for each in chosen if each.run.raw == framework]
        job = {"titles": titles, "seeds": list(range(seeds or (5 if healthy else 1))), "tolerances": tolerances}
        for outcome in _run(framework, job, broken) if titles else ():
            click.echo(f"{outcome.title} ({outcome.took_s:.1f} s): {outcome.tools[tolerances[0]].verdict}", err=True)
            outcomes.append(outcome)
    RESULTS.mkdir(parents=True, exist_ok=True)
    words = ("healthy" if healthy else "bugs", tolerance, "part" if parts else "")
    path = RESULTS / f"{'-'.join(word for word in words if word)}.json"
    path.write_text(json.dumps([_plain(each) for each in outcomes], indent=1))
    columns = None if sys.stdout.isatty() else max(_TABLE_COLUMNS, shutil.get_terminal_size().columns)
    console = Console(width=columns)
    right = report_healthy(outcomes, console) if healthy else report_bugs(outcomes, BUGS, console)
    for line in (f"written to {path}", *broken):
        click.echo(line, err=True)
    sys.exit(2 if broken or not outcomes else not right)


def _run(framework: Framework, job: dict[str, Any], broken: list[str]) -> Iterator[Outcome]:
    """Run a job in a process of a framework's environment; what goes wrong there is added to `broken`."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    log = RESULTS / f"{framework}.log"
    command = [str(environment(framework)), "-m", "benchmarks.bugs.child", json.dumps(job)]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=ROOT) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            yield _outcome(json.loads(line))
    if child.returncode:
        last = (log.read_text().splitlines() or [""])[-1]
        broken.append(f"the runs with raw in {framework} ended with {child.returncode}: {last} (see {log})")


def _outcome(fields: dict[str, Any]) -> Outcome:
    tools = {tolerance: Found(**said) for tolerance, said in fields.pop("tools").items()}
    return Outcome(tools=tools, **fields)


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {**vars(outcome), "tools": {tolerance: vars(said) for tolerance, said in outcome.tools.items()}}


if __name__ == "__main__":
    main()
