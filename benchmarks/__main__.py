"""Measure what padiff-rpc costs: `python -m benchmarks [--case NAME] [--rounds N]`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from benchmarks.cases import CASES, FRAMEWORKS, ROOT, case_of
from benchmarks.figures import Figure
from benchmarks.machine import describe_machine
from benchmarks.processes import python_of
from benchmarks.step import measure_steps
from benchmarks.table import show, write
from padiff_rpc.errors import PadiffError


@click.command()
@click.option("--case", "names", multiple=True, help="only this case; may be given again")
@click.option(
    "--rounds", default=5, show_default=True, type=click.IntRange(1), help="rounds, of which medians are taken"
)
@click.option("--name", default="latest", show_default=True, help="of the file in benchmarks/results")
def main(names: tuple[str, ...], rounds: int, name: str) -> None:
    try:
        cases = [case_of(each) for each in names] or list(CASES)
        for framework in FRAMEWORKS:
            python_of(framework)
    except PadiffError as err:
        raise click.ClickException(str(err)) from err
    figures: list[Figure] = []
    for case in cases:
        figures += _guarded("aligned step", case.name, lambda case=case: measure_steps(case, rounds, _tell))
    show(figures, Console(width=160 if not sys.stdout.isatty() else None))
    path = ROOT / "benchmarks" / "results" / f"{Path(name).name}.json"
    write(figures, describe_machine(), path)
    _tell(f"written to {path}")


def _guarded(group: str, case: str, measure: Callable[[], list[Figure]]) -> list[Figure]:
    """Return what was measured; what could not be is a row that says why, and never left out."""
    try:
        return measure()
    except PadiffError as err:
        return [Figure(group, case, "all", None, "", note=str(err))]


def _tell(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    main()
