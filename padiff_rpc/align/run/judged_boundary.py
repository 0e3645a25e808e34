"""A boundary once it is judged: its place, its verdicts, and the few figures that later stages ask for.

Its records are let go: a deep model has thousands, and each with its digest is several times as large as all that is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from padiff_rpc.compare.masks import MASKED
from padiff_rpc.model.model import Boundary, BoundarySide, Record
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair, Stage, Verdict
from padiff_rpc.tensors.tensor import TensorSpec

GETS: Mapping[Stage, BoundarySide] = {"forward": "input", "backward": "output"}
"""At which side of a layer the tensors are that it gets."""


@dataclass(frozen=True, slots=True)
class BoundaryPlace:
    """The place of a boundary in a run; its fields are those of Boundary."""

    seq: int
    route: str
    call: int
    side: BoundarySide
    caller: tuple[str, int] | None
    api: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """A boundary that both sides reached, with the verdict on each of its tensors.

    Attributes:
        base: is its place in base's run.
        raw: is its place in raw's run.
        pairs: hold the comparison of each of its tensors.
        first: is the spec of base's first tensor there.
        has_nan: says that base's tensors hold NaN.
        is_zero: says that both sides' tensors hold nothing but zeros.
        square: is the squared L2 norm of the floating tensors that base's layer took in in the forward, or of the gradients that
            it got back for its outputs in the backward. It is 0 elsewhere, and NaN where the digests do not tell it.
        l1: is the L1 norm of these gradients; it is 0 elsewhere, and NaN where the digests do not tell it.
        whole: are the boundaries themselves, for the model's own inputs and outputs, and for all where a side is a dump.
        elsewhere: tells, by tensor, of those that differ here and are found again elsewhere (see `Agreeing` and `Exchanged`).
    """

    base: BoundaryPlace
    raw: BoundaryPlace
    pairs: tuple[Pair, ...]
    first: TensorSpec | None
    has_nan: bool
    is_zero: bool
    square: float
    l1: float
    whole: PerSide[Boundary] | None
    elsewhere: Mapping[str, str] | None = None

    @property
    def places(self) -> PerSide[BoundaryPlace]:
        """Where the boundary was in each side's run."""
        return PerSide(self.base, self.raw)

    @property
    def failed(self) -> Pair | None:
        """The first comparison that fails; None where none does."""
        return next((pair for pair in self.pairs if pair.status == "fail"), None)

    def skipped(self, why: str) -> Judged:
        """Return the same boundary with none of its tensors compared, for the reason `why`."""
        verdict = Verdict.skip(why)
        return replace(self, pairs=tuple(pair.judged_anew(verdict) for pair in self.pairs))


def judged(base: Boundary, raw: Boundary, pairs: tuple[Pair, ...], keep_whole: bool) -> Judged:
    """Return two boundaries with the verdicts on their tensors, and the figures that are kept of them."""
    square = l1 = 0.0
    if (base.phase, base.side) == ("forward", "input"):
        # A mask is a summand of no gradient, however large its numbers are.
        square = _square([one for one in base.records if one.spec.dtype.is_floating and not one.digest.min <= MASKED])
    elif (base.phase, base.side) == ("backward", "output"):
        square = _square(base.records)
        l1 = sum((_or_nan(one.digest.abs_mean) * one.digest.count for one in base.records), 0.0)
    here, there = _place(base), _place(raw)
    return Judged(
        base=here,
        raw=here if here == there else there,
        pairs=pairs,
        first=base.records[0].spec if base.records else None,
        has_nan=any(one.digest.nan_count for one in base.records),
        is_zero=all(one.digest.is_zero for one in (*base.records, *raw.records)),
        square=square,
        l1=l1,
        whole=PerSide(base, raw) if keep_whole or not base.route else None,
    )


def _square(records: Sequence[Record]) -> float:
    norms = [_or_nan(one.digest.norm) for one in records]
    return sum((norm * norm for norm in norms), 0.0)  # where ** raises, a product is infinite


def _or_nan(statistic: float | None) -> float:
    return math.nan if statistic is None else statistic


def _place(boundary: Boundary) -> BoundaryPlace:
    return BoundaryPlace(boundary.seq, boundary.route, boundary.call, boundary.side, boundary.caller, boundary.api)
