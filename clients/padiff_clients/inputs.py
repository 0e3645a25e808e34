"""What the models are fed: arrays from an .npz file, or from a user's function."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Inputs
from padiff_rpc.tensor import Tensor

FORMS = (
    "give FILE.npz with one array per keyword argument of forward, or FILE.py:function that returns one dict of arrays, "
    "or a pair of dicts (base's, raw's)"
)


def load_inputs(base: str, raw: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load both sides' inputs as nests of NumPy arrays; the same source is read once, so that a random one agrees.

    BAD_INPUTS names the file, the function or the key at fault.
    """
    if base == raw:
        return _load(base)
    loaded = []
    for source in (base, raw):
        one, other = _load(source)
        if one is not other:
            raise _bad(
                f"{source!r} returned a pair, but it is the source of one side only",
                "name it as --inputs, for both sides, or return one dict",
            )
        loaded.append(one)
    return loaded[0], loaded[1]


def load_targets(source: str) -> dict[str, Any]:
    """Load the arrays that a loss compares with, by name."""
    if not source.endswith(".npz"):
        raise _bad(f"cannot read targets from {source!r}", "give an .npz file, for example with an array `target`")
    return _read_npz(source)


def as_tensors(values: Any, where: str, *, float64: bool) -> Any:
    """Turn a nest's arrays into tensors; `where` names it in errors. `float64` casts the narrower floating ones."""
    if isinstance(values, np.ndarray):
        if values.dtype.hasobject:
            raise _bad(f"{where} is an array of Python objects", "give numbers or booleans")
        if float64 and values.dtype.kind == "f":
            values = values.astype(np.float64)
        try:
            return Tensor.from_array(values)
        except PadiffError as err:
            raise _bad(f"{where}: {err.message}", "give numbers or booleans") from err
    if isinstance(values, np.generic):
        return values.item()
    if values is None or isinstance(values, (bool, int, float, str)):
        return values
    if isinstance(values, Mapping):
        for key in values:
            if not isinstance(key, str):
                raise _bad(f"{where} has the key {key!r}, which is no text", FORMS)
        return {key: as_tensors(value, f"{where}[{key!r}]", float64=float64) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        items = [as_tensors(value, f"{where}[{at}]", float64=float64) for at, value in enumerate(values)]
        return items if isinstance(values, list) else tuple(items)
    raise _bad(
        f"{where} is a {type(values).__module__}.{type(values).__qualname__}",
        "give NumPy arrays, None, numbers, booleans, text, or lists, tuples and dicts of these",
    )


def model_inputs(values: Mapping[str, Any], source: str, *, float64: bool) -> Inputs:
    """Return forward's keyword arguments; BAD_INPUTS names the key that cannot be sent."""
    return as_tensors(dict(values), source, float64=float64)


def _load(source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if source.endswith(".npz"):
        arrays = _read_npz(source)
        return arrays, arrays
    file, colon, function = source.rpartition(":")
    if colon and file.endswith(".py") and function.isidentifier():
        return _from_function(Path(file), function)
    raise _bad(f"cannot read inputs from {source!r}", FORMS)


def _read_npz(source: str) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    try:
        with np.load(source, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise _bad(f"{source!r} holds a single array", "save it by name: np.savez(FILE, x=array)")
            for key in file.files:
                try:
                    arrays[key] = file[key]
                except ValueError as err:
                    raise _bad(f"{source!r}: array {key!r} cannot be read: {err}", "give numbers or booleans") from err
    except OSError as err:
        raise _bad(f"cannot read {source!r}: {err.strerror or err}", FORMS) from err
    except (ValueError, zipfile.BadZipFile, EOFError) as err:
        raise _bad(f"{source!r} is no .npz file: {err}", "write it with np.savez(FILE, name=array, ...)") from err
    if not arrays:
        raise _bad(f"{source!r} holds no arrays", FORMS)
    return arrays


def _from_function(file: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    where = f"{str(file)!r}: {name}()"
    with _users_code(file, f"{str(file)!r} failed while it was loaded"):
        module = _run_file(file)
    function = getattr(module, name, None)
    if not callable(function):
        raise _bad(f"{str(file)!r} has no function {name!r}", f"define `def {name}():` in it")
    with _users_code(file, f"{where} failed"):
        returned = _call(function)
    if isinstance(returned, Mapping):
        values = dict(returned)
        return _checked(values, where), values
    if isinstance(returned, (tuple, list)) and len(returned) == 2 and all(isinstance(one, Mapping) for one in returned):
        return _checked(dict(returned[0]), where), _checked(dict(returned[1]), where)
    raise _bad(f"{where} returned a {type(returned).__name__}", "return one dict of arrays, or a pair of dicts (base's, raw's)")


def _checked(values: dict[str, Any], where: str) -> dict[str, Any]:
    if not values:
        raise _bad(f"{where} returned an empty dict", "return the keyword arguments of the model's forward")
    return values


def _call(function: Callable[[], Any]) -> Any:
    return function()


def _run_file(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"padiff_inputs_{file.stem}", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise _bad(f"there is no file {str(file)!r}", FORMS)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, os.path.dirname(os.path.abspath(file)))  # so that the file may import what lies beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


@contextmanager
def _users_code(file: Path, failed: str) -> Iterator[None]:
    """Report what the user's code raises, with the frames from their file on."""
    try:
        yield
    except PadiffError:
        raise
    except Exception as err:
        frames = traceback.extract_tb(err.__traceback__)
        mine = os.path.abspath(file)
        first = next((at for at, frame in enumerate(frames) if os.path.abspath(frame.filename) == mine), len(frames))
        lines = traceback.format_list(frames[first:]) + traceback.format_exception_only(err)
        cure = "install it in this Python, or write the arrays to an .npz file elsewhere"
        raise PadiffError(
            f"{failed}: {type(err).__name__}: {err}",
            reason=Reason.BAD_INPUTS,
            hint=cure if isinstance(err, ModuleNotFoundError) else "",
            metadata={"traceback": "".join(lines)},
        ) from err


def _bad(message: str, hint: str) -> PadiffError:
    return PadiffError(message, reason=Reason.BAD_INPUTS, hint=hint)
