"""Layout rules: how a base tensor becomes the raw tensor that corresponds to it. They serve values and gradients alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]
Transform = Callable[[list[np.ndarray], Sequence[Shape]], list[np.ndarray]]


@dataclass(frozen=True)
class Rule:
    """One rule.

    result: the shapes that it makes of base's, given raw's own; None where it cannot be applied. transform: base arrays of
    any (storage) dtype to arrays of raw's shapes, moving elements only, so that bfloat16 held as uint16 passes unharmed.
    """

    summary: str
    result: Callable[[Sequence[Shape], Sequence[Shape]], list[Shape] | None]
    transform: Transform

    def fits(self, base_shapes: Sequence[Shape], raw_shapes: Sequence[Shape]) -> bool:
        """True when the rule turns tensors of base's shapes into tensors of exactly raw's."""
        return self.result(base_shapes, raw_shapes) == list(raw_shapes)


def without_ones(shape: Shape) -> Shape:
    """Drop the dimensions of size 1."""
    return tuple(size for size in shape if size != 1)


def _same(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    return list(base) if len(base) == len(raw) else None


def _transposed(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    if len(base) != len(raw) or any(len(shape) != 2 for shape in base):
        return None
    return [shape[::-1] for shape in base]


def _reshaped(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    """Row-major order is kept: sizes of 1 come and go, or dimensions are flattened into one."""
    if len(base) != 1 or len(raw) != 1:
        return None
    mine, theirs = without_ones(base[0]), without_ones(raw[0])
    flattened = len(mine) <= 1 or len(theirs) <= 1
    same_count = int(np.prod(base[0])) == int(np.prod(raw[0]))
    return [raw[0]] if mine == theirs or (flattened and same_count) else None


def _split(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    if len(base) != 1 or not base[0] or not raw or base[0][0] % len(raw):
        return None
    return [(base[0][0] // len(raw), *base[0][1:])] * len(raw)


def _split_transposed(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    parts = _split(base, raw)
    return _transposed(parts, raw) if parts else None


def _pack(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    if len(raw) != 1 or not base or not base[0] or len(set(base)) != 1:
        return None
    return [(base[0][0] * len(base), *base[0][1:])]


def _pack_transposed(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    parts = _transposed(base, base)
    return _pack(parts, raw) if parts else None


RULES: Mapping[str, Rule] = {
    "identity": Rule("as it is", _same, lambda base, raw: base),
    "transpose": Rule(
        "[out, in] <-> [in, out]", _transposed, lambda base, raw: [np.ascontiguousarray(array.T) for array in base]
    ),
    "reshape": Rule("[n] <-> [1, n], [a, b] <-> [a * b]", _reshaped, lambda base, raw: [base[0].reshape(raw[0])]),
    "split": Rule(
        "packed rows (q, k, v) -> one tensor each", _split, lambda base, raw: np.split(base[0], len(raw), axis=0)
    ),
    "split_transpose": Rule(
        "packed rows (q, k, v) -> one transposed tensor each",
        _split_transposed,
        lambda base, raw: [np.ascontiguousarray(part.T) for part in np.split(base[0], len(raw), axis=0)],
    ),
    "pack": Rule("one tensor each (q, k, v) -> packed rows", _pack, lambda base, raw: [np.concatenate(base, axis=0)]),
    "transpose_pack": Rule(
        "one tensor each (q, k, v) -> transposed and packed rows",
        _pack_transposed,
        lambda base, raw: [np.concatenate([array.T for array in base], axis=0)],
    ),
}
"""Rule name -> rule, as named by `ParameterLink.rule`."""
