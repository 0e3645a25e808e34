"""`padiff-rpc convert`: write base's weights as a checkpoint of raw."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from padiff_clients.console import show
from padiff_clients.diff import DiffPlan, plan_diff
from padiff_clients.open_models import opened
from padiff_clients.options import as_run, diff_options
from padiff_clients.progress_display import live_progress
from padiff_clients.report_errors import ALIGNED, DIFFERS, handled
from padiff_clients.run_keys import RunFile
from padiff_clients.runfile import load_run_file, merge
from padiff_rpc.align.align import OnAssigned, align
from padiff_rpc.align.progress import OnProgress
from padiff_rpc.checkpoint.write_checkpoint import check_format
from padiff_rpc.convert_checkpoint import Conversion, convert_checkpoint
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Model
from padiff_rpc.per_side import PerSide
from padiff_rpc.report.json_file import check_writable, write_result
from padiff_rpc.report.terminal import print_result, print_verdict
from padiff_rpc.result import Result

_SHOWN = 8
"""How many tensors with raw's own values are named."""


@click.command()
@click.argument("run_file", metavar="[RUN.toml]", required=False)
@click.option(
    "-o",
    "--output",
    "file",
    metavar="FILE",
    required=True,
    help="The checkpoint: FILE.safetensors, FILE.pdparams or FILE.pt.",
)
@click.option("--unverified", is_flag=True, help="Write it although no aligned run has verified the map.")
@diff_options
@handled
def convert(run_file: str | None, file: str, unverified: bool, quiet: bool, **options: Any) -> None:
    """Write base's weights as a checkpoint of raw: in raw's names, layouts and dtypes.

    The two models are aligned first, as `diff` does with the same options, and the file is written only if they agree. With
    --unverified it is written in any case, and inputs need not be given; its metadata, where the format has any, say so.
    """
    asked = as_run(options)
    run = merge(load_run_file(Path(run_file)) if run_file else RunFile(), asked)
    made = run_conversion(run, Path(file), unverified=unverified, quiet=quiet)
    if made.result is not None and run.json_file:
        write_result(Path(run.json_file), made.result)
    show(lambda console: _print(made, file, console, unverified=unverified, quiet=quiet))
    sys.exit(ALIGNED if made.is_written else DIFFERS)


def run_conversion(run: RunFile, file: Path, *, unverified: bool, quiet: bool) -> Conversion:
    """Do a whole conversion.

    All that can be checked in this process is checked before a worker is launched.

    Raises:
        PadiffError: the run contradicts itself, or a worker, an input, the alignment or the file fails.
    """
    plan = plan_diff(run, needs_inputs=not unverified)
    if run.sequential:
        raise PadiffError(
            "a conversion has both models at once, and a sequential run one after the other",
            reason=Reason.BAD_CONFIG,
            hint="leave --sequential out",
        )
    check_format(file, {})
    check_writable(file)
    with live_progress(quiet) as tell, opened((plan.base, plan.raw)) as models:
        verify = partial(_verify, plan, models, tell) if plan.shown else None
        return convert_checkpoint(PerSide(*models), file, plan.settings, verify, unverified=unverified)


def _verify(plan: DiffPlan, models: Sequence[Model], tell: OnProgress, assigned: OnAssigned) -> Result:
    base, raw = models
    return plan.told(align(base, raw, *plan.inputs, plan.settings, tell, assigned))


def _print(made: Conversion, file: str, console: Console, *, unverified: bool, quiet: bool) -> None:
    if made.result is not None:
        (print_verdict if quiet else print_result)(made.result, console)
        console.print()
    for line in _lines(made, file, unverified=unverified):
        console.print(line, highlight=False, markup=False)


def _lines(made: Conversion, file: str, *, unverified: bool) -> Iterator[str]:
    if not made.is_written:
        yield f"{file} was not written: the models differ. Mend the map, or write it with --unverified"
        return
    aligned = made.result is not None and made.result.aligned
    how = (
        "verified by this run"
        if aligned
        else "NOT VERIFIED: " + ("the models differ" if made.result is not None else "no run has compared the models")
    )
    yield f"wrote {file}: {len(made.specs):,} tensors, {made.size_bytes:,} bytes, {how}"
    if unverified and aligned:
        yield "  its metadata say that it was not, as --unverified asks"
    if made.kept:
        names = ", ".join(made.kept[:_SHOWN]) + (", ..." if len(made.kept) > _SHOWN else "")
        yield f"  {len(made.kept):,} tensors have raw's own values, since base has nothing for them: {names}"
    yield from (f"  {note}" for note in made.notes)
