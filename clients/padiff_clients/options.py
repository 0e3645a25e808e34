"""Make the options of the command line from the keys of a run file, and a run from the options that are given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from annotated_types import Ge, Gt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from padiff_clients.run_keys import CompareTable, MapTable, Option, RunFile, SideTable, StoreTable, marked
from padiff_clients.runfile import load_map_file, validate
from padiff_rpc.errors import PadiffError, Reason

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]

_MODELS = {"base": "The trusted model.", "raw": "The other model."}
_MAP_OPTIONS = (
    click.option(
        "--map",
        "map_file",
        metavar="FILE",
        help="A map, on top of the automatic match: FILE.toml, FILE.json of renames, FILE.aoa of AOA statements, or `raw` for "
        "the AOA statements that raw's own class gives.",
    ),
    click.option(
        "--pair", "pairs", metavar="BASE=RAW", multiple=True, help="Two layers that correspond, by route; repeatable."
    ),
)


def diff_options(command: F) -> F:
    """Add every option of `diff` to a command: one for each declared key, in the order of the keys."""
    quiet = click.option("--quiet", is_flag=True, help="No progress, and only the verdict on stdout.")
    for decorator in reversed([*_options_of(RunFile), quiet]):
        command = decorator(command)
    return command


def map_options(command: F) -> F:
    """Add the options that give a map."""
    for decorator in reversed(_MAP_OPTIONS):
        command = decorator(command)
    return command


def option(table: type[BaseModel], key: str, *, side: str = "", flag: str = "", **changes: Any) -> Decorator:
    """Return the option that stands for a key, made from the key's declaration.

    Args:
        table: declares the key.
        key: names the key, and the parameter that takes the option's value.
        side: begins the names of the option and of its parameter (`--base-device`, `base_device`) if it is for one of two models.
        flag: replaces the name of the option that the declaration gives.
        changes: replace arguments of click.option() that follow from the declaration, such as `help`.
    """
    declared, field = dict(marked(table, Option))[key], table.model_fields[key]
    flag = flag or declared.flag or f"--{key.replace('_', '-')}"
    if bool in get_args(field.annotation) and "/" not in flag:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    if side:
        flag, key = flag.replace("--", f"--{side}-"), f"{side}_{key}"
    return click.option(flag, key, **{"help": declared.help, "metavar": declared.metavar, **_kind(field), **changes})


def as_run(options: Mapping[str, Any]) -> RunFile:
    """Return the run that the options of `diff` ask for. Only the keys that they give are set in it.

    Raises:
        PadiffError: BAD_CONFIG for an option whose value makes no sense.
    """
    layers = _pairs(options["pairs"])
    mapped = load_map_file(Path(options["map_file"])).model_dump(exclude_unset=True) if options["map_file"] else {}
    values = {
        **_given(RunFile, options),
        **{side: _side_given(options, f"{side}_", f"--{side}-arg") for side in _MODELS},
        "compare": _given(CompareTable, options),
        "store": _given(StoreTable, options),
        "map": {**mapped, **({"layers": {**mapped.get("layers", {}), **layers}} if layers else {})},
    }
    return validate(values, "the command line")


def as_run_of_one(options: Mapping[str, Any]) -> RunFile:
    """Return the run that the options of a command for one model ask for. The model stands in the place of base."""
    side = _side_given(options, "", "--model-arg")
    rest = {key: value for key, value in _given(RunFile, options).items() if key not in SideTable.model_fields}
    return validate({**rest, "base": side}, "the command line")


def _options_of(table: type[BaseModel], side: str = "") -> Iterator[Decorator]:
    """Yield the options of a table's keys. Where a key holds a table, the options of that table follow."""
    declared = dict(marked(table, Option))
    for key, field in table.model_fields.items():
        if key in _MODELS:
            yield click.option(f"--{key}", f"{key}_spec", metavar="SPEC", help=_MODELS[key])
            yield from _options_of(SideTable, side=key)
        elif field.annotation is MapTable:
            yield from _MAP_OPTIONS
        elif field.annotation in (CompareTable, StoreTable):
            yield from _options_of(field.annotation)
        elif key in declared:
            yield option(table, key, side=side)


def _kind(field: FieldInfo) -> dict[str, Any]:
    """Return the arguments of click.option() that follow from a field's type and bounds."""
    if get_origin(field.annotation) in (list, dict):
        return {"multiple": True}
    kind = next(one for one in get_args(field.annotation) if one is not NoneType)
    if get_origin(kind) is Literal:
        return {"type": click.Choice(get_args(kind))}
    if kind is bool:
        return {"default": None}
    for bound in field.metadata:
        if isinstance(bound, (Ge, Gt)):
            least: Any = bound.ge if isinstance(bound, Ge) else bound.gt
            in_range = click.IntRange if kind is int else click.FloatRange
            return {"type": in_range(least, min_open=isinstance(bound, Gt))}
    return {"type": kind}


def _given(table: type[BaseModel], options: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return the keys of a table that the options give a value. `before` begins their parameters' names."""
    values = {key: options.get(f"{before}{key}") for key in table.model_fields}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if value not in (None, ())
    }


def _side_given(options: Mapping[str, Any], before: str, arg: str) -> dict[str, Any]:
    """Return the keys of one model that the options give a value; `arg` names the option of its factory's arguments."""
    given = _given(SideTable, options, before)
    args = _parse_args(given.pop("args", ()), arg)
    return {**given, **({"args": args} if args else {})}


def _parse_args(texts: Iterable[str], name: str) -> dict[str, Any]:
    """Read NAME=JSON arguments of a factory; BAD_CONFIG, naming the option, otherwise."""
    args: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        try:
            if not equals or not key.isidentifier():
                raise ValueError("it is not NAME=JSON")
            args[key] = json.loads(value)
        except ValueError as err:
            raise PadiffError(
                f"cannot read {name} {text!r}: {err}",
                reason=Reason.BAD_CONFIG,
                hint=f"write {name} layers=4, {name} pretrained=true or {name} 'name=\"large\"' (text in quotes)",
            ) from err
    return args


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
