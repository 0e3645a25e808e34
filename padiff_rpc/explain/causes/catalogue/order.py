"""The same elements elsewhere: axes swapped, channels, heads, experts or gates in another order, all shifted by a position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import explained, square, told_share
from padiff_rpc.result import Cause

_ENOUGH = 0.98
_MOST_ALONG = 4096
"""Axes that are longer are not searched for an order: the search is quadratic."""
_SAME_SETS = 1e-2
"""How far two sets of numbers may be apart, beside the same numbers in their own order, to be one set."""
_MOST_AXES = 5
_LOOKED_AT = 256
"""Elements that are looked at before a whole tensor is brought into another order."""
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads", "nhead", "num_key_value_heads", "head_dim")


def order(evidence: Evidence) -> Sequence[Cause]:
    """Look for base's elements at other places of raw."""
    if evidence.failure == "axes":
        return (Cause("axes", "the axes are in another order", evidence.why, 0.95),)
    pair = evidence.pair
    if pair is None or pair[0].size < 4:
        return ()
    base, raw = pair
    for causes in (_swapped(evidence, base, raw), _permuted(evidence, base, raw), _shifted(base, raw)):
        if (found := next(causes, None)) is not None:
            return (found,)
    return ()


def _swapped(evidence: Evidence, base: np.ndarray, raw: np.ndarray) -> Iterator[Cause]:
    """Find axes swapped, also where the result was then read in base's shape, or where an axis holds heads."""
    at = np.random.default_rng(0).integers(0, base.size, _LOOKED_AT)
    few_base, few_raw = base.reshape(-1)[at], raw.reshape(-1)[at]
    for words, turned in _reorders(evidence, base):
        if explained(few_base, few_raw, turned[np.unravel_index(at, turned.shape)]) < _ENOUGH:
            continue
        share = explained(base, raw, turned.reshape(base.shape))
        if share >= _ENOUGH:
            yield Cause("axes", words, f"raw is base with them swapped; this {told_share(share)}", 0.96 * share)
            return


def _reorders(evidence: Evidence, base: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield views of base with axes in another order, to be read in base's shape."""
    if not 2 <= base.ndim <= _MOST_AXES:
        return
    for axes in permutations(range(base.ndim)):
        if list(axes) == sorted(axes):
            continue
        turned = base.transpose(axes)
        moved = [axis for axis, place in enumerate(axes) if axis != place]
        told = f"axes {moved[0]} and {moved[1]} are swapped" if len(moved) == 2 else f"the axes are in the order {axes}"
        if turned.shape == base.shape:
            yield told, turned
        else:
            yield f"{told}, and the result is read in the other shape", turned
    half = base.shape[-1] // 2
    for axis in range(base.ndim - 1):
        if base.shape[axis] > 1:
            yield f"axis {axis} is reversed, turned back to front (its direction)", np.flip(base, axis)
            if base.shape[-1] == 2 * half:
                for words, part in (("first", slice(0, half)), ("second", slice(half, None))):
                    turned = base.copy()
                    turned[..., part] = np.flip(base[..., part], axis)
                    yield f"in the {words} half of the last axis, axis {axis} is reversed (its direction)", turned
    for heads in _head_counts(evidence, base.shape[-1]):
        if base.ndim == 3:
            batch, length, width = base.shape
            split = base.reshape(batch, length, heads, width // heads)
            told = f"heads and positions are not put back in order ({heads} heads)"
            yield told, split.transpose(0, 2, 1, 3)
            apart = base.reshape(batch, heads, length, width // heads).transpose(0, 2, 1, 3)
            yield f"positions and heads are taken for each other ({heads} heads)", apart


def _head_counts(evidence: Evidence, width: int) -> list[int]:
    found = [
        value
        for layers in (evidence.layers, *evidence.enclosing[:2])
        for layer in layers
        for name in _HEADS
        if isinstance(value := layer.hyperparameters.get(name), int) and 1 < value < width and width % value == 0
    ]
    found += [width // value for value in found if width // value > 1]
    usual = [each for each in (2, 4, 8, 12, 16) if 1 < each < width and width % each == 0]
    return list(dict.fromkeys([*found, *usual]))


def _permuted(evidence: Evidence, base: np.ndarray, raw: np.ndarray) -> Iterator[Cause]:
    for axis in reversed(range(base.ndim)):
        places = _places_along(base, raw, axis)
        if places is None:
            continue
        share = explained(base, raw, np.take(base, places, axis=axis))
        if share >= _ENOUGH:
            words, shown = _in_words(evidence, places, axis)
            yield Cause("order", words, f"{shown}; this {told_share(share)}", 0.97 * share)
            return


def _places_along(base: np.ndarray, raw: np.ndarray, axis: int) -> np.ndarray | None:
    """Return, for each index of raw along an axis, the index of base that holds the same; None where that is no order."""
    length = base.shape[axis]
    if not 2 <= length <= _MOST_ALONG or base.size // length < 2:
        return None
    rest = base.size // length
    random = np.random.default_rng(0).standard_normal((rest, 3)) / np.sqrt(rest)
    mine, theirs = (np.moveaxis(array, axis, 0).reshape(length, rest) @ random for array in (base, raw))
    in_order, in_other = np.sort(mine[:, 0]), np.sort(theirs[:, 0])
    if square(in_order - in_other) > _SAME_SETS * square(mine[:, 0] - theirs[:, 0]):
        return None  # the indices of raw are not those of base in any order
    nearest = np.empty(length, int)
    for at in range(length):
        nearest[at] = int(((mine - theirs[at]) ** 2).sum(axis=1).argmin())
    if len(set(nearest.tolist())) < length or (nearest == np.arange(length)).all():
        return None
    return nearest


def _in_words(evidence: Evidence, places: np.ndarray, axis: int) -> tuple[str, str]:
    """Say what order it is: a rotation, two blocks swapped, gates, heads, interleaved, or else just another one."""
    length = len(places)
    shown = f"raw's index i of axis {axis} is base's {_head_of(places)}"
    block = _block(places)
    blocks = places[::block] // block
    count = len(blocks)
    unit = "indices" if block == 1 else f"blocks of {block}"
    rotated = (blocks - np.arange(count)) % count
    for size in range(2, length):
        if length % size == 0 and (places == np.arange(length).reshape(size, -1).T.reshape(-1)).all():
            return (
                f"axis {axis} is interleaved otherwise: read as [{size}, {length // size}] on one side and as "
                f"[{length // size}, {size}] on the other",
                shown,
            )
    family = " ".join(layer.class_name.lower() for layer in evidence.layers)
    if count in (3, 4) and any(word in family for word in ("lstm", "gru")):
        return f"the gates are in another order along axis {axis}: {blocks.tolist()}", shown
    if count == 2 and block > 1:
        return f"the halves of axis {axis} are swapped", shown
    if (rotated == rotated[0]).all():
        by = int(rotated[0]) if rotated[0] <= count // 2 else int(rotated[0]) - count
        return f"{unit} of axis {axis} are rotated by {by}", shown
    return f"{unit} of axis {axis} (channels, heads or experts) are in another order", shown


def _block(places: np.ndarray) -> int:
    """Return the size of the largest blocks that are moved as wholes."""
    length = len(places)
    for size in range(length // 2, 0, -1):
        if length % size == 0:
            whole = places.reshape(-1, size)
            if (whole[:, 0] % size == 0).all() and (whole == whole[:, :1] + np.arange(size)).all():
                return size
    return 1


def _head_of(places: np.ndarray) -> str:
    first = ", ".join(map(str, places[:8].tolist()))
    return f"[{first}, ...]" if len(places) > 8 else f"[{first}]"


def _shifted(base: np.ndarray, raw: np.ndarray) -> Iterator[Cause]:
    """Find raw's elements one or two places further along an axis, with the ends left open."""
    for axis in range(base.ndim):
        length = base.shape[axis]
        for by in (1, -1, 2, -2):
            if length < 2 * abs(by) + 2:
                continue
            index = np.arange(max(0, by), min(length, length + by))
            at, came = np.take(raw, index, axis=axis), np.take(base, index - by, axis=axis)
            share = explained(np.take(base, index, axis=axis), at, came)
            if share >= _ENOUGH:
                words = f"raw is shifted by {by:+d} along axis {axis}"
                yield Cause("shift", words, f"raw[i] = base[i {-by:+d}]; this {told_share(share)}", 0.95 * share)
                return
