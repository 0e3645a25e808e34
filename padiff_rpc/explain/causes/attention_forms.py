"""Attention as a formula with parts that can be wrong each by itself, computed in float64 from given queries, keys and values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from padiff_rpc.explain.causes.round_to import rounded_to

ROLES = {
    "queries, keys, values in this order": "qkv",
    "keys and queries swapped": "kqv",
    "keys and values swapped": "qvk",
    "queries and values swapped": "vkq",
}
"""How the three may be taken for each other -> what stands for each."""
HIDDEN = -1e3
"""What is added below this hides a position; what lies above is a bias."""


@dataclass(frozen=True)
class Form:
    """How an attention is computed; each field is one thing to get wrong."""

    heads: int
    split: str = "queries, keys and values one after the other"
    causal: str = "no causal mask"
    window: int = 0
    mask: str = "none"
    scale: str = "1 / sqrt(head_dim)"
    roles: str = "queries, keys, values in this order"
    softmax: str = "keys"
    precision: str = "full precision"
    repeat: str = "each key head repeated for its group"
    rope: str = "none"
    order: str = "heads in order"


@dataclass
class Given:
    """What an attention is computed from.

    Attributes:
        queries: are [batch, length, width], or with keys None all three in one tensor.
        keys: are as wide as the heads that are shared.
        values: are like the keys.
        rows: are the queries whose results are computed.
        masks: are added to the scores, by name, each of four axes.
        tables: are the cosines and sines of a rotary embedding, [length, size].
    """

    queries: np.ndarray
    keys: np.ndarray | None
    values: np.ndarray | None
    rows: np.ndarray
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    tables: tuple[np.ndarray, np.ndarray] | None = None


def computed(form: Form, given: Given) -> np.ndarray | None:
    """Return the results of the rows; None where the form does not fit the shapes."""
    inside = weights_and_values(form, given)
    if inside is None:
        return None
    weights, values = inside
    made = np.matmul(weights, values).transpose(0, 2, 1, 3).reshape(len(weights), weights.shape[2], -1)
    return made if form.softmax == "keys" else made[:, given.rows]


def weights_and_values(form: Form, given: Given) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the weights, [batch, heads, rows, keys], and the values, [batch, heads, keys, size]; None as `computed` does."""
    split = _heads(form, given)
    if split is None:
        return None
    q, k, v = split
    if form.rope != "none":
        turned = _rotated(form.rope, given, q, k)
        if turned is None:
            return None
        q, k = turned
    if form.order != "heads in order":
        of, by = form.order[9], int(form.order.rpartition(" ")[2])
        q, k, v = (np.roll(x, -by, axis=1) if of == name else x for name, x in zip("qkv", (q, k, v), strict=True))
    groups = form.heads // k.shape[1]
    if groups > 1:
        tile = form.repeat == "all key heads repeated in turn"
        k, v = (np.tile(x, (1, groups, 1, 1)) if tile else np.repeat(x, groups, axis=1) for x in (k, v))
    elif form.repeat != "each key head repeated for its group":
        return None
    at = given.rows if form.softmax == "keys" else np.arange(q.shape[2])
    scores = np.matmul(q[:, :, at], k.transpose(0, 1, 3, 2)) * scale_of(form.scale, q.shape[-1], form.heads)
    added = _added(form, given, at, scores.shape)
    if added is None:
        return None
    return _softmax(scores + added, -1 if form.softmax == "keys" else -2, form.precision), v


def scale_of(scale: str, size: int, heads: int) -> float:
    """Return the factor of the scores that a form names, which may be a number."""
    known = {
        "1 / sqrt(head_dim)": 1 / math.sqrt(size),
        "1": 1.0,
        "1 / head_dim": 1 / size,
        "1 / sqrt(width)": 1 / math.sqrt(size * heads),
        "sqrt(head_dim)": math.sqrt(size),
    }
    return known[scale] if scale in known else float(scale)


def _heads(form: Form, given: Given) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return queries, keys and values as [batch, heads, length, size]."""
    queries, keys, values = given.queries, given.keys, given.values
    width = queries.shape[-1] if keys is not None else queries.shape[-1] // 3
    size = width // form.heads
    if width % form.heads or size < 1:
        return None
    if keys is None or values is None:
        shape = (3, form.heads) if form.split.endswith("the other") else (form.heads, 3)
        apart = queries.reshape(*queries.shape[:2], *shape, size)
        three = np.moveaxis(apart, 2 if shape[0] == 3 else 3, 0)
    else:
        if form.split != Form.split or keys.shape[-1] % size:
            return None
        three = [array.reshape(*array.shape[:2], -1, size) for array in (queries, keys, values)]
    q, k, v = (array.transpose(0, 2, 1, 3) for array in three)
    if form.roles != Form.roles:
        if not q.shape == k.shape == v.shape:
            return None
        given_as = dict(zip("qkv", (q, k, v), strict=True))
        q, k, v = (given_as[letter] for letter in ROLES[form.roles])
    return (q, k, v) if form.heads % k.shape[1] == 0 else None


def _added(form: Form, given: Given, at: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | float | None:
    """Return what is added to the scores of these rows."""
    total: np.ndarray | float = 0.0
    name, _, kind = form.mask.partition(", ")
    if name != "none":
        mask = given.masks[name]
        if kind == "inverted":
            mask = np.where(mask < HIDDEN, 0.0, -1e30)
        elif kind.startswith("too weak"):
            mask = np.where(mask < HIDDEN, -float(kind.rpartition("-")[2]), mask)
        elif kind == "only what it hides":
            mask = np.where(mask < HIDDEN, mask, 0.0)
        elif kind == "without what it hides":
            mask = np.where(mask < HIDDEN, 0.0, mask)
        total = mask if mask.shape[2] == 1 else mask[:, :, at]
        if any(one not in (1, other) for one, other in zip(total.shape, shape, strict=True)):
            return None
    far = at[:, None] - np.arange(shape[-1])
    hidden = np.zeros(far.shape, bool)
    if form.causal != Form.causal:
        hidden |= far < {"causal": 0, "causal, one position further": -1, "causal, one position less": 1}[form.causal]
    if form.window:
        hidden |= far >= form.window
    return total + np.where(hidden, -1e30, 0.0) if hidden.any() else total


def _softmax(scores: np.ndarray, axis: int, precision: str) -> np.ndarray:
    _, _, dtype = precision.partition("softmax's ")
    of, _, dtype = dtype.partition(" in ")
    if of.startswith("scores"):
        scores = rounded_to(scores, dtype)
    weights = np.exp(scores - scores.max(axis=axis, keepdims=True))
    weights /= weights.sum(axis=axis, keepdims=True)
    return rounded_to(weights, dtype) if of.endswith("results") else weights


# -- rotary embeddings ---------------------------------------------------------------------------------------------------
def _rotated(rope: str, given: Given, q: np.ndarray, k: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Rotate [batch, heads, length, size] by the angles of its positions."""
    length, size = q.shape[2:]
    if size % 2 or k.shape[2] != length:
        return None
    if "own tables" in rope:
        if given.tables is None or given.tables[0].shape != (length, size):
            return None
        cos, sin = given.tables
    else:
        theta = float(rope.partition("theta ")[2].partition(",")[0])
        angles = np.outer(np.arange(length), theta ** (-np.arange(0, size, 2) / size))
        angles = np.concatenate([angles, angles], -1) if "halves" in rope else np.repeat(angles, 2, -1)
        cos, sin = np.cos(angles), np.sin(angles)
    turn = _turned_by_halves if "halves" in rope else _turned_by_pairs
    by = 1 if "one position further" in rope else -1 if "one position less" in rope else 0
    of_keys = tuple(np.roll(table, -by, axis=0) for table in (cos, sin))
    turned_q = q if "not the queries" in rope else q * cos + turn(q) * sin
    turned_k = k if "not the keys" in rope else k * of_keys[0] + turn(k) * of_keys[1]
    return turned_q, turned_k


def _turned_by_halves(heads: np.ndarray) -> np.ndarray:
    half = heads.shape[-1] // 2
    return np.concatenate([-heads[..., half:], heads[..., :half]], -1)


def _turned_by_pairs(heads: np.ndarray) -> np.ndarray:
    made = np.empty_like(heads)
    made[..., ::2], made[..., 1::2] = -heads[..., 1::2], heads[..., ::2]
    return made
