"""Measure how well an alternative explains a difference, so that every rule asks for the same strength of evidence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

ENOUGH = 0.8
"""The share of the squared difference that an alternative has to explain; chance explains none."""

_ALIKE = 1e-8
"""The part of the squared difference by which two candidates may differ and still fit about as well."""


@dataclass(frozen=True)
class TwoFits:
    """The names of the candidates that base and raw are, and the share of their difference that this explains."""

    base: str
    raw: str
    share: float


def sampled(most: int, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the same elements of arrays of one size, flat and evenly spread, at most so many of each."""
    every = -(-arrays[0].size // most)
    return tuple(array.reshape(-1)[::every] for array in arrays)


def square(array: np.ndarray) -> float:
    """Return the squared L2 norm of an array."""
    flat = array.reshape(-1)
    return float(np.dot(flat, flat))


def explained(base: np.ndarray, raw: np.ndarray, alternative: np.ndarray) -> float:
    """Return the share of |raw - base|² that is gone when `alternative` stands in for base.

    1 is an exact alternative, 0 one that is no better than base or than nothing but zeros, and what is worse is negative.
    """
    apart = min(square(raw - base), square(raw))
    if apart <= 0.0 or alternative.shape != raw.shape:
        return 0.0
    rest = square(raw - alternative)
    return 1.0 - rest / apart if np.isfinite(rest) else 0.0


def best_two(base: np.ndarray, raw: np.ndarray, candidates: Iterable[tuple[str, np.ndarray]]) -> TwoFits | None:
    """Find which candidate base is and which other one raw is; None where two of them do not explain the difference.

    Both fits have to be far better than the two sides are apart, so a difference that neither formula makes finds none. Among
    candidates that fit about as well the first is taken: the usual ones come first.
    """
    apart = min(square(raw - base), square(base), square(raw))
    if apart <= 0.0:
        return None
    names: list[str] = []
    of_base: list[float] = []
    of_raw: list[float] = []
    for name, one in candidates:
        if one.shape == base.shape:
            names.append(name)
            of_base.append(_rest(base, one))
            of_raw.append(_rest(raw, one))
    if len(names) < 2:
        return None
    mine, theirs = _first_best(of_base, apart), _first_best(of_raw, apart)
    share = 1.0 - (of_base[mine] + of_raw[theirs]) / apart
    return TwoFits(names[mine], names[theirs], share) if mine != theirs and share >= ENOUGH else None


def told_share(share: float) -> str:
    """Say how much of a difference is explained, without rounding up to all of it."""
    return f"explains {min(100 * share, 99.99):.2f} % of the difference" if share < 1 - 1e-9 else "explains all of it"


def told_factor(factor: float) -> str:
    """Write a factor so that 2 and 1.999 are told apart, and 1 from 1.00001."""
    if 0.0 < abs(abs(factor) - 1.0) < 1e-2:
        return f"{factor:.9g}" if abs(abs(factor) - 1.0) > 1e-8 else f"{factor:.4f}"
    return f"{factor:.4g}" if abs(factor) < 1e-3 or abs(factor) >= 1e4 else f"{factor:.4f}"


def _first_best(rests: list[float], apart: float) -> int:
    """Return the first candidate that fits about as well as the best one; what rounding leaves differs by chance."""
    limit = 2.0 * min(rests) + _ALIKE * apart
    return next(at for at, rest in enumerate(rests) if rest <= limit)


def _rest(array: np.ndarray, candidate: np.ndarray) -> float:
    rest = square(array - candidate)
    return rest if np.isfinite(rest) else np.inf
