"""Take back what the floor has excused beyond the table, where nothing that came to the layer explains it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from padiff_rpc.align.run.judged_boundary import GETS, Judged
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.compare.floor import WRONG
from padiff_rpc.result import Pair, Stage

_NOISE = 0.5
"""A tensor with such a floor is nothing but rounding: a sum that cancels, whatever the layer gets (before an InstanceNorm)."""

_Got = Mapping[tuple[Stage, str], float]


def take_back_excuses(steps: Sequence[StepResult]) -> None:
    """Fail excused differences of layers that got tensors which agree far better than their floors.

    A tensor's floor is what rounding has added up to there. A layer whose inputs agree has no part in that: what it shows is its
    own. So what it is excused scales with how far apart its inputs are, in their floors, and one floor at most counts.
    What is zero but for rounding stays excused: no more than 16 times that rounding.

    Args:
        steps: are changed in place.
    """
    for one in steps:
        got = _got(one)
        one.forward = [_settled(each, got) for each in one.forward]
        one.backward = [_settled(each, got) for each in one.backward]
        one.others = [_of_parameter(pair, got) if pair.stage == "grads" else pair for pair in one.others]


def _got(step: StepResult) -> _Got:
    """Return, by stage and base's route, how many floors the tensors that a layer gets are apart, at most."""
    found: defaultdict[tuple[Stage, str], float] = defaultdict(float)
    for one in (*step.forward, *step.backward):
        for pair in one.pairs:
            if one.base.side != GETS[pair.stage] or pair.metrics is None or pair.metrics.ratio is None:
                continue
            place = pair.stage, one.base.route
            found[place] = max(found[place], pair.metrics.ratio)
    return dict(found)


def _settled(one: Judged, got: _Got) -> Judged:
    if not one.pairs or one.base.side == GETS[one.pairs[0].stage]:
        return one
    came = [got.get((pair.stage, one.base.route)) for pair in one.pairs]
    pairs = tuple(map(_weighed, one.pairs, came))
    return one if all(new is old for new, old in zip(pairs, one.pairs, strict=True)) else replace(one, pairs=pairs)


def _of_parameter(pair: Pair, got: _Got) -> Pair:
    both = [got.get((stage, pair.base_route)) for stage in GETS]
    known = [one for one in both if one is not None]
    return _weighed(pair, max(known)) if len(known) == len(both) else pair


def _weighed(pair: Pair, came: float | None) -> Pair:
    metrics = pair.metrics
    if came is None or pair.status != "pass" or metrics is None or metrics.floor is None:
        return pair
    if (
        metrics.floor >= _NOISE
        or metrics.allowed != WRONG * metrics.floor
        or metrics.rel_l2 <= WRONG * metrics.floor * min(1.0, came)
    ):
        return pair
    why = f"{metrics.rel_l2:.2g} apart (relative L2), beyond the table, though what it gets agrees within {came:.1g} floors"
    return replace(pair, status="fail", failure="values", why=why)
