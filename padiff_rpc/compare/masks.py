"""Compare two masks by which positions they mask, in whatever form each side spells that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from padiff_rpc.compare.forms import are_regrouped, digested
from padiff_rpc.compare.judge import compare_streams
from padiff_rpc.compare.standard import Standard
from padiff_rpc.result import Verdict
from padiff_rpc.tensors.float64 import to_float64
from padiff_rpc.tensors.tensor import Digest, DType, Tensor, TensorSpec

_LARGE = 100.0
"""What is added to a score takes it out of a softmax from here on: exp(-100) is less than the least float32."""
MASKED = -1000.0
"""Scores that a mask was added to are this small or smaller."""
_MOST_BYTES = 64 << 20
"""Masks are read whole, and widened, up to this size."""

_Kind = Literal["flags", "added"]


@dataclass(frozen=True)
class _Mask:
    """Where a tensor is True or 1 (flags), or large and negative (added to scores)."""

    kind: _Kind
    at: np.ndarray


def may_be_masks(base_spec: TensorSpec, base: Digest, raw_spec: TensorSpec, raw: Digest) -> bool:
    """Tell by their digests whether two tensors may be masks: flags (boolean, 0 and 1), or zeros and large negative numbers.

    Numbers of 0 and 1 in one form on both sides are none, since plain comparison settles them as well. Zeros alone are a mask to
    be added that masks nothing, where the other side's mask has another shape.
    """
    reshaped = base_spec.shape != raw_spec.shape
    if max(base_spec.size_bytes, raw_spec.size_bytes) > _MOST_BYTES:
        return False
    if may_be_scores(base_spec, base, raw_spec, raw):
        return True
    kinds = _kind(base_spec, base, reshaped), _kind(raw_spec, raw, reshaped)
    if None in kinds:
        return False
    return base_spec != raw_spec or "added" in kinds or base_spec.dtype is DType.BOOL


def compare_masks(base: Tensor, raw: Tensor, standard: Standard, otherwise: Verdict | None) -> Verdict | None:
    """Compare two masks by the positions that they mask; return `otherwise` where they are no masks, or cannot be compared so.

    A mask of another width is broadcast, or cut to the positions that both have. Flags against numbers to be added do not pass,
    since nothing tells whether a flag masks or keeps: they are skipped where they speak of the same positions.

    Args:
        base: is base's tensor.
        raw: is raw's tensor.
        standard: says how tensors are judged.
        otherwise: is the verdict where the two are not compared as masks; None where they are to be compared plainly.
    """
    mine, theirs = _mask(base), _mask(raw)
    if mine is None and theirs is None and base.spec.shape == raw.spec.shape:
        scores = compare_scores(base, raw, standard)
        return otherwise if scores is None else scores
    common = None if mine is None or theirs is None else _in_common(mine.at, theirs.at)
    if mine is None or theirs is None or common is None:
        return otherwise
    one, other, is_cut = common
    if mine.kind != theirs.kind:
        if np.array_equal(one, other) or np.array_equal(one, ~other):
            forms = f"{base.spec} in base, {raw.spec} in raw"
            return Verdict.skip(f"masks in different forms, which tell the same positions: {forms}")
        if otherwise is not None and otherwise.status == "skipped" and base.spec.shape != raw.spec.shape:
            return otherwise
    verdict = _compared(one, other, standard)
    where = f"of the {one.size} positions that both have" if is_cut else f"of {one.size} positions"
    if verdict.status == "pass":
        return replace(verdict, why=f"compared as masks: both mark {np.count_nonzero(one)} {where}")
    if mine.kind == theirs.kind == "flags" and np.array_equal(one, ~other):
        return replace(verdict, why="the mask is inverted: it is set on each side where the other's is not")
    return replace(verdict, why=_other_positions(one, other, where))


def _other_positions(one: np.ndarray, other: np.ndarray, where: str) -> str:
    wrong = one != other
    first = [int(axis) for axis in np.unravel_index(int(wrong.argmax()), wrong.shape)]
    side = "base" if one[tuple(first)] else "raw"
    return f"masks other positions: {np.count_nonzero(wrong)} {where} differ, the first at {first}, which {side} alone marks"


def may_be_scores(base_spec: TensorSpec, base: Digest, raw_spec: TensorSpec, raw: Digest) -> bool:
    """Tell whether two tensors may hold scores to which masks were added: numbers of common sizes, and some far below them."""
    small = max(base_spec.size_bytes, raw_spec.size_bytes) <= _MOST_BYTES
    return small and base_spec.shape == raw_spec.shape and _are_scores(base_spec, base) and _are_scores(raw_spec, raw)


def _are_scores(spec: TensorSpec, digest: Digest) -> bool:
    return spec.dtype.is_floating and not digest.nan_count and digest.min <= MASKED and digest.max <= _LARGE


def compare_scores(base: Tensor, raw: Tensor, standard: Standard) -> Verdict | None:
    """Compare scores by the positions that they mask, and by the numbers at all others; None where they are no such scores."""
    masked = masked_scores(base, raw)
    if masked is None:
        return None
    one, other = masked
    if not np.array_equal(one, other):
        verdict = _compared(one, other, standard)
        return replace(verdict, why=_other_positions(one, other, f"of {one.size} positions"))
    (mine, digest), (theirs, its) = (digested(without(side, one)) for side in (base, raw))
    verdict = compare_streams(mine.stream("scores"), theirs.stream("scores"), digest, its, standard)
    why = f"compared where neither side masks: both mask {np.count_nonzero(one)} of {one.size} positions"
    return replace(verdict, why=f"{verdict.why}; {why}" if verdict.why else why)


def masked_scores(base: Tensor, raw: Tensor) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the positions of base's and of raw's scores to which a mask was added; None where they are no such scores."""
    values = [to_float64(one.to_array().reshape(-1), one.spec.dtype) for one in (base, raw)]
    masked = [one <= MASKED for one in values]
    kept = [np.abs(one[~at]) for one, at in zip(values, masked, strict=True)]
    if any(one.max(initial=0.0) > _LARGE for one in kept) or not all(at.any() for at in masked):
        return None
    one, other = (at.reshape(base.spec.shape) for at in masked)
    return one, other


def without(scores: Tensor, masked: np.ndarray) -> Tensor:
    """Return scores with zeros at these positions, where what a mask added outweighs all others."""
    array = scores.to_array().copy()
    array[masked] = 0
    return Tensor.from_array(array, scores.spec.dtype)


def _kind(spec: TensorSpec, digest: Digest, reshaped: bool) -> _Kind | None:
    if not spec.count or digest.nan_count or spec.dtype.is_complex:
        return None
    if digest.min >= 0.0 and digest.max <= 1.0 and not digest.is_zero:
        return "flags"
    if spec.dtype is DType.BOOL:
        return "flags"
    masks = digest.min <= -_LARGE or (reshaped and digest.is_zero)
    return "added" if spec.dtype.is_floating and digest.max == 0.0 and masks else None


def _mask(tensor: Tensor) -> _Mask | None:
    """Return what a tensor masks; None where it is no mask: it holds more than two sorts of numbers."""
    flat = tensor.to_array().reshape(-1)
    if tensor.spec.dtype is DType.BOOL:
        return _Mask("flags", (flat.view(np.uint8) != 0).reshape(tensor.spec.shape))
    values = to_float64(flat, tensor.spec.dtype) if tensor.spec.dtype.is_floating else flat
    zero, one = values == 0, values == 1
    if bool((zero | one).all()) and not (tensor.spec.dtype.is_floating and zero.all()):
        return _Mask("flags", one.reshape(tensor.spec.shape))
    large = values <= -_LARGE
    if bool((zero | large).all()):
        return _Mask("added", large.reshape(tensor.spec.shape))
    return None


def _in_common(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool] | None:
    """Return both in one shape, and whether they were cut to that; None where there is none."""
    if are_regrouped(one.shape, other.shape):
        return one, other.reshape(one.shape), False
    axes = max(one.ndim, other.ndim)
    mine, theirs = (each.reshape((1,) * (axes - each.ndim) + each.shape) for each in (one, other))
    both = list(zip(mine.shape, theirs.shape, strict=True))
    is_cut = any(1 not in sizes and sizes[0] != sizes[1] for sizes in both)
    if is_cut and one.ndim != other.ndim:
        return None  # nothing tells which axes correspond
    reach = tuple(slice(0, max(sizes) if 1 in sizes else min(sizes)) for sizes in both)
    mine, theirs = np.broadcast_arrays(mine[reach], theirs[reach])
    return mine, theirs, is_cut


def _compared(one: np.ndarray, other: np.ndarray, standard: Standard) -> Verdict:
    """Compare booleans as any two tensors are, for the metrics."""
    (base, mine), (raw, theirs) = (digested(Tensor.from_array(np.ascontiguousarray(each))) for each in (one, other))
    return compare_streams(base.stream("mask"), raw.stream("mask"), mine, theirs, standard)
