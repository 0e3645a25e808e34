"""Judge layer calls and gradients that only one side reached."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.model.model import BackwardResult, Boundary, BoundarySide, LayerCall
from padiff_rpc.per_side import OTHER_SIDE, PerSide, SideName
from padiff_rpc.result import Pair, Verdict

_ANEW = "the first forward had no history, so that gradients come to its parameters only"
"""Why no gradient comes to the boundaries of a layer that is recomputed."""


class OneSided:
    """Turns boundaries without a partner into pairs and words. `to_base` maps matched routes of raw to those of base."""

    def __init__(self, to_base: Mapping[str, str]) -> None:
        self._to_base = to_base
        self._to_raw = {base: raw for raw, base in to_base.items()}

    def calls(
        self, step: int, judged: Sequence[Judged], leftovers: PerSide[list[Boundary]]
    ) -> tuple[list[Pair], dict[LayerCall, list[str]]]:
        """Return a skipped pair per layer call that only one side made, and the same in words by enclosing base call.

        Such a call is no failure. Whether a layer is called through its module or inlined is a matter of style, and its results
        reach an output that is compared.
        """
        ran = {one.base.route for one in judged}
        pairs: list[Pair] = []
        words: dict[LayerCall, list[str]] = defaultdict(list)
        for side, boundaries in leftovers.items():
            for boundary in boundaries:
                if boundary.side != "output":
                    continue
                base_route = self._base_route(side, boundary.route)
                raw_route = self._to_raw[base_route]
                count = "again " if base_route in ran else ""
                own = base_route if side == "base" else raw_route
                why = (
                    f"only {side} calls {own!r} {count}here; {OTHER_SIDE[side]} does not run it through its own forward"
                )
                pairs.append(
                    Pair.of(
                        Verdict.skip(why),
                        step=step,
                        stage="forward",
                        base_route=base_route,
                        raw_route=raw_route,
                        tensor="output",
                        call=boundary.call,
                    )
                )
                if boundary.caller is not None:
                    words[self._base_route(side, boundary.caller[0]), boundary.caller[1]].append(why)
        return pairs, dict(words)

    def gradients(
        self,
        step: int,
        forward: Sequence[Judged],
        judged: Sequence[Judged],
        leftovers: PerSide[list[Boundary]],
        results: PerSide[BackwardResult],
    ) -> list[MissingGradient]:
        """Judge gradients that only one side has: they fail, unless they are zero, or the other side is a dump without any.

        Args:
            step: counts the steps from 0.
            forward: are the boundaries of the forward that both sides reached.
            judged: are those of the backward.
            leftovers: are each side's boundaries of the backward without a partner.
            results: are each side's results of the backward. They tell the places to which autograd leads and where no gradient
                came, and the kinds of tensors that a dump does not hold at all.
        """
        both = {(one.base.route, one.base.call) for one in forward}
        found: list[MissingGradient] = []
        for side, boundaries in leftovers.items():
            other = OTHER_SIDE[side]
            lacking, silent = results.of(other), results.of(other).without_gradient
            for boundary in boundaries:
                base_route = self._base_route(side, boundary.route)
                if (base_route, boundary.call) not in both:
                    continue
                names = [record.name for record in boundary.records]
                theirs = base_route if other == "base" else self._to_raw[base_route]
                pair = Pair.of(
                    _verdict_on(side, boundary, lacking, theirs),
                    step=step,
                    stage="backward",
                    base_route=base_route,
                    raw_route=self._to_raw[base_route],
                    call=boundary.call,
                    tensor=f"grad of {boundary.side}.{', '.join(names)}",
                )
                expected = {(theirs, boundary.call, boundary.side, name) for name in names}
                caller = boundary.caller
                if caller is not None:
                    caller = (self._base_route(side, caller[0]), caller[1])
                found.append(
                    MissingGradient(
                        pair=pair,
                        call=(base_route, boundary.call),
                        caller=caller,
                        side=boundary.side,
                        at=float(boundary.seq) if side == "base" else _in_base_order(boundary.seq, judged),
                        detached=not expected & set(silent),
                    )
                )
        return found

    def recomputed(
        self, step: int, forward: Sequence[Judged], came: Collection[LayerCall], results: PerSide[BackwardResult]
    ) -> list[Pair]:
        """Return a skipped pair per layer call that both sides compute anew in the backward, and to which no gradient came.

        Args:
            step: counts the steps from 0.
            forward: are the boundaries of the forward that both sides reached.
            came: are base's calls to whose boundaries a gradient came on some side.
            results: are each side's results of the backward.
        """
        again = {self._to_base[route] for route in results.raw.recomputed} & set(results.base.recomputed)
        return [
            Pair.of(
                Verdict.skip(f"both sides compute this layer anew in the backward: {_ANEW}"),
                step=step,
                stage="backward",
                base_route=one.base.route,
                raw_route=one.raw.route,
                call=one.base.call,
                tensor="grad of output",
            )
            for one in forward
            if one.base.side == "output" and one.base.route in again and (one.base.route, one.base.call) not in came
        ]

    def _base_route(self, side: SideName, route: str) -> str:
        return route if side == "base" else self._to_base[route]


def _verdict_on(side: SideName, boundary: Boundary, lacking: BackwardResult, route: str) -> Verdict:
    """Judge a gradient that `side` alone has; lacking: the other side's result; route: the layer's route there."""
    other, unrecorded = OTHER_SIDE[side], lacking.unrecorded
    why = f"only {side} has this gradient"
    if boundary.side in unrecorded:
        return Verdict.skip(f"{why}; {other} is a dump that holds no gradients of its layers' {boundary.side}s")
    if "parts" in unrecorded and not boundary.records[0].name[:1].isdigit():
        return Verdict.skip(
            f"{why}; {other} is a dump of PaDiff's, which records none of inputs that are passed by name"
        )
    if route in lacking.recomputed:
        return Verdict.skip(f"{why}; {other} computes this layer anew in the backward: {_ANEW}")
    if all(record.digest.is_zero for record in boundary.records):
        return Verdict.skip(f"{why}, and it is zero; {other} has none")
    return Verdict("fail", "missing", why, None)


def _in_base_order(raw_seq: int, judged: Sequence[Judged]) -> float:
    """Return where a boundary of raw's lies among base's: before the first that raw reached after it."""
    later = [one.base.seq for one in judged if one.raw.seq > raw_seq]
    return min(later) - 0.5 if later else float("inf")


@dataclass(frozen=True)
class MissingGradient:
    """A gradient that only one side has, in base's routes.

    Attributes:
        pair: is its comparison.
        call: is the layer call at whose boundary it is.
        caller: is the enclosing recorded layer call; None for the root.
        side: tells whether it belongs to an input or an output.
        at: is its place among base's boundaries of the backward, counted as their `seq`.
        detached: says that autograd does not lead to this place on the side without it (the history was cut before). Else
            autograd led there, and no gradient came.
    """

    pair: Pair
    call: LayerCall
    caller: LayerCall | None
    side: BoundarySide
    at: float
    detached: bool
