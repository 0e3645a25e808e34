"""Measure what padiff-rpc costs: `python -m benchmarks [--case NAME] [--only PART] [--rounds N]`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click
from rich.console import Console

from benchmarks.cases import CASES, FRAMEWORKS, ROOT, case_of
from benchmarks.machine import describe_machine
from benchmarks.parts import CASE_PARTS, OTHER_PARTS, SLOW_PARTS, measure_case, measure_part
from benchmarks.processes import python_of
from benchmarks.table import show, write
from padiff_rpc.errors import PadiffError

_PARTS = (*CASE_PARTS, *OTHER_PARTS, *SLOW_PARTS)
_TABLE_COLUMNS = 170


@click.command()
@click.option("--case", "names", multiple=True, metavar="NAME", help="Only the parts of this case; repeatable.")
@click.option("--only", multiple=True, type=click.Choice(_PARTS), help="Only this part; repeatable.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Medians are taken over them.")
@click.option("--name", default="latest", show_default=True, help="Of the file in benchmarks/results.")
def main(names: tuple[str, ...], only: tuple[str, ...], rounds: int, name: str) -> None:
    """Print a table, and write it with every sample to benchmarks/results/NAME.json.

    Without --only everything is measured but the slow parts. Exit status 0: every figure was taken, whatever it
    is; 1: some could not be; 2: an environment is missing, or bad usage.
    """
    try:
        cases = [case_of(each) for each in names] or list(CASES)
        for framework in FRAMEWORKS:
            python_of(framework)
    except PadiffError as err:
        raise click.UsageError(str(err)) from err
    path = ROOT / "benchmarks" / "results" / f"{Path(name).name}.json"
    machine = describe_machine()
    figures = []
    case_parts = [part for part in CASE_PARTS if part in only or not only]
    for case in cases if case_parts else []:
        figures += measure_case(case, case_parts, rounds, _tell)
        write(figures, machine, path)
    for part in (*OTHER_PARTS, *SLOW_PARTS):
        if part in only or not (only or names or part in SLOW_PARTS):
            figures += measure_part(part, rounds, _tell)
            write(figures, machine, path)
    columns = None if sys.stdout.isatty() else max(_TABLE_COLUMNS, shutil.get_terminal_size().columns)
    show(figures, Console(width=columns))
    _tell(f"written to {path}")
    sys.exit(any(figure.value is None for figure in figures))


def _tell(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    main()
