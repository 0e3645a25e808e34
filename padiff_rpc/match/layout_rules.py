"""Layout rules: how tensors of base are rearranged into the tensors of raw that correspond to them.

A rule only moves elements, so the same rules serve values and gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

Shape = tuple[int, ...]
Transform = Callable[[list[np.ndarray], Sequence[Shape]], list[np.ndarray]]
"""Makes arrays of raw's shapes (the second argument) of base's arrays."""


@dataclass(frozen=True)
class Rule:
    """One layout rule, between one tensor (or several) of base and one (or several) of raw.

    Attributes:
        result: returns the shapes that the rule makes of base's shapes, given raw's; None if it cannot be applied to them.
        transform: returns raw's arrays, made of base's arrays in any storage dtype and of raw's shapes. It only moves elements,
            so that bfloat16 held as uint16 passes unharmed.
    """

    result: Callable[[Sequence[Shape], Sequence[Shape]], list[Shape] | None]
    transform: Transform

    def fits(self, base_shapes: Sequence[Shape], raw_shapes: Sequence[Shape]) -> bool:
        """Return True if the rule makes tensors of exactly raw's shapes of tensors of base's shapes."""
        return self.result(base_shapes, raw_shapes) == list(raw_shapes)


def without_ones(shape: Shape) -> Shape:
    """Return a shape without its dimensions of size 1."""
    return tuple(size for size in shape if size != 1)


def _same(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    return list(base) if len(base) == len(raw) else None


def _transposed(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    if len(base) != len(raw) or any(len(shape) != 2 for shape in base):
        return None
    return [shape[::-1] for shape in base]


def _reshaped(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    """Allow neighbouring dimensions to be merged or split, and those of size 1 to come and go; row-major order is kept."""
    if len(base) != 1 or len(raw) != 1:
        return None
    mine, theirs = without_ones(base[0]), without_ones(raw[0])
    flattened = len(mine) <= 1 or len(theirs) <= 1
    same_count = int(np.prod(mine)) == int(np.prod(theirs))
    fits = mine == theirs or (flattened and same_count) or _merges(mine, theirs) or _merges(theirs, mine)
    return [raw[0]] if fits else None


def _merges(long: Shape, short: Shape) -> bool:
    """Return True if each dimension of `short` is the product of neighbouring ones of `long`, in order."""
    if len(long) <= len(short) or 0 in long:
        return False
    ends = np.cumprod(long).tolist()
    return ends[-1] == int(np.prod(short)) and set(np.cumprod(short).tolist()) <= set(ends)


def _swapped_last(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    if len(base) != len(raw) or any(len(shape) < 3 for shape in base):
        return None
    return [(*shape[:-2], shape[-1], shape[-2]) for shape in base]


def _merged_at(long: Shape, short: Shape) -> int | None:
    """Return the place of the two neighbouring dimensions of `long` that are one in `short`; None if there are no such two."""
    for at in range(len(long) - 1 if len(long) == len(short) + 1 else 0):
        if (*long[:at], long[at] * long[at + 1], *long[at + 2 :]) == short:
            return at
    return None


def _merge_swapped(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    return list(raw) if len(base) == len(raw) == 1 and _merged_at(base[0], raw[0]) is not None else None


def _to_merged(base: list[np.ndarray], raw: Sequence[Shape]) -> list[np.ndarray]:
    at = _merged_at(base[0].shape, raw[0])
    assert at is not None, "the rule fits"
    return [np.ascontiguousarray(base[0].swapaxes(at, at + 1)).reshape(raw[0])]


def _split_swapped(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    return list(raw) if _merge_swapped(raw, base) else None


def _from_merged(base: list[np.ndarray], raw: Sequence[Shape]) -> list[np.ndarray]:
    at = _merged_at(raw[0], base[0].shape)
    assert at is not None, "the rule fits"
    swapped = (*raw[0][:at], raw[0][at + 1], raw[0][at], *raw[0][at + 2 :])
    return [np.ascontiguousarray(base[0].reshape(swapped).swapaxes(at, at + 1))]


def _turned_after(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    """Allow what is no matrix to be made one by regrouping, and then transposed."""
    matrix = len(base) == len(raw) == 1 and len(raw[0]) == 2 < len(base[0])
    return list(raw) if matrix and _reshaped(base, _turned(raw)) == _turned(raw) else None


def _turned_before(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
    return list(raw) if _turned_after(raw, base) else None


def _cut(axis: int, transpose: bool, groups: int = 1) -> Rule:
    """Make a rule that cuts one tensor along an axis into parts, which may differ in size, and may transpose each part.

    groups: how many groups the axis falls into, each with an equal share of every part.
    """

    def result(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
        parts = _turned(raw) if transpose else list(raw)
        joins = parts and len(base) == 1 and _joined(parts, axis, groups) == base[0]
        return list(raw) if joins else None

    def transform(base: list[np.ndarray], raw: Sequence[Shape]) -> list[np.ndarray]:
        sizes = [shape[::-1][axis] if transpose else shape[axis] for shape in raw]
        whole = _in_groups(base[0], axis, groups)
        cut = np.split(whole, np.cumsum(np.array(sizes) // groups)[:-1], axis=axis + 1)
        parts = [_ungrouped(part, axis) for part in cut]
        return [np.ascontiguousarray(part.T if transpose else part) for part in parts]

    return Rule(result, transform)


def _join(axis: int, transpose: bool, groups: int = 1) -> Rule:
    """Make a rule that lays parts side by side along an axis, and may transpose each of them first: the reverse of a cut."""

    def result(base: Sequence[Shape], raw: Sequence[Shape]) -> list[Shape] | None:
        parts = _turned(base) if transpose else list(base)
        whole = _joined(parts, axis, groups) if parts and len(raw) == 1 else None
        return None if whole is None else [whole]

    def transform(base: list[np.ndarray], raw: Sequence[Shape]) -> list[np.ndarray]:
        parts = [_in_groups(array.T if transpose else array, axis, groups) for array in base]
        return [_ungrouped(np.concatenate(parts, axis=axis + 1), axis)]

    return Rule(result, transform)


def _in_groups(array: np.ndarray, axis: int, groups: int) -> np.ndarray:
    """Return an array with an axis split into two: the groups, and what lies in each."""
    return array.reshape(*array.shape[:axis], groups, array.shape[axis] // groups, *array.shape[axis + 1 :])


def _ungrouped(array: np.ndarray, axis: int) -> np.ndarray:
    return array.reshape(*array.shape[:axis], array.shape[axis] * array.shape[axis + 1], *array.shape[axis + 2 :])


def _turned(shapes: Sequence[Shape]) -> list[Shape]:
    """Return the shapes transposed, or no shape at all if one of them is no matrix's."""
    return [shape[::-1] for shape in shapes] if all(len(shape) == 2 for shape in shapes) else []


def _joined(parts: Sequence[Shape], axis: int, groups: int) -> Shape | None:
    """Return the shape of parts laid side by side along an axis; None if their other sizes differ, or no groups can be made."""
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in parts}
    if any(len(shape) <= axis or shape[axis] % groups for shape in parts) or len(rests) != 1:
        return None
    rest = rests.pop()
    return (*rest[:axis], sum(shape[axis] for shape in parts), *rest[axis:])


_PACKING: Mapping[str, tuple[Callable[..., Rule], int, bool]] = {
    "split": (_cut, 0, False),
    "split_transpose": (_cut, 0, True),
    "split_columns": (_cut, 1, False),
    "split_columns_transpose": (_cut, 1, True),
    "pack": (_join, 0, False),
    "transpose_pack": (_join, 0, True),
    "pack_columns": (_join, 1, False),
    "transpose_pack_columns": (_join, 1, True),
}
"""How each rule that packs or splits is made: by what, along which axis, and whether it transposes the parts."""

RULES: Mapping[str, Rule] = {
    "identity": Rule(_same, lambda base, raw: base),
    "transpose": Rule(_transposed, lambda base, raw: [np.ascontiguousarray(array.T) for array in base]),
    "swap_last": Rule(
        _swapped_last, lambda base, raw: [np.ascontiguousarray(array.swapaxes(-1, -2)) for array in base]
    ),
    "reshape": Rule(_reshaped, lambda base, raw: [base[0].reshape(raw[0])]),
    "merge_swapped": Rule(_merge_swapped, _to_merged),
    "split_swapped": Rule(_split_swapped, _from_merged),
    "reshape_transpose": Rule(_turned_after, lambda base, raw: [np.ascontiguousarray(base[0].reshape(raw[0][::-1]).T)]),
    "transpose_reshape": Rule(_turned_before, lambda base, raw: [np.ascontiguousarray(base[0].T).reshape(raw[0])]),
    **{name: make(axis, transpose) for name, (make, axis, transpose) in _PACKING.items()},
}
"""Every layout rule by the name that `ParameterLink.rule` has for it, but for those with groups (see `rule_named`)."""


@cache
def rule_named(name: str) -> Rule:
    """Return a layout rule by its name; `pack@4` packs in four groups, each with a quarter of every part."""
    packing, _, groups = name.partition("@")
    if not groups:
        return RULES[name]
    make, axis, transpose = _PACKING[packing]
    return make(axis, transpose, int(groups))
