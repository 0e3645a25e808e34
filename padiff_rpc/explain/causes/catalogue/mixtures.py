"""A sum whose weights change from position to position, as a mixture of experts has: other weights, order or parts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import square, told_factor
from padiff_rpc.result import Cause

_POSITIONS = 256
_WIDTH = 512
"""Of each position so many elements show the weights."""
_IS_SUM = {"F16": 1e-4, "BF16": 1e-3}
"""The share of its square that such a sum may leave unexplained on both sides, by the type."""
_SAME = {"F16": 3e-3, "BF16": 2e-2}
_MOST_PERMUTED = 6


def mixture(evidence: Evidence) -> Sequence[Cause]:
    """Write each position of both tensors as a sum of the layer's sources there, and compare the weights."""
    pair = evidence.pair
    if pair is None or evidence.stage != "forward" or pair[0].ndim < 2:
        return ()
    base, raw = (array.reshape(-1, array.shape[-1]) for array in pair)
    sources = _distinct(evidence, pair[0])
    if len(sources) < 2 or base.shape[1] < 2 * len(sources):
        return ()
    rows = np.unique(np.linspace(0, len(base) - 1, _POSITIONS).astype(int))
    every = -(-base.shape[1] // _WIDTH)
    base, raw = base[rows, ::every], raw[rows, ::every]
    columns = np.stack([source.reshape(-1, source.shape[-1])[rows, ::every] for source in sources.values()], axis=-1)
    inverse = np.linalg.pinv(columns, rcond=1e-6)
    mine, theirs = ((inverse @ one[..., None])[..., 0] for one in (base, raw))
    dtype = evidence.dtypes.base
    for one, weights in ((base, mine), (raw, theirs)):
        if square(one - (columns @ weights[..., None])[..., 0]) > _IS_SUM.get(dtype, 1e-6) * square(one):
            return ()
    return _compared(list(sources), mine, theirs, _SAME.get(dtype, 1e-3))


def _compared(names: list[str], base: np.ndarray, raw: np.ndarray, same: float) -> Sequence[Cause]:
    size = max(float(np.abs(base).max()), float(np.abs(raw).max()))
    vary = np.array([max(np.ptp(base[:, at]), np.ptp(raw[:, at])) > same * size for at in range(len(names))])
    if not vary.any():
        return ()
    told = f"each position is a sum of {', '.join(names)}"
    constant = [at for at in np.flatnonzero(~vary) if abs(np.median(base[:, at]) - np.median(raw[:, at])) > same * size]
    if constant and np.abs(base - raw)[:, vary].max() <= same * size:
        at = constant[0]
        weights = [float(np.median(one[:, at])) for one in (base, raw)]
        shown = [told_factor(one) if abs(one) > same * size else "0" for one in weights]
        less = "raw" if abs(weights[1]) < abs(weights[0]) else "base"
        words = f"{names[at]} is added with another weight"
        if "0" in shown:
            words = f"{names[at]} is left out in {less}: it is not added"
        return (Cause("left out", words, f"{told}; its weight is {shown[0]} in base, {shown[1]} in raw", 0.96),)
    return _of_routed([names[at] for at in np.flatnonzero(vary)], base[:, vary], raw[:, vary], same * size, told)


def _of_routed(names: list[str], base: np.ndarray, raw: np.ndarray, same: float, told: str) -> Sequence[Cause]:
    """Compare the weights that change from position to position."""
    for places in _orders(len(names)):
        if np.abs(base[:, places] - raw).max() <= 5 * same:
            order = ", ".join(f"{names[at]} for {names[to]}" for to, at in enumerate(places) if at != to)
            words = "the experts are in another order: each gets the weight of another"
            return (Cause("order of experts", words, f"{told}; raw gives the weight of {order}", 0.97),)
    of_base, of_raw = (np.abs(one) > same for one in (base, raw))
    if (of_base == of_raw).all() and of_base.any():
        factor = float(np.vdot(base, raw)) / square(base)
        if np.abs(raw - factor * base).max() <= 2 * same:
            words = "the routed parts (experts) are scaled by a constant factor on one side"
            return (Cause("factor of experts", words, f"{told}; raw's weights = {told_factor(factor)} x base's", 0.96),)
        sums = [one.sum(axis=1) for one in (base, raw)]
        one_factor = np.where(of_base, raw - base * (sums[1] / sums[0])[:, None], 0.0)
        if np.abs(one_factor).max() <= 5 * same:
            level = [float(np.ptp(one)) <= 5 * same for one in sums]
            shown = ", ".join(
                f"{side}'s add up to {one.mean():.4g}" if flat else f"{side}'s to {one.min():.4g} to {one.max():.4g}"
                for side, one, flat in zip(("base", "raw"), sums, level, strict=True)
            )
            words = "the router's weights have another factor at each position"
            if level[0] != level[1]:
                words = f"the router's weights are normalised in {'base' if level[0] else 'raw'} alone"
            return (Cause("router", words, f"{told}; the weights of the routed parts: {shown}", 0.96),)
        words = "the same experts are chosen, and the router weighs them otherwise (its softmax, or its normalisation)"
        return (Cause("router", words, f"{told}; the weights that are not 0 are the same ones on both sides", 0.9),)
    counts = [one.sum(axis=1) for one in (of_base, of_raw)]
    if all(np.ptp(count) == 0 for count in counts) and counts[0][0] != counts[1][0]:
        words = f"base chooses {counts[0][0]} experts for each position (top-k), raw {counts[1][0]}"
        return (Cause("chosen experts", words, f"{told}; so many weights are not 0", 0.97),)
    apart = float((of_base != of_raw).any(axis=1).mean())
    words = "the router chooses other experts"
    return (Cause("router", words, f"{told}; other ones have a weight at {100 * apart:.0f} % of the positions", 0.85),)


def _orders(count: int) -> list[tuple[int, ...]]:
    if count <= _MOST_PERMUTED:
        return [one for one in permutations(range(count)) if list(one) != sorted(one)]
    return [tuple((at + by) % count for at in range(count)) for by in range(1, count)]


def _distinct(evidence: Evidence, base: np.ndarray) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, source in evidence.sources.items():
        usable = source.shape == base.shape and source.dtype.kind == "f" and bool(np.isfinite(source).all())
        if usable and source.any() and not any(np.array_equal(source, other) for other in found.values()):
            found[name] = source
    return found
