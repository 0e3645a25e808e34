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


def _cut(axis: int, transpose: bool) -> Rule:
    """Make a rule that cuts one tensor into parts along an axis, which may differ in size, and may transpose each."""

    def result(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
        parts = _turned(raw) if transpose else list(raw)
        return list(raw) if parts and len(base) == 1 and _joined(parts, axis) == base[0] else None

    def transform(base: list[np.ndarray], raw: Sequence[Shape]) -> list[np.ndarray]:
        sizes = [shape[::-1][axis] if transpose else shape[axis] for shape in raw]
        parts = np.split(base[0], np.cumsum(sizes)[:-1], axis=axis)
        return [np.ascontiguousarray(part.T if transpose else part) for part in parts]

    return Rule(result, transform)


def _join(axis: int, transpose: bool) -> Rule:
    """Make the rule that undoes a cut."""

    def result(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
        parts = _turned(base) if transpose else list(base)
        whole = _joined(parts, axis) if parts and len(raw) == 1 else None
        return None if whole is None else [whole]

    def transform(base: list[np.ndarray], raw: Sequence[Shape]) -> list[np.ndarray]:
        return [np.concatenate([array.T if transpose else array for array in base], axis=axis)]

    return Rule(result, transform)


def _turned(shapes: Sequence[Shape]) -> list[Shape]:
    """Transpose matrices; nothing where one is none."""
    return [shape[::-1] for shape in shapes] if all(len(shape) == 2 for shape in shapes) else []


def _joined(parts: Sequence[Shape], axis: int) -> Shape | None:
    """Return the shape of parts laid side by side along an axis, None where they do not fit."""
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in parts}
    if any(len(shape) <= axis for shape in parts) or len(rests) != 1:
        return None
    rest = rests.pop()
    return (*rest[:axis], sum(shape[axis] for shape in parts), *rest[axis:])


RULES: Mapping[str, Rule] = {
    "identity": Rule(_same, lambda base, raw: base),
    "transpose": Rule(_transposed, lambda base, raw: [np.ascontiguousarray(array.T) for array in base]),
    "reshape": Rule(_reshaped, lambda base, raw: [base[0].reshape(raw[0])]),
    "split": _cut(0, transpose=False),
    "split_transpose": _cut(0, transpose=True),
    "split_columns": _cut(1, transpose=False),
    "split_columns_transpose": _cut(1, transpose=True),
    "pack": _join(0, transpose=False),
    "transpose_pack": _join(0, transpose=True),
    "pack_columns": _join(1, transpose=False),
    "transpose_pack_columns": _join(1, transpose=True),
}
"""Rule name -> rule, as named by `ParameterLink.rule`."""
