"""Judge gradients of a tensor that several layers take: PaDiff's dumps hold their sum, other models each layer's own part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.run.phase import PhaseRun
from padiff_rpc.model.model import BackwardResult, Boundary, BoundarySide, Record
from padiff_rpc.per_side import OTHER_SIDE, SideName
from padiff_rpc.tensors.tensor import Digest

_ALIKE = 1e-3
"""Relative difference of two digests' figures up to which their tensors may be the same gradient, computed by two frameworks."""


def settle_sums(forward: PhaseRun[Any], backward: PhaseRun[BackwardResult]) -> list[Judged]:
    """Return the judged boundaries of the backward, without the differences that one side's sums explain.

    These are gradients of inputs where one side has sums, and the other side's records do not show that the layer's part is the
    whole gradient. Either the tensor's whole gradient is another one, and is like the sum. Or unrecorded code made the tensor, so
    that it is unknown which other layers take it. A fault of a layer's own backward is in the whole gradient too, and stays.
    """
    summing: list[SideName] = [side for side, result in backward.results.items() if "parts" in result.unrecorded]
    if len(summing) != 1:
        return backward.judged
    parts = _Parts(OTHER_SIDE[summing[0]], forward, backward)
    return [_settled(one, summing[0], parts) for one in backward.judged]


def _settled(one: Judged, summing: SideName, parts: _Parts) -> Judged:
    if one.base.side != "input" or one.failed is None or one.failed.failure != "values":
        return one
    why = parts.excuse(_boundary(one, parts.side), _boundary(one, summing).records[0].digest)
    if not why:
        return one
    why = f"{summing} is a dump that holds the sum over all users of this tensor, {parts.side} the layer's own part; {why}"
    return one.skipped(why)


@dataclass(frozen=True)
class _BoundaryGradient:
    """A boundary's tensor: the hash of its value, and its gradient."""

    route: str
    side: BoundarySide
    value: bytes
    gradient: Digest


class _Parts:
    """The records of the side that keeps gradients apart: its tensors and their gradients."""

    def __init__(self, side: SideName, forward: PhaseRun[Any], backward: PhaseRun[Any]) -> None:
        self.side: SideName = side
        self._values = {place: record.digest.hash for place, record in _records(forward, side)}
        self._known = [
            _BoundaryGradient(place[0], place[2], self._values[place], record.digest)
            for place, record in _records(backward, side)
            if place in self._values
        ]

    def excuse(self, boundary: Boundary, total: Digest) -> str:
        """Say why the gradient at this input may be another one than the sum that the other side holds; "" where it may not."""
        record = boundary.records[0]
        value = self._values.get((boundary.route, boundary.call, "input", record.name))
        if value is None:
            return ""
        # What comes back to an output, or to the model's own input, is the whole gradient of that tensor.
        sources = [one for one in self._known if one.value == value and (one.side == "output" or not one.route)]
        if any(one.gradient.hash == record.digest.hash for one in sources):
            return ""
        if sources:
            return "others take it too" if any(_alike(one.gradient, total) for one in sources) else ""
        return "no layer that is recorded made it, so that it is not known whether others take it too"


def _alike(one: Digest, other: Digest) -> bool:
    """Compare figures alone: a model that runs has let go of the tensors by now."""
    if one.count != other.count or one.nan_count or other.nan_count:
        return False
    near = ((one.min, other.min, one.peak), (one.max, other.max, one.peak), (one.norm, other.norm, one.norm))
    means = (one.mean, other.mean, one.abs_mean), (one.abs_mean, other.abs_mean, one.abs_mean)
    return all(
        abs(mine - theirs) <= _ALIKE * size
        for mine, theirs, size in (*near, *means)
        if mine is not None and theirs is not None and size is not None  # not all of them may have been asked for
    )


def _records(run: PhaseRun[Any], side: SideName) -> Iterator[tuple[tuple[str, int, BoundarySide, str], Record]]:
    for boundary in (*(_boundary(one, side) for one in run.judged), *run.leftovers.of(side)):
        for record in boundary.records:
            yield (boundary.route, boundary.call, boundary.side, record.name), record


def _boundary(one: Judged, side: SideName) -> Boundary:
    assert one.whole is not None, "boundaries are kept whole where a side is a dump"
    return one.whole.of(side)
