"""Judge functional calls inside layers: which of them correspond, and which differences in them count.

They explain a layer that fails, and never make a layer fail: two right sides may spell one computation in two ways.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from padiff_rpc.align.run.judged_boundary import BoundaryPlace, Judged
from padiff_rpc.align.run.phase import PhaseRun
from padiff_rpc.align.run.threads import T
from padiff_rpc.model.api_names import api_name, api_route
from padiff_rpc.model.model import Boundary, LayerCall
from padiff_rpc.per_side import SIDES, PerSide, SideName
from padiff_rpc.result import Pair, Verdict

_Group = tuple[str, int, str]
"""The calls of one name in one layer call: base's route, the layer's call, the name."""


@dataclass(frozen=True)
class ApiCalls:
    """The functional calls of a forward.

    Attributes:
        judged: are the calls that both sides made, with the verdicts that they got as they came in.
        alone: are each side's calls without a partner.
    """

    judged: Sequence[Judged]
    alone: PerSide[list[Boundary]]


@dataclass(frozen=True)
class ApiFindings:
    """The functional calls of a forward, settled.

    Attributes:
        judged: are the calls that both sides made, with their last verdicts.
        alone: holds a skipped pair for each call without a partner.
        words: tells in words, for a layer call, of which names the two sides make another number of calls in it.
    """

    judged: Sequence[Judged] = ()
    alone: Sequence[Pair] = ()
    words: Mapping[LayerCall, Sequence[str]] = field(default_factory=dict)

    def first_failing(self, layer_call: LayerCall, before: int) -> Judged | None:
        """Return the first call in that layer call that fails, among those before a point of base's execution order."""
        return next(
            (one for one in self.judged if one.failed and one.base.caller == layer_call and one.base.seq < before),
            None,
        )


def split_calls(run: PhaseRun[T]) -> tuple[PhaseRun[T], ApiCalls]:
    """Separate the functional calls from the boundaries of layers; return a run with the latter alone, and the calls."""
    calls = run.leftovers.map(lambda boundaries: [boundary for boundary in boundaries if boundary.api])
    layers = run.leftovers.map(lambda boundaries: [boundary for boundary in boundaries if not boundary.api])
    judged = ApiCalls([one for one in run.judged if one.base.api], calls)
    return replace(run, judged=[one for one in run.judged if not one.base.api], leftovers=layers), judged


def settle_calls(step: int, calls: ApiCalls, layers: Sequence[Judged], to_base: Mapping[str, str]) -> ApiFindings:
    """Give the calls their last verdicts, by the verdicts on the layers around them.

    A call is skipped where the two sides make another number of calls of its name in a layer call, and where it differs in a
    layer call with which nothing else is wrong.

    Args:
        step: counts the steps from 0.
        calls: are the calls to settle.
        layers: are the judged boundaries of layers.
        to_base: maps raw's routes to base's.
    """
    to_raw = {base: raw for raw, base in to_base.items()}
    counts: dict[_Group, Counter[SideName]] = defaultdict(Counter)
    for one in calls.judged:
        counts[_group(one.base, None)].update(SIDES)
    alone: list[tuple[_Group, SideName, Boundary]] = [
        (_group(boundary, to_base if side == "raw" else None), side, boundary)
        for side, boundaries in calls.alone.items()
        for boundary in boundaries
    ]
    for group, side, _ in alone:
        counts[group][side] += 1
    doubts = {group: _doubt(group[2], count) for group, count in counts.items() if count["base"] != count["raw"]}
    words: dict[LayerCall, list[str]] = defaultdict(list)
    for (route, call, _), doubt in doubts.items():
        words[route, call].append(doubt)
    at_fault, agreeing = _layer_calls(layers)
    return ApiFindings(
        judged=[_settle(one, doubts.get(_group(one.base, None), ""), at_fault, agreeing) for one in calls.judged],
        alone=[
            Pair.of(
                Verdict.skip(doubts[route, call, name]),
                step=step,
                stage="forward",
                base_route=api_route(route, name),
                raw_route=api_route(to_raw[route], name),
                tensor="output",
                call=boundary.call,
            )
            for (route, call, name), _, boundary in alone
        ],
        words=words,
    )


def _doubt(name: str, count: Counter[SideName]) -> str:
    base, raw = count["base"], count["raw"]
    if base and raw:
        return f"base calls {name} {_times(base)} here, raw {_times(raw)}: which correspond cannot be told"
    return f"only {'base' if base else 'raw'} calls {name} here"


def _layer_calls(layers: Sequence[Judged]) -> tuple[set[LayerCall | None], set[LayerCall | None]]:
    """Return the layer calls whose own code may be at fault, and those of which an output agrees.

    A layer call may be at fault where one of its outputs fails, or an input of a layer that is called inside. In single step that
    input is replaced, so that the output behind it agrees.
    """
    at_fault: set[LayerCall | None] = set()
    agreeing: set[LayerCall | None] = set()
    for one in layers:
        own = (one.base.route, one.base.call) if one.base.side == "output" else one.base.caller
        if one.failed is not None:
            at_fault.add(own)
        elif one.base.side == "output" and any(pair.status == "pass" for pair in one.pairs):
            agreeing.add(own)
    return at_fault, agreeing


def _settle(
    one: Judged, doubt: str, at_fault: Collection[LayerCall | None], agreeing: Collection[LayerCall | None]
) -> Judged:
    if doubt:
        return one.skipped(doubt)
    if one.failed is None or one.base.caller in at_fault:
        return one
    why = (
        "differs here, but the outputs of its layer agree (the sides compute it in another way)"
        if one.base.caller in agreeing
        else "differs here, but no output of its layer was compared, and a call alone is no failure"
    )
    return replace(
        one,
        pairs=tuple(
            pair.judged_anew(Verdict("skipped", "", why, pair.metrics)) if pair.status == "fail" else pair
            for pair in one.pairs
        ),
    )


def _group(boundary: Boundary | BoundaryPlace, to_base: Mapping[str, str] | None) -> _Group:
    route, call = boundary.caller or ("", 0)
    return (route if to_base is None else to_base[route], call, api_name(boundary.route, route))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
