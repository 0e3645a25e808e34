"""`padiff-rpc record`: run one model and write a tape, for the other side to be compared with later, elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from padiff_clients.console import show
from padiff_clients.load_inputs import as_tensors, load_one, load_targets, model_inputs
from padiff_clients.open_models import opened
from padiff_clients.options import DTYPES, PLACE, parse_args
from padiff_clients.plan import loss_of, optimizer_of, plan_one, useless_targets
from padiff_clients.report_errors import handled
from padiff_clients.runfile import validate
from padiff_clients.signals import terminable
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.selection import EVERYTHING, asked_layers, check_globs, narrowed
from padiff_rpc.tape.write_tape import check_asked
from padiff_rpc.tape.write_tape import record as record_tape


@click.command()
@click.argument("spec")
@click.option("--inputs", metavar="FILE", help=f"Needed: FILE.npz, or {PLACE} that returns a dict.")
@click.option(
    "-o", "--output", "folder", metavar="DIR", required=True, help="A folder that is not there yet, or empty."
)
@click.option("--python", metavar="PYTHON", help="The Python to launch its worker in; default: this one.")
@click.option("--model-arg", "args", metavar="NAME=JSON", multiple=True, help="An argument of its factory; repeatable.")
@click.option("--device", metavar="DEVICE", help="Where it runs, in its framework's words.")
@click.option("--dtype", type=DTYPES, help="Cast it (and, for float64, the inputs) to this type.")
@click.option("--train/--eval", default=None, help="Set its mode; default: leave it as it is.")
@click.option("--steps", type=click.IntRange(1), default=1, show_default=True, help="Steps on the same inputs.")
@click.option("--phase", type=click.Choice(["forward", "both"]), default="both", show_default=True, help="What to run.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the framework's generators.")
@click.option("--loss", metavar="LOSS", help="projection (default), mean, sum, mse, cross_entropy, or a worker's own.")
@click.option("--loss-fn", metavar=PLACE, help="A loss of its own: a function of the outputs.")
@click.option("--targets", metavar="FILE.npz", help="What mse and cross_entropy compare with: array `target`.")
@click.option("--optimizer", metavar="OPTIMIZER", help="Such as 'SGD(lr=0.1)'; none by default.")
@click.option("--optimizer-fn", metavar=PLACE, help="An optimiser of its own: made from the model.")
@click.option("--api-calls/--no-api-calls", default=False, help="Record functional calls in layers' own code too.")
@click.option("--layers", metavar="GLOB", multiple=True, help="Record only layers of such routes; repeatable.")
@click.option("--depth", type=click.IntRange(0), help="Record only layers at most so many levels below the root.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of a launched worker.")
@click.option("--token-file", metavar="FILE", help="Access token of a worker that already runs.")
@click.option("--tls-ca", metavar="FILE", help="Certificate authority (PEM) of a worker that already runs.")
@click.option(
    "--connect-timeout", "connect_timeout_s", type=click.FloatRange(0, min_open=True), help="Seconds; default 20."
)
@handled
def record(
    args: tuple[str, ...],
    folder: str,
    train: bool | None,
    steps: int,
    phase: str,
    seed: int,
    targets: str | None,
    api_calls: bool,
    layers: tuple[str, ...],
    depth: int | None,
    connect_timeout_s: float | None,
    **side: Any,
) -> None:
    """Run one model and write a tape: all that it computed.

    The tape holds inputs, parameters, layer outputs and gradients. `padiff-rpc diff --base tape:DIR --raw SPEC` aligns another
    model with it later, on any host, without the first one's framework.

    SPEC is torch@path/to/file.py:factory or paddle@package.module:factory (launched here), or grpc://host:port or unix:path
    (already running).
    """
    table = {key: value for key, value in side.items() if value is not None}
    run = validate(
        {"base": {**table, "args": parse_args(args, "--model-arg")}, "connect_timeout_s": connect_timeout_s},
        "the command line",
    )
    plan = plan_one(run)
    optimizer = optimizer_of(plan, run.base)
    check_asked(Path(folder), steps, optimizer, phase == "both")
    if run.base.inputs is None:
        raise PadiffError(
            "no inputs are given", reason=Reason.BAD_CONFIG, hint="give --inputs FILE.npz or --inputs FILE.py:function"
        )
    float64 = plan.dtype == "float64"
    inputs = model_inputs(load_one(run.base.inputs), run.base.inputs, float64=float64)
    tensors = as_tensors(load_targets(targets), targets, float64=float64) if targets else {}
    loss = loss_of(plan, run.base, tensors)
    if tensors and not loss.targets:
        raise useless_targets(loss.name)
    with terminable(), opened([plan]) as (model,):
        description = model.describe()
        routes = [layer.route for layer in description.layers]
        check_globs(layers, routes, "the model")
        record_tape(
            model,
            inputs,
            Path(folder),
            model_name=description.class_name,
            selection=narrowed(EVERYTHING, routes, asked_layers(routes, layers, depth)),
            steps=steps,
            training=train,
            seed=seed,
            loss=loss,
            optimizer=optimizer,
            backward=phase == "both",
            api_calls=api_calls,
        )
    show(lambda console: console.print(f"recorded {steps} step{'s' if steps > 1 else ''} in {folder}", highlight=False))
