"""`padiff-rpc record`: run one model and write a tape, for the other side to be compared with later, elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from padiff_clients.console import show
from padiff_clients.load_inputs import as_tensors, load_one, load_targets, model_inputs
from padiff_clients.open_models import opened
from padiff_clients.options import as_run_of_one, option
from padiff_clients.plan import SidePlan, loss_of, optimizer_of, plan_one, useless_targets
from padiff_clients.report_errors import handled
from padiff_clients.run_keys import PLACE, RunFile, SideTable
from padiff_clients.signals import terminable
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import LossSpec
from padiff_rpc.model.selection import EVERYTHING, asked_layers, check_globs, narrowed
from padiff_rpc.tape.write_tape import Recording, check_asked
from padiff_rpc.tape.write_tape import record as record_tape


@click.command()
@click.argument("spec")
@option(SideTable, "inputs", help=f"Needed: FILE.npz, or {PLACE} that returns a dict.")
@click.option(
    "-o", "--output", "folder", metavar="DIR", required=True, help="A folder that is not there yet, or empty."
)
@option(SideTable, "python")
@option(SideTable, "args", flag="--model-arg")
@option(SideTable, "device")
@option(SideTable, "dtype", help="Cast it (and, for float64, the inputs) to this type.")
@option(RunFile, "train", help="Set its mode; default: leave it as it is.")
@option(RunFile, "steps", default=1, show_default=True, help="Steps on the same inputs.")
@option(
    RunFile, "phase", type=click.Choice(["forward", "both"]), default="both", show_default=True, help="What to run."
)
@option(RunFile, "seed", default=0, show_default=True, help="Seed of the framework's generators.")
@option(RunFile, "loss", help="projection (default), mean, sum, mse, cross_entropy, or a worker's own.")
@option(SideTable, "loss_fn", help="A loss of its own: a function of the outputs.")
@option(RunFile, "targets")
@option(RunFile, "optimizer")
@option(SideTable, "optimizer_fn", help="An optimiser of its own: made from the model.")
@option(RunFile, "api_calls", default=False, help="Record functional calls in layers' own code too.")
@option(
    RunFile, "tolerance", default="table", help="auto: measure, by one run more, how far rounding moves each tensor."
)
@option(RunFile, "layers", help="Record only layers of such routes; repeatable.")
@option(RunFile, "depth", help="Record only layers at most so many levels below the root.")
@option(RunFile, "threads", help="CPU threads of a launched worker.")
@option(RunFile, "token_file", help="Access token of a worker that already runs.")
@option(RunFile, "tls_ca", help="Certificate authority (PEM) of a worker that already runs.")
@option(RunFile, "connect_timeout_s")
@handled
def record(folder: str, **options: Any) -> None:
    """Run one model and write a tape: all that it computed.

    The tape holds inputs, parameters, layer outputs and gradients. `padiff-rpc diff --base tape:DIR --raw SPEC` aligns another
    model with it later, on any host, without the first one's framework.

    SPEC is torch@path/to/file.py:factory or paddle@package.module:factory (launched here), or grpc://host:port or unix:path
    (already running).
    """
    recording = run_record(as_run_of_one(options), Path(folder))
    steps = len(recording.forward_s)
    told = [
        f"recorded {steps} step{'s' if steps > 1 else ''} in {folder}",
        *(f"note: {note}" for note in recording.notes),
    ]
    show(lambda console: console.print("\n".join(told), highlight=False, markup=False, soft_wrap=True))


def run_record(run: RunFile, folder: Path) -> Recording:
    """Run the model that stands in the place of base, and write its tape.

    All that can be checked in this process is checked before a worker is launched.
    """
    plan = plan_one(run)
    optimizer = optimizer_of(plan, run.base)
    steps, backward = run.steps or 1, run.phase != "forward"
    check_asked(folder, steps, optimizer, backward)
    if run.base.inputs is None:
        raise PadiffError(
            "no inputs are given", reason=Reason.BAD_CONFIG, hint="give --inputs FILE.npz or --inputs FILE.py:function"
        )
    float64 = plan.dtype == "float64"
    inputs = model_inputs(load_one(run.base.inputs), run.base.inputs, float64=float64)
    loss = _loss(run, plan)
    with terminable(), opened([plan]) as (model,):
        description = model.describe()
        routes = [layer.route for layer in description.layers]
        check_globs(run.layers, routes, "the model")
        return record_tape(
            model,
            inputs,
            folder,
            model_name=description.class_name,
            selection=narrowed(EVERYTHING, routes, asked_layers(routes, run.layers, run.depth)),
            steps=steps,
            training=run.train,
            seed=run.seed,
            loss=loss,
            optimizer=optimizer,
            backward=backward,
            api_calls=bool(run.api_calls),
            floor=run.tolerance == "auto",
        )


def _loss(run: RunFile, plan: SidePlan) -> LossSpec:
    """Return the loss with its targets; raise BAD_CONFIG if targets are given and the loss takes none."""
    float64 = plan.dtype == "float64"
    targets = as_tensors(load_targets(run.targets), run.targets, float64=float64) if run.targets else {}
    loss = loss_of(plan, run.base, targets)
    if targets and not loss.targets:
        raise useless_targets(loss.name)
    return loss
