"""The run file: a TOML description of a whole `diff`, checked key by key."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from padiff_clients.run_keys import Anchored, CompareTable, MapTable, RunFile, SideTable, StoreTable, marked
from padiff_rpc.errors import PadiffError, Reason

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pyright: ignore[reportMissingImports]

_FOR_BOTH = ("inputs", "loss", "optimizer", "dtype", "token_file", "tls_ca")
"""Top-level keys that stand for the same key in both sides' tables."""
_EITHER = (("loss", "loss_fn"), ("optimizer", "optimizer_fn"))
_OF_RAW = "raw"
"""Stands in --map for the AOA statements of raw's own class."""
_TABLES: Mapping[str, type[BaseModel]] = {
    "": RunFile,
    "base": SideTable,
    "raw": SideTable,
    "compare": CompareTable,
    "map": MapTable,
    "store": StoreTable,
}


def load_run_file(path: Path) -> RunFile:
    """Read and check a run file. Relative paths in it are taken from its own folder.

    Raises:
        PadiffError: BAD_CONFIG, naming the file and every wrong key.
    """
    run = validate(_read_toml(path), str(path))
    values = run.model_dump(exclude_unset=True)
    folder = os.path.dirname(os.path.abspath(path))
    for table, given in ((RunFile, values), (SideTable, values.get("base", {})), (SideTable, values.get("raw", {}))):
        for key, anchored in marked(table, Anchored):
            if key in given:
                given[key] = anchored.by(given[key], folder)
    return validate(values, str(path))


def load_map_file(path: Path) -> MapTable:
    """Read a map: a TOML file with the tables of a run file's [map], a JSON file of renames or AOA statements, a text of these.

    The path `raw` asks for the statements of raw's own class.
    """
    if str(path) == _OF_RAW:
        return MapTable(raw_statements=True)
    if path.suffix == ".json":
        table = _json_table(path)
    elif path.suffix == ".aoa":
        table = {"aoa_statements": _statements(_read_text(path))}
    else:
        table = _read_toml(path)
    return validate({"map": table}, str(path)).map


def validate(values: Mapping[str, Any], source: str) -> RunFile:
    """Check the values of a run key by key.

    Args:
        values: map keys to values, as in a run file.
        source: says in errors where the values are from.

    Raises:
        PadiffError: BAD_CONFIG, listing every wrong key.
    """
    try:
        run = RunFile.model_validate(values)
    except ValidationError as err:
        problems = [_problem(error["loc"], error["type"], error["msg"], error["input"]) for error in err.errors()]
        raise PadiffError(
            f"{source}: {'; '.join(problems)}",
            reason=Reason.BAD_CONFIG,
            hint="docs/cli.md lists every key of a run file",
        ) from err
    for name in ("base", "raw"):
        for key, other in _EITHER:
            if getattr(getattr(run, name), key) and getattr(getattr(run, name), other):
                raise PadiffError(
                    f"{source}: [{name}] has both {key!r} and {other!r}",
                    reason=Reason.BAD_CONFIG,
                    hint=f"{key!r} names one that the worker knows, {other!r} brings one from a file: keep one of them",
                )
    return run


def merge(file: RunFile, options: RunFile) -> RunFile:
    """Return the run of a file and options, of which the options go before the file's keys.

    Keys for both sides are put into the tables of base and raw, unless a table has the key already.
    """
    values = _pushed_down(file.model_dump(exclude_unset=True))
    over = _pushed_down(options.model_dump(exclude_unset=True))
    for name in ("base", "raw"):
        for either in _EITHER:
            if any(key in over[name] for key in either):
                for key in either:
                    values[name].pop(key, None)
    return RunFile.model_validate(_deep_merge(values, over))


def _pushed_down(values: dict[str, Any]) -> dict[str, Any]:
    values = {**values, "base": {**values.get("base", {})}, "raw": {**values.get("raw", {})}}
    for key in _FOR_BOTH:
        if key in values:
            shared = values.pop(key)
            for name in ("base", "raw"):
                if not any(other in values[name] for either in _EITHER if key in either for other in either):
                    values[name].setdefault(key, shared)
    return values


def _deep_merge(values: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _deep_merge(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        reason = (isinstance(err, OSError) and err.strerror) or err
        raise PadiffError(f"cannot read {str(path)!r}: {reason}", reason=Reason.BAD_CONFIG) from err


def _statements(text: str) -> list[str]:
    """Return the AOA statements of a file: one a line, but for empty lines and those that begin with #."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as err:
        raise PadiffError(
            f"{path} is no valid TOML: {err}",
            reason=Reason.BAD_CONFIG,
            hint='text needs quotes in TOML: inputs = "inputs.npz"',
        ) from err


def _json_table(path: Path) -> dict[str, Any]:
    """Return the table of a map that a JSON file holds: renames, or what Paddle calls an AOA config."""
    value = _read_json(path)
    if not isinstance(value, dict) or "aoa_statements" not in value:
        return {"renames": value}
    if value.get("aoa_config_reverse"):
        raise PadiffError(
            f"{str(path)!r} holds AOA statements from raw to base (aoa_config_reverse)",
            reason=Reason.BAD_CONFIG,
            hint="give statements from base's names to raw's, or let the two models change sides",
        )
    return {"aoa_statements": value["aoa_statements"]}


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise PadiffError(
            f"cannot read {str(path)!r}: {(isinstance(err, OSError) and err.strerror) or err}",
            reason=Reason.BAD_CONFIG,
            hint=r'a JSON of renames holds {"^bert\\.(.+)": "model.\\1"}: a regular expression, and what it becomes',
        ) from err


def _problem(where: tuple[int | str, ...], kind: str, message: str, value: Any) -> str:
    table = str(where[0]) if len(where) > 1 and where[0] in _TABLES else ""
    key = ".".join(map(str, where[1:] if table else where))
    place = f"in [{table}]" if table else "at the top level"
    if kind != "extra_forbidden":
        return f"key {key!r} {place}: {message[:1].lower()}{message[1:]}, got {value!r}"
    return f"unknown key {key!r} {place}{_nearest(key, table)}"


def _nearest(key: str, table: str) -> str:
    elsewhere = [name for name, model in _TABLES.items() if key in model.model_fields and name != table]
    here = difflib.get_close_matches(key, _TABLES[table].model_fields, n=1)
    if elsewhere and not here:
        names = " or ".join(f"[{name}]" if name else "the top level" for name in elsewhere)
        return f": it belongs to {names}"
    if here:
        return f": did you mean {here[0]!r}?"
    far = {name: difflib.get_close_matches(key, model.model_fields, n=1) for name, model in _TABLES.items()}
    for name, found in far.items():
        if found:
            return f": did you mean {found[0]!r} {f'in [{name}]' if name else 'at the top level'}?"
    return f" (known there: {', '.join(_TABLES[table].model_fields)})"
