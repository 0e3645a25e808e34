"""How one tensor is changed: by name, for parameters, for values between layers and for results of functional calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.mutations.frameworks import Framework

Shape = tuple[int, ...]
Change = Callable[[Framework, Any], Any]
"""Returns the changed tensor; gradients flow through it unless they are what is changed."""
Fits = Callable[[Shape], bool]


def _roll(fw: Framework, x: Any, axis: int, by: int = 1) -> Any:
    size = x.shape[axis]
    return fw.take(x, [(at - by) % size for at in range(size)], axis)


def _blocks_swapped(fw: Framework, x: Any, axis: int, blocks: int) -> Any:
    """Swap the first two of so many equal blocks along an axis."""
    width = x.shape[axis] // blocks
    order = [*range(width, 2 * width), *range(width), *range(2 * width, x.shape[axis])]
    return fw.take(x, order, axis)


def _weighted(fw: Framework, x: Any, where: tuple[Any, ...], factor: float) -> Any:
    """Multiply a part by a factor."""
    factors = np.ones(tuple(x.shape), np.float32)
    factors[where] = factor
    return x * fw.constant(factors, x)


def _gradient_scaled(x: Any, factor: float) -> Any:
    """Leave the values, to rounding, and multiply the gradient."""
    return x * factor + x.detach() * (1 - factor)


def _spoiled(fw: Framework, x: Any) -> Any:
    spoilt = np.zeros(tuple(x.shape), np.float32)
    spoilt.reshape(-1)[-1] = np.nan
    return x + fw.constant(spoilt, x)


def _last_element(shape: Shape) -> tuple[int, ...]:
    return tuple(size // 2 for size in shape)


def _divisible(shape: Shape, axis: int, blocks: int) -> bool:
    return len(shape) >= 1 and shape[axis] >= 2 * blocks and shape[axis] % blocks == 0


def _numbers(shape: Shape) -> int:
    return int(np.prod(shape))


PARAMETER_CHANGES: Mapping[str, tuple[Fits, Change]] = {
    "transposed": (lambda s: len(s) == 2 and s[0] == s[1] > 1, lambda fw, x: fw.swapped(x, 0, 1)),
    "two of 4 blocks of rows swapped": (
        lambda s: len(s) == 2 and _divisible(s, 0, 4),
        lambda fw, x: _blocks_swapped(fw, x, 0, 4),
    ),
    "two of 4 blocks of columns swapped": (
        lambda s: len(s) == 2 and _divisible(s, 1, 4),
        lambda fw, x: _blocks_swapped(fw, x, 1, 4),
    ),
    "halves of columns swapped": (
        lambda s: len(s) == 2 and _divisible(s, 1, 2),
        lambda fw, x: _blocks_swapped(fw, x, 1, 2),
    ),
    "rows shifted by one": (lambda s: len(s) >= 2 and s[0] > 1, lambda fw, x: _roll(fw, x, 0)),
    "kernel flipped": (
        lambda s: len(s) == 4 and s[3] > 1,
        lambda fw, x: fw.take(x, list(range(x.shape[3]))[::-1], 3),
    ),
    "kernel transposed": (lambda s: len(s) == 4 and s[2] == s[3] > 1, lambda fw, x: fw.swapped(x, 2, 3)),
    "experts swapped": (lambda s: len(s) == 3 and s[0] > 1, lambda fw, x: _blocks_swapped(fw, x, 0, x.shape[0])),
    "dropped": (lambda s: len(s) == 1, lambda fw, x: x * 0.0),
    "taken twice": (lambda s: len(s) == 1, lambda fw, x: x + x),
    "scaled by 1.01": (lambda s: True, lambda fw, x: x * 1.01),
    "rounded to half": (lambda s: True, lambda fw, x: fw.rounded(x)),
    "one element by 1.5": (
        lambda s: _numbers(s) > 1,
        lambda fw, x: _weighted(fw, x, _last_element(tuple(x.shape)), 1.5),
    ),
    "gradient cut": (lambda s: True, lambda fw, x: x.detach()),
    "gradient scaled by 0.9": (lambda s: True, lambda fw, x: _gradient_scaled(x, 0.9)),
}

VALUE_CHANGES: Mapping[str, tuple[Fits, Change]] = {
    "scaled by 1.01": (lambda s: True, lambda fw, x: x * 1.01),
    "scaled by 1.001": (lambda s: True, lambda fw, x: x * 1.001),
    "offset by 0.01": (lambda s: True, lambda fw, x: x + 0.01),
    "negated": (lambda s: True, lambda fw, x: x * -1.0),
    "rounded to half": (lambda s: True, lambda fw, x: fw.rounded(x)),
    "shifted along the last axis": (lambda s: len(s) > 1 and s[-1] > 1, lambda fw, x: _roll(fw, x, -1)),
    "shifted along axis 1": (lambda s: len(s) > 2 and s[1] > 1, lambda fw, x: _roll(fw, x, 1)),
    "batch shifted": (lambda s: len(s) > 1 and s[0] > 1, lambda fw, x: _roll(fw, x, 0)),
    "halves swapped": (
        lambda s: len(s) > 1 and _divisible(s, -1, 2),
        lambda fw, x: _blocks_swapped(fw, x, -1, 2),
    ),
    "axes swapped": (
        lambda s: len(s) > 2 and s[-1] == s[-2] > 1,
        lambda fw, x: fw.swapped(x, len(x.shape) - 2, len(x.shape) - 1),
    ),
    "one row by 1.1": (
        lambda s: len(s) > 1 and s[0] > 1,
        lambda fw, x: _weighted(fw, x, (slice(-1, None),), 1.1),
    ),
    "last position zeroed": (
        lambda s: len(s) > 2 and s[1] > 1,
        lambda fw, x: _weighted(fw, x, (slice(None), slice(-1, None)), 0.0),
    ),
    "one element by 1.5": (
        lambda s: _numbers(s) > 1,
        lambda fw, x: _weighted(fw, x, _last_element(tuple(x.shape)), 1.5),
    ),
    "one element NaN": (lambda s: _numbers(s) > 1, _spoiled),
    "gradient cut": (lambda s: True, lambda fw, x: x.detach()),
    "gradient scaled by 0.9": (lambda s: True, lambda fw, x: _gradient_scaled(x, 0.9)),
    "gradient negated": (lambda s: True, lambda fw, x: _gradient_scaled(x, -1.0)),
    "gradient of one row cut": (
        lambda s: len(s) > 1 and s[0] > 1,
        lambda fw, x: _one_row_detached(fw, x),
    ),
}

INTEGER_CHANGES: Mapping[str, tuple[Fits, Change]] = {
    "shifted by one position": (lambda s: len(s) >= 1 and s[-1] > 1, lambda fw, x: _roll(fw, x, -1)),
    "last position as the first": (
        lambda s: len(s) >= 1 and s[-1] > 1,
        lambda fw, x: fw.take(x, [*range(x.shape[-1] - 1), 0], -1),
    ),
}

RESULT_CHANGES: Mapping[str, tuple[Fits, Change]] = {
    name: VALUE_CHANGES[name]
    for name in (
        "scaled by 1.01",
        "offset by 0.01",
        "rounded to half",
        "shifted along the last axis",
        "one element by 1.5",
        "gradient cut",
        "gradient scaled by 0.9",
    )
}
"""What is done to the result of a functional call; `calls` knows what else is done to a call."""


def _one_row_detached(fw: Framework, x: Any) -> Any:
    kept = np.ones(tuple(x.shape), np.float32)
    kept[-1] = 0.0
    return x * fw.constant(kept, x) + x.detach() * fw.constant(1 - kept, x)
