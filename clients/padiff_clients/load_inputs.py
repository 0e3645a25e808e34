"""Load what the models are fed: arrays from an .npz file, or from a user's function."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.factory import load_function
from padiff_rpc.model.hosting.user_errors import user_error
from padiff_rpc.model.model import Inputs
from padiff_rpc.tensors.tensor import Tensor

FORMS = (
    "give FILE.npz with one array per keyword argument of forward, or FILE.py:function that returns one dict of arrays, "
    "or a pair of dicts (base's, raw's)"
)


def load_inputs(base: str, raw: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Load both sides' inputs as nests of NumPy arrays.

    A source that both sides share is read once, so that random inputs are the same on both sides.

    Raises:
        PadiffError: BAD_INPUTS, naming the file, the function or the key at fault.
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


def load_one(source: str) -> dict[str, Any]:
    """Load the inputs of one model; raise BAD_INPUTS if a function returns a pair."""
    one, other = _load(source)
    if one is not other:
        raise _bad(f"{source!r} returned a pair, and there is one model", "return one dict")
    return one


def load_targets(source: str) -> dict[str, Any]:
    """Load the arrays that a loss compares with, by name; raise BAD_INPUTS for anything but an .npz file."""
    if not source.endswith(".npz"):
        raise _bad(f"cannot read targets from {source!r}", "give an .npz file, for example with an array `target`")
    return _read_npz(source)


def as_tensors(values: Any, where: str, *, float64: bool) -> Any:
    """Turn the arrays of a nest into tensors.

    Args:
        values: a nest of arrays, None, numbers, booleans and text in lists, tuples and dicts.
        where: names the nest in errors.
        float64: casts floating arrays to float64.

    Raises:
        PadiffError: BAD_INPUTS, naming the place of a value that no model can be sent.
    """
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
    """Return the keyword arguments of forward as tensors; see `as_tensors`."""
    return as_tensors(dict(values), source, float64=float64)


def _load(source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if source.endswith(".npz"):
        arrays = _read_npz(source)
        return arrays, arrays
    file, colon, function = source.rpartition(":")
    if colon and file.endswith(".py") and function.isidentifier():
        return _from_function(source)
    raise _bad(f"cannot read inputs from {source!r}", FORMS)


def _read_npz(source: str) -> dict[str, Any]:
    try:
        file = np.load(source, allow_pickle=False)
    except OSError as err:
        raise _bad(f"cannot read {source!r}: {err.strerror or err}", FORMS) from err
    except (ValueError, zipfile.BadZipFile, EOFError) as err:
        raise _bad(f"{source!r} is no .npz file: {err}", "write it with np.savez(FILE, name=array, ...)") from err
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise _bad(f"{source!r} holds a single array", "save it by name: np.savez(FILE, x=array)")
    arrays: dict[str, Any] = {}
    with file:
        for key in file.files:
            try:
                arrays[key] = file[key]
            except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as err:
                raise _bad(f"{source!r}: array {key!r} cannot be read: {err}", "give numbers or booleans") from err
    if not arrays:
        raise _bad(f"{source!r} holds no arrays", FORMS)
    return arrays


def _from_function(place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        function = load_function(place)
    except PadiffError as err:
        missing = isinstance(err.__cause__, ModuleNotFoundError)
        cure = "install it in this Python, or write the arrays to an .npz file elsewhere"
        raise PadiffError(
            err.message, reason=Reason.BAD_INPUTS, hint=cure if missing else err.hint, metadata=err.metadata
        ) from err
    try:
        returned = function()
    except (Exception, SystemExit) as err:
        err.__traceback__ = err.__traceback__ and err.__traceback__.tb_next  # without this very frame
        raise user_error(f"the inputs function {place!r} raised", err, "numpy", Reason.BAD_INPUTS) from err
    if isinstance(returned, Mapping):
        values = dict(returned)
        return _checked(values, place), values
    if isinstance(returned, (tuple, list)) and len(returned) == 2 and all(isinstance(one, Mapping) for one in returned):
        return _checked(dict(returned[0]), place), _checked(dict(returned[1]), place)
    raise _bad(
        f"the inputs function {place!r} returned a {type(returned).__name__}",
        "return one dict of arrays, or a pair of dicts (base's, raw's)",
    )


def _checked(values: dict[str, Any], place: str) -> dict[str, Any]:
    if not values:
        raise _bad(
            f"the inputs function {place!r} returned an empty dict",
            "return the keyword arguments of the model's forward",
        )
    return values


def _bad(message: str, hint: str) -> PadiffError:
    return PadiffError(message, reason=Reason.BAD_INPUTS, hint=hint)
