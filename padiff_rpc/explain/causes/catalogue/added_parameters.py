"""A parameter of the layer that is added: left out, twice, shifted against the rest, or the rest shifted against it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import explained, told_share
from padiff_rpc.result import Cause

_ENOUGH = 0.98
_ELEMENTS = 1 << 17
"""The first entries of the batch that hold so many elements show how it is added."""


def added_parameter(evidence: Evidence) -> Sequence[Cause]:
    """Take each parameter of the layer out of base, and put it back otherwise."""
    pair = evidence.pair
    if pair is None or evidence.stage != "forward" or pair[0].ndim < 2:
        return ()
    entries = max(1, _ELEMENTS * len(pair[0]) // pair[0].size)
    base, raw = (array[:entries] if array.ndim > 2 else array for array in pair)
    for name, held in evidence.parameters.items():
        added = _broadcast(held, base.shape)
        if added is None:
            continue
        for words, made in _otherwise(base, added):
            share = explained(base, raw, made)
            if share >= _ENOUGH:
                shown = f"raw = base with {name} put in otherwise; this {told_share(share)}"
                return (Cause("added parameter", words.format(name=name), shown, 0.965 * share),)
    return ()


def _broadcast(held: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a parameter in the shape of what it is added to, of a longer table its first rows; None where it does not fit."""
    if held.ndim < 2 or held.ndim > len(shape) or held.shape[-1] != shape[-1]:
        return None
    if held.ndim == 2 and held.shape[0] > shape[-2]:
        held = held[: shape[-2]]
    fits = all(own in (1, other) for own, other in zip(held.shape[::-1], shape[::-1], strict=False))
    return np.broadcast_to(held, shape) if fits else None


def _otherwise(base: np.ndarray, added: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    rest = base - added
    yield "raw does not add {name!r}: it is missing", rest
    yield "raw adds {name!r} twice", base + added
    axis = base.ndim - 2
    for by in (1, -1, 2, -2):
        if base.shape[axis] > 2 * abs(by):
            yield f"raw adds {{name!r}} shifted by {by:+d} position", rest + np.roll(added, by, axis)
            yield (
                f"what {{name!r}} is added to is shifted by {by:+d} position in raw (order)",
                np.roll(rest, by, axis) + added,
            )
    length = base.shape[axis]
    for first in (0, 1):
        side = round((length - first) ** 0.5)
        if side > 1 and side * side == length - first:
            grid = np.arange(side * side).reshape(side, side).T.reshape(-1) + first
            places = np.concatenate([np.arange(first), grid])
            words = "what {name!r} is added to has its rows and columns swapped in raw (order of positions)"
            yield words, np.take(rest, places, axis=axis) + added
