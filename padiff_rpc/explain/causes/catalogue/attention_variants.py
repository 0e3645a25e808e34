"""Attention computed otherwise from the same queries, keys and values: scale, causality, heads, shared keys, roles swapped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import ENOUGH, square, told_share
from padiff_rpc.result import Cause

_MOST = 1 << 16
"""Elements of the scores that are computed; of a larger batch the first entries are taken."""
_ROWS = 8
"""Queries whose results are computed to find base's form; each is by itself."""
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads", "nhead")
_MOST_ROTATED = 16
"""Up to so many heads each rotation of them is tried."""
_FITS = 1e-4
"""The share of its square that base may be off its formula. The rest that explains the difference is judged after that."""


@dataclass(frozen=True)
class _Form:
    """How an attention is computed; each field is one thing to get wrong."""

    heads: int
    causal: str = "no mask"
    scale: str = "1 / sqrt(head_dim)"
    roles: str = "q, k, v in this order"
    softmax: str = "keys"
    repeat: str = "each key head repeated for its group"
    rope: str = "no rotation"
    order: str = "heads in order"


def attention(evidence: Evidence) -> Sequence[Cause]:
    """Compute attention from what the layers inside returned, find base's form, then the one change that makes raw."""
    pair = evidence.pair
    if pair is None or evidence.stage != "forward" or pair[0].ndim != 3:
        return ()
    base, raw = (array[: _entries(pair[0])] for array in pair)
    named = _queries_keys_values(evidence, base)
    if named is None:
        return ()
    names, tensors = named
    rows = np.unique(np.linspace(0, base.shape[1] - 1, _ROWS).astype(int))
    base, raw = base[:, rows], raw[:, rows]
    apart = square(raw - base)
    for form in _starts(evidence, pair[0].shape[-1]):
        made = _computed(form, *tensors, rows)
        if made is None or square(base - made) > min(max(_FITS * square(base), 0.05 * apart), 0.2 * apart):
            continue
        tried = [
            (other, changed) for other in _changes(form) if (changed := _computed(other, *tensors, rows)) is not None
        ]
        if not tried:
            return ()
        best, array = min(tried, key=lambda one: square(raw - one[1]))
        share = 1.0 - (square(base - made) + square(raw - array)) / apart
        if share < ENOUGH:
            return ()
        field, mine, theirs = next(
            (name, getattr(form, name), getattr(best, name))
            for name in form.__dataclass_fields__
            if getattr(form, name) != getattr(best, name)
        )
        words = f"attention's {_FIELDS[field]}: {mine} in base, {theirs} in raw"
        shown = f"attention computed anew from {names} makes both sides; this {told_share(share)}"
        return (Cause("attention", words, shown, 0.98 * share),)
    return ()


def _entries(tensor: np.ndarray) -> int:
    """Return how many entries of the batch are computed, each with up to 16 heads."""
    return max(1, _MOST // (16 * _ROWS * tensor.shape[1]))


_FIELDS = {
    "heads": "number of heads",
    "causal": "mask",
    "scale": "scale",
    "roles": "roles",
    "softmax": "softmax runs over",
    "repeat": "shared keys",
    "rope": "rotary embedding",
    "order": "heads",
}


def _queries_keys_values(
    evidence: Evidence, base: np.ndarray
) -> tuple[str, tuple[np.ndarray, np.ndarray, np.ndarray]] | None:
    """Return the three tensors: the last three sources of their shapes, or the parts of one that is three times as wide."""
    batch, length, width = base.shape
    usable = [
        (name, source[:batch])
        for name, source in evidence.sources.items()
        if source.ndim == 3 and len(source) >= batch and np.isfinite(source[:batch]).all()
    ]
    inner = [(name, source) for name, source in usable if not name.startswith("input")]
    if len(inner) >= 3:
        three = inner[-3:]
        queries, keys, values = (source for _, source in three)
        if queries.shape == (batch, length, width) and keys.shape == values.shape and width % keys.shape[-1] == 0:
            return ", ".join(name for name, _ in three), (queries, keys, values)
    for name, source in reversed(inner):
        if source.shape == (batch, length, 3 * width):
            return name, (source[..., :width], source[..., width : 2 * width], source[..., 2 * width :])
    return None


def _starts(evidence: Evidence, width: int) -> Iterator[_Form]:
    told = [
        value
        for layers in (evidence.layers, *evidence.enclosing[:1])
        for name in _HEADS
        if isinstance(value := layers.base.hyperparameters.get(name), int) and value > 0
    ]
    for heads in dict.fromkeys([*told, 1, 2, 4, 8, 12, 16]):
        if width % heads:
            continue
        for causal in ("no mask", "causal"):
            yield _Form(heads, causal)
            for rope in _ROPES:
                yield _Form(heads, causal, rope=rope)


_ROPES = (
    "rotated by halves, theta 1e4",
    "rotated by halves, theta 5e5",
    "rotated by halves, theta 1e6",
    "rotated by pairs, theta 1e4",
)


def _changes(form: _Form) -> Iterator[_Form]:
    for heads in (form.heads * 2, form.heads // 2, 1):
        if heads and heads != form.heads:
            yield replace(form, heads=heads)
    for name, values in (
        ("causal", ("no mask", "causal", "causal, one further", "causal, one less")),
        ("scale", ("1 / sqrt(head_dim)", "1", "1 / head_dim", "1 / sqrt(width)", "sqrt(head_dim)")),
        ("roles", ("k, q, v", "q, v, k", "v, k, q")),
        ("softmax", ("queries",)),
        ("repeat", ("all key heads repeated in turn",)),
        ("rope", ("no rotation", *_ROPES)),
    ):
        for value in values:
            if value != getattr(form, name):
                yield replace(form, **{name: value})
    if form.heads <= _MOST_ROTATED:
        for of in "qkv":
            for by in range(1, form.heads):
                yield replace(form, order=f"those of {of} rotated by {by}")


def _computed(
    form: _Form, queries: np.ndarray, keys: np.ndarray, values: np.ndarray, rows: np.ndarray
) -> np.ndarray | None:
    """Return the results of these queries; None where the form does not fit the shapes."""
    if form.roles != "q, k, v in this order":
        if not queries.shape == keys.shape == values.shape:
            return None
        given = {"q": queries, "k": keys, "v": values}
        queries, keys, values = (given[name] for name in form.roles.split(", "))
    width, size = queries.shape[-1], queries.shape[-1] // form.heads
    if width % form.heads or keys.shape[-1] % size or size < 1:
        return None
    q, k, v = (array.reshape(*array.shape[:2], -1, size).transpose(0, 2, 1, 3) for array in (queries, keys, values))
    if form.rope != "no rotation":
        if size % 2:
            return None
        q, k = _rotated(q, form.rope), _rotated(k, form.rope)
    if form.order != "heads in order":
        of, by = form.order[9], int(form.order.rpartition(" ")[2])
        q, k, v = (np.roll(x, -by, axis=1) if of == name else x for name, x in zip("qkv", (q, k, v), strict=True))
    groups = form.heads // k.shape[1]
    if groups > 1:
        tile = form.repeat == "all key heads repeated in turn"
        k, v = (np.tile(x, (1, groups, 1, 1)) if tile else np.repeat(x, groups, axis=1) for x in (k, v))
    elif form.repeat != "each key head repeated for its group":
        return None
    scale = {
        "1 / sqrt(head_dim)": 1 / math.sqrt(size),
        "1": 1.0,
        "1 / head_dim": 1 / size,
        "1 / sqrt(width)": 1 / math.sqrt(width),
        "sqrt(head_dim)": math.sqrt(size),
    }[form.scale]
    every = np.arange(q.shape[2])
    at = rows if form.softmax == "keys" else every
    scores = np.matmul(q[:, :, at], k.transpose(0, 1, 3, 2)) * scale
    if form.causal != "no mask":
        columns = np.arange(k.shape[2])
        seen = at[:, None] + {"causal": 0, "causal, one further": 1, "causal, one less": -1}[form.causal]
        scores = np.where(columns <= np.maximum(seen, 0), scores, -1e300)
    axis = -1 if form.softmax == "keys" else -2
    weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
    weights /= weights.sum(axis=axis, keepdims=True)
    made = np.matmul(weights, v).transpose(0, 2, 1, 3).reshape(queries.shape[0], len(at), -1)
    return made if form.softmax == "keys" else made[:, rows]


def _rotated(heads: np.ndarray, rope: str) -> np.ndarray:
    """Rotate [batch, heads, length, size] by the angles of its positions."""
    length, size = heads.shape[2:]
    theta = float(rope.rpartition(" ")[2])
    angles = np.outer(np.arange(length), theta ** (-np.arange(0, size, 2) / size))
    cos, sin = np.cos(angles), np.sin(angles)
    made = np.empty_like(heads)
    if "halves" in rope:
        one, two = heads[..., : size // 2], heads[..., size // 2 :]
        made[..., : size // 2], made[..., size // 2 :] = one * cos - two * sin, two * cos + one * sin
    else:
        one, two = heads[..., ::2], heads[..., 1::2]
        made[..., ::2], made[..., 1::2] = one * cos - two * sin, two * cos + one * sin
    return made
