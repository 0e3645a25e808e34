"""Only a part differs: some indices of an axis, a head, an expert, an end, or the positions that a mask or an id marks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.result import Cause

_CLEAN = 1e-8
"""The share of the greatest squared difference of an index up to which another index agrees."""
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads", "nhead")
_TOLD = 6


def parts(evidence: Evidence) -> Sequence[Cause]:
    """Name the indices along one axis that hold all of the difference, and the mark that these positions share."""
    pair = evidence.moves if evidence.stage in ("weights", "buffers") else evidence.pair
    if pair is None or not pair[0].ndim or pair[0].size < 4:
        return ()
    base, raw = pair
    apart = (raw - base) ** 2
    if not base[apart == 0.0].any():
        return ()  # what is zero on both sides tells nothing
    marked = _marked(evidence, base, raw, apart)
    return marked or _along_an_axis(evidence, base, raw, apart)


def _marked(evidence: Evidence, base: np.ndarray, raw: np.ndarray, apart: np.ndarray) -> Sequence[Cause]:
    for name, ids in evidence.ids.items():
        if ids.ndim < 1 or ids.ndim > apart.ndim or ids.shape != apart.shape[: ids.ndim] or ids.size < 4:
            continue
        at = apart.reshape(*ids.shape, -1).sum(axis=-1)
        differs = at > _CLEAN * at.max()
        values = np.unique(ids[differs])
        here = ids == values[0]
        if len(values) != 1 or here.all() or not int(differs.sum()) > 1:
            continue
        zero = [side for side, array in (("base", base), ("raw", raw)) if not array[here].any()]
        ending = f"; there {zero[0]} is zero" if len(zero) == 1 else ""
        among = f"all of them among the {int(here.sum())} where {name} is {values[0]:g}"
        shown = f"{int(differs.sum())} positions differ, {among}{ending}"
        words = f"only positions where {name} is {values[0]:g} differ"
        return (Cause("marked positions", words, shown, 0.78),)
    return ()


def _along_an_axis(evidence: Evidence, base: np.ndarray, raw: np.ndarray, apart: np.ndarray) -> Sequence[Cause]:
    found: list[tuple[float, int, np.ndarray]] = []
    for axis, length in enumerate(apart.shape):
        others = tuple(at for at in range(apart.ndim) if at != axis)
        at = apart.sum(axis=others)
        where = np.flatnonzero(at > _CLEAN * at.max())
        if length > 1 and 0 < len(where) <= length // 2:
            found.append((len(where) / length, axis, where))
    if not found:
        return ()
    _, axis, where = min(found, key=lambda one: (one[0], -one[1]))
    length = apart.shape[axis]
    zero = [side for side, array in (("base", base), ("raw", raw)) if not np.take(array, where, axis=axis).any()]
    ending = f"; there {zero[0]} is zero" if len(zero) == 1 else ""
    words = f"only {_place(evidence, axis, where, length)} differ{'s' if len(where) == 1 else ''}"
    shown = f"{len(where)} of {length} indices of axis {axis} hold all of the difference{ending}"
    return (Cause("part", words, shown, 0.6 if ending else 0.5),)


def _place(evidence: Evidence, axis: int, where: np.ndarray, length: int) -> str:
    heads = _blocks(evidence, where, length)
    if heads:
        return f"{heads} of axis {axis}"
    if len(where) == 1:
        at = int(where[0])
        end = "the first index" if at == 0 else "the last index" if at == length - 1 else f"index {at}"
        return f"{end} of axis {axis}"
    first, last = int(where[0]), int(where[-1])
    if set(where.tolist()) == {0, length - 1}:
        return f"the border (first and last index) of axis {axis}"
    if last - first + 1 == len(where):
        return f"indices {first} to {last} of axis {axis}"
    listed = ", ".join(map(str, where[:_TOLD].tolist())) + (", ..." if len(where) > _TOLD else "")
    return f"indices {listed} of axis {axis}"


def _blocks(evidence: Evidence, where: np.ndarray, length: int) -> str:
    """Say which heads the indices are; "" where they are no whole heads of a number that a layer tells."""
    for layers in (evidence.layers, *evidence.enclosing[:1]):
        for name in _HEADS:
            count = layers.base.hyperparameters.get(name)
            if not isinstance(count, int) or count < 2 or length % count or length // count < 2:
                continue
            size = length // count
            blocks = sorted(set((where // size).tolist()))
            if len(blocks) * size == len(where):
                listed = ", ".join(map(str, blocks))
                return f"head{'s' if len(blocks) > 1 else ''} {listed} (of {count})"
    return ""
