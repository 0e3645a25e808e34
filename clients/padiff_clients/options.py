"""The options of `diff` and `inspect`, and the part of a run file that they stand for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from padiff_clients.runfile import DTypeName, RunFile, load_map_file, validate
from padiff_rpc.align.settings import DiffPhase
from padiff_rpc.compare.rules import CompareMode
from padiff_rpc.errors import PadiffError, Reason

F = TypeVar("F", bound=Callable[..., Any])

DTYPES = click.Choice(get_args(DTypeName))
PLACE = "FILE.py:FUNCTION"


def diff_options(command: F) -> F:
    """Add every option of `diff`."""
    for option in reversed([*_side_options("base"), *_side_options("raw"), *_shared_options()]):
        command = option(command)
    return command


def as_run(options: Mapping[str, Any]) -> RunFile:
    """Return what the options ask for as a run of which only those keys are set."""
    values: dict[str, Any] = {key: options[key] for key in _PLAIN if options[key] is not None}
    for name in ("base", "raw"):
        side = {key: options[f"{name}_{key}"] for key in _SIDE if options[f"{name}_{key}"] is not None}
        args = parse_args(options[f"{name}_arg"], f"--{name}-arg")
        values[name] = {**side, **({"args": args} if args else {})}
        if options[name] is not None:
            values[name]["spec"] = options[name]
    if options["layers"]:
        values["layers"] = list(options["layers"])
    values["compare"] = {key: options[key] for key in _COMPARE if options[key] is not None}
    values["store"] = {
        key: options[f"store_{key}"] for key in ("memory", "disk") if options[f"store_{key}"] is not None
    }
    layers = _pairs(options["pair"])
    mapped = load_map_file(Path(options["map"])).model_dump(exclude_unset=True) if options["map"] else {}
    values["map"] = {**mapped, **({"layers": {**mapped.get("layers", {}), **layers}} if layers else {})}
    return validate(values, "the command line")


def parse_args(texts: Iterable[str], option: str) -> dict[str, Any]:
    """Read NAME=JSON arguments of a factory; BAD_CONFIG otherwise."""
    args: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            if not equals or not name.isidentifier():
                raise ValueError("it is not NAME=JSON")
            args[name] = json.loads(value)
        except ValueError as err:
            raise PadiffError(
                f"cannot read {option} {text!r}: {err}",
                reason=Reason.BAD_CONFIG,
                hint=f"write {option} layers=4, {option} pretrained=true or {option} 'name=\"large\"' (text in quotes)",
            ) from err
    return args


_PLAIN = (
    "inputs",
    "targets",
    "loss",
    "optimizer",
    "dtype",
    "threads",
    "steps",
    "phase",
    "single_step",
    "api_calls",
    "sequential",
    "fail_fast",
    "depth",
    "verify_probe",
    "train",
    "seed",
    "assign",
    "token_file",
    "tls_ca",
    "connect_timeout_s",
    "json_file",
)
_SIDE = ("python", "device", "dtype", "inputs", "loss_fn", "optimizer_fn")
_COMPARE = ("mode", "atol", "rtol", "allow_dtype_difference")


def _side_options(name: str) -> list[Callable[[F], F]]:
    return [
        click.option(f"--{name}", metavar="SPEC", help=f"The {'trusted' if name == 'base' else 'other'} model."),
        click.option(
            f"--{name}-python", metavar="PYTHON", help="The Python to launch its worker in; default: this one."
        ),
        click.option(
            f"--{name}-arg", metavar="NAME=JSON", multiple=True, help="An argument of its factory; repeatable."
        ),
        click.option(f"--{name}-device", metavar="DEVICE", help="Where it runs, in its framework's words."),
        click.option(f"--{name}-dtype", type=DTYPES, help="Cast it to this type."),
        click.option(f"--{name}-inputs", metavar="FILE", help="Its own inputs, where the sides take different ones."),
        click.option(f"--{name}-loss-fn", metavar=PLACE, help="Its own loss: a function of the outputs."),
        click.option(f"--{name}-optimizer-fn", metavar=PLACE, help="Its own optimiser: made from the model."),
    ]


def _shared_options() -> list[Callable[[F], F]]:
    return [
        click.option("--inputs", metavar="FILE", help=f"FILE.npz, or {PLACE} that returns a dict or a pair of dicts."),
        click.option("--dtype", type=DTYPES, help="Cast both models (and, for float64, the inputs)."),
        click.option("--train/--eval", default=None, help="Set both models' mode; default: leave it as it is."),
        click.option("--steps", type=click.IntRange(1), help="Steps on the same inputs; default 1."),
        click.option("--phase", type=click.Choice(get_args(DiffPhase)), help="What to compare; default both."),
        click.option(
            "--single-step/--no-single-step",
            default=None,
            help="Feed raw's layers with base's tensors: own errors only.",
        ),
        click.option(
            "--api-calls/--no-api-calls",
            default=None,
            help="Compare functional calls inside layers too, to tell where one begins to differ.",
        ),
        click.option(
            "--sequential/--no-sequential",
            default=None,
            help="Run base first and raw when base has ended: two models that do not fit together.",
        ),
        click.option(
            "--verify-probe/--no-verify-probe", default=None, help="First prove that recording changes no bit."
        ),
        click.option("--layers", metavar="GLOB", multiple=True, help="Compare only layers of such routes; repeatable."),
        click.option(
            "--depth", type=click.IntRange(0), help="Compare only layers at most so many levels below the root."
        ),
        click.option("--fail-fast/--no-fail-fast", default=None, help="Stop both models at the first difference."),
        click.option(
            "--loss", metavar="LOSS", help="projection (default), mean, sum, mse, cross_entropy, or a worker's."
        ),
        click.option("--targets", metavar="FILE.npz", help="What mse and cross_entropy compare with: array `target`."),
        click.option("--optimizer", metavar="OPTIMIZER", help="Such as 'SGD(lr=0.1)'; none by default."),
        click.option(
            "--mode", type=click.Choice(get_args(CompareMode)), help="How tensors are judged; default scaled."
        ),
        click.option("--atol", type=click.FloatRange(0), help="Absolute tolerance."),
        click.option("--rtol", type=click.FloatRange(0), help="Relative tolerance; default: from the table by dtype."),
        click.option(
            "--allow-dtype-difference/--no-allow-dtype-difference", default=None, help="Compare values across dtypes."
        ),
        click.option("--assign/--no-assign", default=None, help="Copy base's weights into raw first; default: do."),
        click.option(
            "--map", metavar="FILE.toml", help="Pairs of layers and parameters, on top of the automatic match."
        ),
        click.option(
            "--pair", metavar="BASE=RAW", multiple=True, help="Two layers that correspond, by route; repeatable."
        ),
        click.option("--seed", type=int, help="Seed of the frameworks' generators; default 0."),
        click.option("--threads", type=click.IntRange(1), help="CPU threads of each launched worker."),
        click.option(
            "--store-memory", metavar="SIZE", help="Memory for records in each launched worker, such as 2GiB."
        ),
        click.option("--store-disk", metavar="SIZE", help="Disk for records beyond that."),
        click.option("--token-file", metavar="FILE", help="Access token of workers that already run."),
        click.option("--tls-ca", metavar="FILE", help="Certificate authority (PEM) of workers that already run."),
        click.option(
            "--connect-timeout",
            "connect_timeout_s",
            type=click.FloatRange(0, min_open=True),
            help="Seconds; default 20.",
        ),
        click.option("--json", "json_file", metavar="FILE", help="Write the whole result there."),
        click.option("--quiet", is_flag=True, help="No progress, and only the verdict on stdout."),
    ]


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        base, equals, raw = text.partition("=")
        if not equals:
            raise PadiffError(
                f"cannot read --pair {text!r}",
                reason=Reason.BAD_CONFIG,
                hint="write --pair encoder.layer.0=encoder.layers.0",
            )
        pairs[base.strip()] = raw.strip()
    return pairs
