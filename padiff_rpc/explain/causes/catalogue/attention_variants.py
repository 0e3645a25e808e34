"""Attention computed otherwise from the same queries, keys and values: mask, scale, heads, rotation, roles, precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np

from padiff_rpc.explain.causes.attention_forms import HIDDEN, ROLES, Form, Given, computed, scale_of, weights_and_values
from padiff_rpc.explain.causes.evidence import Evidence
from padiff_rpc.explain.causes.fit import ENOUGH, square, told_share
from padiff_rpc.result import Cause

_MOST = 1 << 16
"""Elements of the scores that are computed; of a larger batch the first entries are taken."""
_ROWS = 8
"""Queries whose results are computed to find base's form; each is by itself."""
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads", "nhead")
_LARGEST_HEAD = 256
"""Wider heads are not tried where no layer tells their number."""
_MOST_ROTATED = 16
"""Up to so many heads each rotation of them is tried."""
_MOST_SOLVED = 256
"""Rows whose weights are solved for."""
_FITS = 1e-4
"""The share of its square that base may be off its formula. The rest that explains the difference is judged after that."""
_SCALES = ("1 / sqrt(head_dim)", "1", "1 / head_dim", "1 / sqrt(width)", "sqrt(head_dim)")
_CAUSAL = ("no causal mask", "causal", "causal, one position further", "causal, one position less")
_TABLES = ("the layer's own tables, by halves", "the layer's own tables, by interleaved pairs")
_ROPES = ("by halves, theta 1e4", "by halves, theta 5e5", "by halves, theta 1e6", "by interleaved pairs, theta 1e4")
_ONE_SIDED = (", not the keys", ", not the queries", ", keys one position further", ", keys one position less")
_WEAK = tuple(f"too weak, about -{number}" for number in (1, 2, 5, 10))
_ROUNDED = ("results", "scores", "scores and results")
_FIELDS = {
    "heads": "number of heads",
    "split": "order of queries, keys and values in their joint product (qkv)",
    "causal": "mask",
    "window": "mask, the width of its window (0: none)",
    "mask": "mask",
    "scale": "scale",
    "roles": "roles",
    "softmax": "softmax runs over",
    "precision": "precision",
    "repeat": "shared keys",
    "rope": "rotary embedding (rope)",
    "order": "heads",
}


def attention(evidence: Evidence) -> Sequence[Cause]:
    """Compute attention from what the layers inside returned, find base's form, then the one change that makes raw."""
    pair = evidence.pair
    if pair is None or evidence.stage != "forward" or pair[0].ndim != 3:
        return ()
    base, raw = (array[: _entries(pair[0])] for array in pair)
    rows = np.unique(np.linspace(0, base.shape[1] - 1, _ROWS).astype(int))
    named = _given(evidence, base, rows)
    if named is None:
        return ()
    names, given = named
    if not _is_mixture(base, given):
        return ()
    base, raw = base[:, rows], raw[:, rows]
    apart = square(raw - base)
    if not apart:
        return ()
    for form in _starts(evidence, given, pair[0].shape[-1]):
        made = computed(form, given)
        if made is None or square(base - made) > min(max(_FITS * square(base), 0.05 * apart), 0.2 * apart):
            continue
        # Base's own rounding is in raw as well, and so the two differences are compared.
        tried = [
            (other, square((raw - base) - (changed - made)))
            for other in _changes(form, given, (base, raw, made))
            if (changed := computed(other, given)) is not None
        ]
        best, rest = min(tried, key=lambda one: one[1], default=(form, apart))
        if 1.0 - rest / apart < ENOUGH:
            return tuple(_dropped(form, given, raw))
        return (_cause(names, form, best, 1.0 - rest / apart),)
    return ()


def _dropped(form: Form, given: Given, raw: np.ndarray) -> Iterator[Cause]:
    """Find that raw's weights are base's, some of them dropped: where keys are no more than a head is wide, they can be told."""
    inside = weights_and_values(form, given)
    if inside is None or form.softmax != "keys":
        return
    weights, values = inside
    size = values.shape[-1]
    results = raw.reshape(*raw.shape[:2], form.heads, size).transpose(0, 2, 1, 3)
    ratios: list[np.ndarray] = []
    for at in np.ndindex(weights.shape[:3]):
        seen = np.flatnonzero(weights[at] > 1e-4)
        if not 2 <= len(seen) <= size:
            continue
        columns = values[at[:2]][seen].T
        found = np.linalg.lstsq(columns, results[at], rcond=None)[0]
        if square(results[at] - columns @ found) > _FITS * square(results[at]):
            return
        ratios.append(found / weights[at][seen])
        if len(ratios) == _MOST_SOLVED:
            break
    every = np.concatenate(ratios) if ratios else np.zeros(0)
    zeros = np.abs(every) < 0.05
    if zeros.sum() < 4 or zeros.mean() > 0.95:
        return
    factor = float(np.median(every[~zeros]))
    if np.median(np.abs(every[~zeros] - factor)) > 1e-3 or not 1.0 < factor < 1.5 / (1.0 - zeros.mean()):
        return
    shown = f"{100 * zeros.mean():.1f} % of raw's weights are 0 where base's are not, most others are x {factor:.4f}"
    yield Cause("active dropout", "a dropout is active on the attention's weights in raw", shown, 0.96)


def _cause(names: str, form: Form, other: Form, share: float) -> Cause:
    name = next(one.name for one in fields(form) if getattr(form, one.name) != getattr(other, one.name))
    words = f"attention's {_FIELDS[name]}: {getattr(form, name)} in base, {getattr(other, name)} in raw"
    shown = f"attention computed anew from {names} makes both sides; this {told_share(share)}"
    return Cause("attention", words, shown, 0.98 * share)


# -- what it is computed from --------------------------------------------------------------------------------------------
def _entries(tensor: np.ndarray) -> int:
    """Return how many entries of the batch are computed, each with up to 16 heads."""
    return max(1, _MOST // (16 * _ROWS * tensor.shape[1]))


def _given(evidence: Evidence, base: np.ndarray, rows: np.ndarray) -> tuple[str, Given] | None:
    """Return the three tensors, which are the last three sources of their shapes or one that is three times as wide."""
    batch, length, width = base.shape
    inner = [
        (name, source[:batch])
        for name, source in evidence.sources.items()
        if source.ndim == 3
        and len(source) >= batch
        and np.isfinite(source[:batch]).all()
        and not name.startswith("input")
    ]
    masks, tables = _masks(evidence, base), _tables(evidence)
    if len(inner) >= 3:
        three = inner[-3:]
        queries, keys, values = (source for _, source in three)
        if queries.shape == (batch, length, width) and keys.shape == values.shape and width % keys.shape[-1] == 0:
            return ", ".join(name for name, _ in three), Given(queries, keys, values, rows, masks, tables)
    for name, source in reversed(inner):
        if source.shape == (batch, length, 3 * width):
            return name, Given(source, None, None, rows, masks, tables)
    return None


def _is_mixture(base: np.ndarray, given: Given) -> bool:
    """Tell whether base may be a mean of the values: none of its elements is beyond those of all keys."""
    values = given.values
    if values is None or values.shape[-1] != base.shape[-1] or len(values) != len(base):
        return True
    slack = 2e-2 * float(np.abs(values).max())
    return bool(
        (base.max(axis=1) <= values.max(axis=1) + slack).all()
        and (base.min(axis=1) >= values.min(axis=1) - slack).all()
    )


def _masks(evidence: Evidence, base: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the layer took that can be added to scores, and what the model took that marks keys."""
    found: dict[str, np.ndarray] = {}
    batch, length = base.shape[:2]
    for name, source in evidence.sources.items():
        if name.startswith("input") and source.ndim in (2, 4) and source.shape[-2] in (1, length):
            four = source.reshape(1, 1, *source.shape) if source.ndim == 2 else source
            if (len(four) in (1, len(evidence.pair[0]) if evidence.pair else 1) and four.min() < HIDDEN) or (
                source.ndim == 4 and source.shape[-2] == length and np.isfinite(source).all()
            ):
                found[name] = four[:batch] if len(four) > 1 else four
    if not found:
        for name, ids in evidence.ids.items():
            if ids.ndim == 2 and len(ids) >= batch and set(np.unique(ids)) == {0.0, 1.0}:
                found[name] = np.where(ids[:batch, None, None] == 0.0, -1e30, 0.0)
    return found


def _tables(evidence: Evidence) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the two inputs that are cosines and sines of the same angles."""
    taken = [
        source.reshape(source.shape[-2:])
        for name, source in evidence.sources.items()
        if name.startswith("input") and source.ndim >= 2 and source.size == int(np.prod(source.shape[-2:]))
    ]
    for cos, sin in pairwise(taken):
        if cos.shape == sin.shape and np.allclose(cos**2 + sin**2, 1.0, atol=2e-2):
            return cos, sin
    return None


# -- forms ---------------------------------------------------------------------------------------------------------------
def _starts(evidence: Evidence, given: Given, width: int) -> Iterator[Form]:
    told = [
        value
        for layers in (evidence.layers, *evidence.enclosing[:1])
        for name in _HEADS
        if isinstance(value := layers.base.hyperparameters.get(name), int) and value > 0
    ]
    windows = [
        value
        for name, value in evidence.layers.base.hyperparameters.items()
        if "window" in name and isinstance(value, int) and not isinstance(value, bool) and value > 0
    ]
    ropes = ("none", *(_TABLES if given.tables else _ROPES))
    splits = (
        (Form.split,) if given.keys is not None else (Form.split, "head by head, each with its queries, keys, values")
    )
    masks = ("none", *given.masks)
    for heads in dict.fromkeys(told or [1, 2, 4, 8, 12, 16]):
        if width % heads or (not told and width // heads > _LARGEST_HEAD):
            continue
        for scale in _SCALES[:2]:
            for mask in masks:
                for causal, window in (("no causal mask", 0), ("causal", 0), *(("causal", each) for each in windows)):
                    for rope in ropes:
                        for split in splits:
                            yield Form(heads, split, causal, window, mask, scale, rope=rope)


def _changes(form: Form, given: Given, fitted: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Iterator[Form]:
    for heads in (form.heads * 2, form.heads // 2, 1):
        if heads and heads != form.heads:
            yield replace(form, heads=heads)
    name = form.mask.partition(", ")[0]
    kinds = [
        f"{name}, {kind}"
        for kind in ("inverted", "only what it hides", "without what it hides", *_WEAK)
        if name != "none" and ((given.masks[name] < HIDDEN).any())
    ]
    ropes = ("none", *(_TABLES if given.tables else _ROPES))
    if form.rope != "none":
        ropes += tuple(form.rope + end for end in _ONE_SIDED)
    for field, values in (
        ("split", (Form.split, "head by head, each with its queries, keys, values")),
        ("causal", _CAUSAL),
        ("window", (0, form.window + 1, form.window - 1) if form.window else ()),
        ("mask", ("none", *given.masks, *kinds)),
        ("scale", _SCALES),
        ("roles", tuple(ROLES)),
        ("softmax", ("queries",)),
        (
            "precision",
            [f"softmax's {of} in {dtype}" for of in _ROUNDED for dtype in ("float16", "bfloat16")],
        ),
        ("repeat", ("all key heads repeated in turn",)),
        ("rope", ropes),
    ):
        for value in values:
            if value != getattr(form, field):
                yield replace(form, **{field: value})
    if form.heads <= _MOST_ROTATED:
        for of in "qkv":
            for by in range(1, form.heads):
                yield replace(form, order=f"those of {of} rotated by {by}")
    scale = _other_scale(form, given, fitted)
    if scale is not None:
        yield replace(form, scale=scale)


def _other_scale(form: Form, given: Given, fitted: tuple[np.ndarray, np.ndarray, np.ndarray]) -> str | None:
    """Return a scale near base's that explains what it can of the difference, by its derivative."""
    base, raw, made = fitted
    keys = given.queries if given.keys is None else given.keys
    width = given.queries.shape[-1] // (3 if given.keys is None else 1)
    scale = scale_of(form.scale, width // form.heads, form.heads)
    step = 1e-6
    moved = computed(replace(form, scale=repr(scale * (1.0 + step))), given)
    if moved is None or not keys.size:
        return None
    slope = (moved - made) / step
    size = square(slope)
    relative = float(np.vdot(slope, raw - base)) / size if size else 0.0
    return f"{scale * (1.0 + relative):.9g}" if 1e-7 < abs(relative) < 0.5 else None
