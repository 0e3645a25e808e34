"""Align the zoo's pairs: `python -m tests.zoo [NAME ...]`. Without names all run, and docs/zoo.md is written."""

from __future__ import annotations

import sys
import time

import click

from tests.zoo.document import write_document
from tests.zoo.pairs import PAIRS
from tests.zoo.run_pair import RESULTS, run_pair


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PAIRS)))
def main(names: tuple[str, ...]) -> None:
    """Print a row for each pair. Exit status 0: each came out as it must; 1: some did not."""
    outcomes = {}
    for name in names or PAIRS:
        begun = time.monotonic()
        outcomes[name] = pair, outcome = PAIRS[name], run_pair(PAIRS[name], name)
        said = "right" if outcome.right(pair.differs_at) else "WRONG"
        click.echo(f"{said}  {name:14} {outcome.verdict} ({time.monotonic() - begun:.0f} s)")
    right = sum(outcome.right(pair.differs_at) for pair, outcome in outcomes.values())
    click.echo(f"{right} of {len(outcomes)} are right; the reports are in {RESULTS}")
    if not names:
        write_document(outcomes)
    sys.exit(right < len(outcomes))


if __name__ == "__main__":
    main()
