"""Plant each fault and see which layer is named: `python -m tests.zoo.run_faults [PAIR ...]`."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.table import Table

from padiff_rpc.result import Result
from tests.zoo.faults import FAULTS, Fault
from tests.zoo.pairs import PAIRS
from tests.zoo.run_pair import RESULTS, Outcome, run_pair

_COLUMNS = 170
_MISSES = 2
"""So many faults may be told at a layer beside the one at fault; none may be called aligned."""


@click.command()
@click.argument("pairs", nargs=-1, type=click.Choice(list(PAIRS)))
def main(pairs: tuple[str, ...]) -> None:
    """Print a row for each fault. Exit status 0: layers were named that may be, but for two faults at most; else 1."""
    table = Table(title="faults planted in the zoo")
    for title in ("pair", "fault", "wanted", "named", "right", "exit", "shows in"):
        table.add_column(title, overflow="fold")
    right = aligned = 0
    faults = [fault for fault in FAULTS if not pairs or fault.pair in pairs]
    for fault in faults:
        outcome = run_pair(PAIRS[fault.pair], fault.name, {"fault": dict(fault.plant)})
        found = outcome.named in fault.wanted
        right, aligned = right + found, aligned + (outcome.exit_status == 0)
        click.echo(f"{'right' if found else 'WRONG'}  {fault.name}: {outcome.verdict}", err=True)
        table.add_row(*_row(fault, outcome, found))
    Console(width=_COLUMNS).print(table)
    click.echo(f"{right} of {len(faults)} name the layer, {aligned} are aligned; the reports are in {RESULTS}")
    sys.exit(aligned > 0 or len(faults) - right > _MISSES)


def _row(fault: Fault, outcome: Outcome, found: bool) -> tuple[str, ...]:
    wanted = " or ".join(route or "(the model)" for route in fault.wanted)
    named = outcome.verdict if outcome.named is None else outcome.named or "(the model)"
    said = "yes" if found else "NO"
    shows = shows_in(outcome.result) if outcome.result else ""
    return fault.pair, fault.what, wanted, named, said, str(outcome.exit_status), shows


def shows_in(result: Result) -> str:
    """Say in how many of the model's outputs and of the parameters' gradients a fault shows."""
    outputs = [
        pair
        for pair in result.pairs
        if pair.stage == "forward" and pair.base_route == "" and pair.tensor.startswith("output")
    ]
    gradients = [pair for pair in result.pairs if pair.stage == "grads"]
    failing = [sum(pair.status == "fail" for pair in pairs) for pairs in (outputs, gradients)]
    return f"{failing[0]}/{len(outputs)} outputs, {failing[1]}/{len(gradients)} gradients"


if __name__ == "__main__":
    main()
