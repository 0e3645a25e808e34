"""`padiff-rpc diff`: align two models and say where they first differ."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from padiff_clients.console import show
from padiff_clients.load_inputs import as_tensors, load_inputs, load_targets, model_inputs
from padiff_clients.open_models import open_model, opened
from padiff_clients.options import as_run, diff_options
from padiff_clients.plan import SidePlan, align_settings, plan_sides
from padiff_clients.progress_display import live_progress
from padiff_clients.report_errors import ALIGNED, DIFFERS, handled
from padiff_clients.run_keys import RunFile
from padiff_clients.runfile import load_run_file, merge
from padiff_clients.signals import terminable
from padiff_clients.tapes import Tapes, as_recorded, notes_on, recorded_inputs, tapes_of
from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Inputs
from padiff_rpc.report.json_file import check_writable, write_result
from padiff_rpc.report.terminal import print_result, print_verdict
from padiff_rpc.result import Result
from padiff_rpc.sequential import align_sequentially


@click.command()
@click.argument("run_file", metavar="[RUN.toml]", required=False)
@diff_options
@handled
def diff(run_file: str | None, quiet: bool, **options: Any) -> None:
    """Align two models and say where they first differ.

    Copies base's weights into raw, runs both on the same inputs, and compares layer by layer.

    SPEC is torch@path/to/file.py:factory or paddle@package.module:factory (launched here), grpc://host:port or
    unix:path (already running), or tape:DIR (recorded; its inputs and settings then hold). A run file holds all of it;
    options go before its keys.
    """
    asked = as_run(options)
    run = merge(load_run_file(Path(run_file)) if run_file else RunFile(), asked)
    result = run_diff(run, quiet=quiet)
    if run.json_file:
        write_result(Path(run.json_file), result)
    show(lambda console: (print_verdict if quiet else print_result)(result, console))
    sys.exit(ALIGNED if result.aligned else DIFFERS)


def run_diff(run: RunFile, *, quiet: bool) -> Result:
    """Do a whole run, and return its result.

    All that can be checked in this process is checked before a worker is launched.

    Raises:
        PadiffError: the run contradicts itself, or a worker, an input or the alignment fails.
    """
    plan = plan_diff(run)
    with live_progress(quiet) as tell:
        if run.sequential:
            sides = partial(open_model, plan.base), partial(open_model, plan.raw)
            with terminable():
                result = align_sequentially(*sides, *plan.inputs, plan.settings, tell)
        else:
            with opened((plan.base, plan.raw)) as (base_model, raw_model):
                result = align(base_model, raw_model, *plan.inputs, plan.settings, tell)
    return plan.told(result)


@dataclass(frozen=True)
class DiffPlan:
    """A run that is checked as far as this process can.

    Attributes:
        base: how to open base.
        raw: how to open raw.
        tapes: those of the models that are dumps.
        inputs: the two models' inputs; none for a run that is given none and need not have any.
        shown: the sources of the inputs.
        settings: the settings of the alignment.
    """

    base: SidePlan
    raw: SidePlan
    tapes: Tapes
    inputs: tuple[Inputs, Inputs]
    shown: list[str]
    settings: AlignSettings

    def told(self, result: Result) -> Result:
        """Return a result of the run, with what the command line adds to its notes and settings."""
        result.notes += notes_on(self.settings, self.tapes)
        result.settings |= {"base": self.base.shown(), "raw": self.raw.shown(), "inputs": self.shown}
        return result


def plan_diff(run: RunFile, *, needs_inputs: bool = True) -> DiffPlan:
    """Check a run and load its inputs, before a worker is launched."""
    base, raw = plan_sides(run)
    if run.json_file:
        check_writable(Path(run.json_file))
    if run.sequential:
        _refuse_tapes(base, raw)
    tapes = tapes_of(base, raw)
    given = needs_inputs or run.base.inputs or run.raw.inputs
    base_inputs, raw_inputs, shown = _inputs(run, base, raw, tapes) if given else ({}, {}, [])
    arrays = load_targets(run.targets) if run.targets else {}
    targets = {plan.name: as_tensors(arrays, run.targets or "", float64=_in_float64(plan)) for plan in (base, raw)}
    settings = as_recorded(align_settings(run, base, raw, targets), run, base, raw, tapes)
    return DiffPlan(base, raw, tapes, (base_inputs, raw_inputs), shown, settings)


def _refuse_tapes(base: SidePlan, raw: SidePlan) -> None:
    """Refuse a dump in a sequential run: a dump takes no memory, so there is no need to wait for the other model to end."""
    for plan in (base, raw):
        if plan.spec.kind == "tape":
            raise PadiffError(
                f"{plan.name} is {plan.spec.text!r}, a dump: there are no two models to run one after the other",
                reason=Reason.BAD_CONFIG,
                hint="leave --sequential out",
            )


def _inputs(run: RunFile, base: SidePlan, raw: SidePlan, tapes: Tapes) -> tuple[Inputs, Inputs, list[str]]:
    """Return base's inputs, raw's inputs and their two sources: what the run names, or else what a tape was recorded with."""
    sources = (run.base.inputs, run.raw.inputs)
    recorded = [recorded_inputs(tapes, plan) for plan in (base, raw)]
    if sources == (None, None) and None not in tapes:
        return recorded[0] or {}, recorded[1] or {}, ["the dumps' own"] * 2
    if sources == (None, None) and recorded[0] is not None and recorded[1] is not None:
        return recorded[0], recorded[1], ["the tape's own"] * 2
    if sources[0] is None or sources[1] is None:
        raise _no_inputs(tapes)
    values = load_inputs(sources[0], sources[1])
    inputs = [
        model_inputs(value, source or "", float64=_in_float64(plan))
        for value, source, plan in zip(values, sources, (base, raw), strict=True)
    ]
    return inputs[0], inputs[1], [source or "" for source in sources]


def _no_inputs(tapes: Tapes) -> PadiffError:
    message, hint = "no inputs are given", "give --inputs FILE.npz or --inputs FILE.py:function"
    for side, tape in zip(("base", "raw"), tapes, strict=True):
        if tape is not None:
            message += f", and {side}'s dump {str(tape.path)!r} holds none (a tape of `padiff-rpc record` does)"
            hint += ": what the recorded model was run on"
    return PadiffError(message, reason=Reason.BAD_CONFIG, hint=hint)


def _in_float64(plan: SidePlan) -> bool:
    return plan.dtype == "float64"
