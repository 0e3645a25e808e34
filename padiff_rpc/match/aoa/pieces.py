"""Tensors that are put together of pieces of others: cut, joined and permuted without moving an element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.layout_rules import Shape


@dataclass(frozen=True)
class SourceBox:
    """A box of one source, as it lies in a tensor. All of it is told along the tensor's axes.

    Attributes:
        source: the source's name.
        axes: which axis of the source lies along each axis of the tensor.
        box: the part of the source, as (start, stop).
        at: where the box begins in the tensor.
    """

    source: str
    axes: tuple[int, ...]
    box: tuple[tuple[int, int], ...]
    at: tuple[int, ...]


@dataclass(frozen=True)
class Pieced:
    """A tensor as the pieces that it is made of."""

    shape: Shape
    pieces: tuple[SourceBox, ...]


def whole(source: str, shape: Shape) -> Pieced:
    """Return a source as it is."""
    box = tuple((0, size) for size in shape)
    return Pieced(shape, (SourceBox(source, tuple(range(len(shape))), box, (0,) * len(shape)),))


def permuted(tensor: Pieced, axes: Sequence[int]) -> Pieced:
    """Return a tensor with its axes in another order."""
    if sorted(axes) != list(range(len(tensor.shape))):
        raise _unusable(f"{list(axes)} is no order of the {len(tensor.shape)} axes of {list(tensor.shape)}")
    pieces = tuple(
        replace(
            piece,
            axes=tuple(piece.axes[axis] for axis in axes),
            box=tuple(piece.box[axis] for axis in axes),
            at=tuple(piece.at[axis] for axis in axes),
        )
        for piece in tensor.pieces
    )
    return Pieced(tuple(tensor.shape[axis] for axis in axes), pieces)


def cut(tensor: Pieced, axis: int, count: int) -> list[Pieced]:
    """Cut a tensor into parts of equal size along an axis."""
    _check_axis(tensor, axis)
    size, rest = divmod(tensor.shape[axis], count)
    if rest or not size:
        raise _unusable(f"axis {axis} of {list(tensor.shape)} cannot be cut into {count} equal parts")
    shape = _with(tensor.shape, axis, size)
    return [Pieced(shape, _between(tensor, axis, size * part, size * (part + 1))) for part in range(count)]


def joined(tensors: Sequence[Pieced], axis: int) -> Pieced:
    """Lay tensors side by side along an axis."""
    _check_axis(tensors[0], axis)
    rests = {_with(tensor.shape, axis, 0) if len(tensor.shape) > axis else tensor.shape for tensor in tensors}
    if len(rests) != 1:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors)
        raise _unusable(f"tensors of the shapes {shapes} cannot be joined along axis {axis}")
    starts = accumulate((tensor.shape[axis] for tensor in tensors), initial=0)
    pieces = tuple(
        replace(piece, at=_with(piece.at, axis, piece.at[axis] + start))
        for start, tensor in zip(starts, tensors, strict=False)
        for piece in tensor.pieces
    )
    return Pieced(_with(tensors[0].shape, axis, sum(tensor.shape[axis] for tensor in tensors)), pieces)


def _between(tensor: Pieced, axis: int, start: int, stop: int) -> tuple[SourceBox, ...]:
    """Return what of the pieces lies between two places on an axis, told from the first of them."""
    found: list[SourceBox] = []
    for piece in tensor.pieces:
        begin, end = piece.box[axis]
        first = max(start, piece.at[axis])
        last = min(stop, piece.at[axis] + end - begin)
        if first < last:
            box = (begin + first - piece.at[axis], begin + last - piece.at[axis])
            found.append(
                replace(
                    piece, box=(*piece.box[:axis], box, *piece.box[axis + 1 :]), at=_with(piece.at, axis, first - start)
                )
            )
    return tuple(found)


def _with(values: tuple[int, ...], axis: int, value: int) -> tuple[int, ...]:
    return (*values[:axis], value, *values[axis + 1 :])


def _check_axis(tensor: Pieced, axis: int) -> None:
    if axis >= len(tensor.shape):
        raise _unusable(f"a tensor of shape {list(tensor.shape)} has no axis {axis}")


def _unusable(why: str) -> PadiffError:
    return PadiffError(why, reason=Reason.BAD_TENSOR)
