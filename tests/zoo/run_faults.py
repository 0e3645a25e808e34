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


@click.command()
@click.argument("pairs", nargs=-1, type=click.Choice(list(PAIRS)))
def main(pairs: tuple[str, ...]) -> None:
    """Print a row for each fault. Exit status 0: for each a layer was named that may be; 1: for some not."""
    table = Table("pair", "fault", "wanted", "named", "right", "exit", "shows in", title="faults planted in the zoo")
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
    sys.exit(right < len(faults))


def _row(fault: Fault, outcome: Outcome, found: bool) -> tuple[str, ...]:
    wanted = " or ".join(route or "(the model)" for route in fault.wanted)
    said = "yes" if found else "NO"
    shows = shows_in(outcome.result) if outcome.result else ""
    return fault.pair, fault.what, wanted, outcome.verdict, said, str(outcome.exit_status), shows


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
