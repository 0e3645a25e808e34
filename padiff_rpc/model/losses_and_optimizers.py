"""Neutral specs of losses and optimisers: text such as `Adam(lr=1e-3)` that means the same in every framework."""

from __future__ import annotations

import ast
from collections.abc import Mapping

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import LossSpec, OptimizerSpec

NEUTRAL_LOSSES: Mapping[str, Mapping[str, float]] = {
    "projection": {"seed": 0.0},
    "mean": {},
    "sum": {},
    "mse": {},
    "cross_entropy": {},
}
"""Maps each neutral loss to its options with their defaults.

`mean` and `sum` run over all floating outputs together; `mean` is the mean of each output's mean, PaDiff's default for one
output. `mse` and `cross_entropy` compare the first floating output with targets["target"], which has the output's
shape for `mse`, and holds class indices over the last axis for `cross_entropy`, which is the mean over all positions but those
whose index is IGNORED. `projection` is the sum of all floating elements times pseudo-random weights (see projection_weights),
divided by the square root of their number.
"""

IGNORED = -100
"""The class index of a position that cross_entropy leaves out, as in both frameworks' own."""

NEUTRAL_OPTIMIZERS: Mapping[str, Mapping[str, float]] = {
    "SGD": {"lr": 0.01, "momentum": 0.0, "weight_decay": 0.0},
    "Adam": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "AdamW": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01},
}
"""Maps each neutral optimiser to its options with their defaults. They are always passed on: a framework's own never apply."""


def parse_loss(text: str) -> LossSpec:
    """Read a loss such as `mean` or `projection(seed=3)`. A name that is not neutral is left for the worker to look up.

    Raises:
        PadiffError: BAD_CONFIG for text that does not parse, and for an option that a neutral loss does not take.
    """
    name, options = _parse_call(text, "loss")
    return LossSpec(name, _with_defaults(text, name, options, NEUTRAL_LOSSES))


def parse_optimizer(text: str) -> OptimizerSpec:
    """Read an optimiser such as `SGD(lr=0.1, momentum=0.9)`. A name that is not neutral is left for the worker to look up.

    Raises:
        PadiffError: BAD_CONFIG for text that does not parse, and for an option that a neutral optimiser does not take.
    """
    name, options = _parse_call(text, "optimizer")
    return OptimizerSpec(name, _with_defaults(text, name, options, NEUTRAL_OPTIMIZERS))


def counted_positions(indices: np.ndarray, classes: int) -> np.ndarray:
    """Return the flat positions of the class indices that cross_entropy counts: all but those that are IGNORED.

    A loss is taken over these alone, since paddle 3.3.1 divides its own mean by the number of all.

    Raises:
        PadiffError: BAD_CONFIG for an index that is no class, and where none is left.
    """
    flat = indices.reshape(-1)
    counted = np.flatnonzero(flat != IGNORED)
    if not counted.size:
        raise PadiffError(
            f"all {flat.size} cross_entropy targets are {IGNORED}, which leaves a position out",
            reason=Reason.BAD_CONFIG,
            hint="give at least one position a class: a loss over nothing has no gradient to compare",
        )
    least, most = flat[counted].min(), flat[counted].max()
    if least < 0 or most >= classes:
        raise PadiffError(
            f"the cross_entropy target runs from {least} to {most}, the output has {classes} classes",
            reason=Reason.BAD_CONFIG,
            hint=f"class indices go from 0 to {classes - 1}; {IGNORED} leaves a position out",
        )
    return counted


_BLOCK = 1 << 14
"""The number of projection weights made at a time: the several float64 arrays that their hash needs are to stay in cache."""


def projection_weights(start: int, stop: int, seed: int, dtype: type[np.floating] = np.float64) -> np.ndarray:
    """Return the pseudo-random weights of the projection loss for the elements start..stop: in [-1, 1), rounded to `dtype`.

    They are a SplitMix64 hash of (seed, index), so that every NumPy version on every host yields the same numbers
    (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
    """
    weights = np.empty(stop - start, dtype)
    for at in range(start, stop, _BLOCK):
        end = min(at + _BLOCK, stop)
        weights[at - start : end - start] = _hashed_weights(at, end, seed)
    return weights


def _hashed_weights(start: int, stop: int, seed: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        z = np.arange(start, stop, dtype=np.uint64) + np.uint64((seed * 0x632BE59BD9B4E019 + 1) % (1 << 64))
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0


def _parse_call(text: str, what: str) -> tuple[str, dict[str, float]]:
    usage = f"write a {what} as NAME or NAME(option=number, ...), for example " + (
        "projection(seed=1)" if what == "loss" else "Adam(lr=1e-3)"
    )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as err:
        raise PadiffError(f"cannot read the {what} {text!r}", reason=Reason.BAD_CONFIG, hint=usage) from err
    if isinstance(tree, ast.Name):
        return tree.id, {}
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args:
        raise PadiffError(f"cannot read the {what} {text!r}", reason=Reason.BAD_CONFIG, hint=usage)
    options: dict[str, float] = {}
    for keyword in tree.keywords:
        try:
            value = ast.literal_eval(keyword.value)
        except ValueError as err:
            raise PadiffError(f"cannot read the {what} {text!r}", reason=Reason.BAD_CONFIG, hint=usage) from err
        if keyword.arg is None or isinstance(value, bool) or not isinstance(value, (int, float)):
            raise PadiffError(f"option {keyword.arg!r} of {text!r} is no number", reason=Reason.BAD_CONFIG, hint=usage)
        options[keyword.arg] = float(value)
    return tree.func.id, options


def _with_defaults(
    text: str, name: str, options: dict[str, float], known: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    if name not in known:
        return options
    unknown = sorted(set(options) - set(known[name]))
    if unknown:
        raise PadiffError(
            f"{text!r}: {name} takes no option {unknown[0]!r}",
            reason=Reason.BAD_CONFIG,
            hint=f"its options are {', '.join(known[name]) or 'none'}",
        )
    return {**known[name], **options}
