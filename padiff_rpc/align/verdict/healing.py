"""Set aside the differences inside layers that heal: everything that is computed from them agrees again."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from padiff_rpc.align.run.judged_boundary import BoundaryPlace, Judged
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.stages.one_sided import MissingGradient
from padiff_rpc.align.verdict.following_gradients import FollowingGradients
from padiff_rpc.model.model import LayerCall
from padiff_rpc.result import Pair, Verdict

OUTPUT_SHARE = 0.01
"""An output may be apart by this share of a difference inside, at most, where the difference is said to heal at it.

What heals does not reach the output at all: healthy pairs agree there to 1e-7 to 4e-6, where unlike tensors that were paired
are apart by 0.1 to 2. A fault whose effect is merely damped on the way (a residual branch of a tenth, a norm's epsilon)
keeps a larger share, and is not set aside.
"""
GRADIENT_SHARE = 0.1
"""The same for parameters' gradients, which two right float32 models leave further apart."""
_UNMEASURED = 0.01
"""The size that is taken for a difference without a measured one, such as that of two shapes."""
_UNMEASURED_GRADIENT = 1.0
"""The same for gradients, which no two models leave as close together as outputs."""

_INNER = ("forward", "backward")


def set_aside_what_heals(
    steps: Sequence[StepResult], settings: AlignSettings, complete: bool, holders: Collection[str] = ()
) -> list[str]:
    """Turn inner differences that heal into skipped comparisons, which say where they heal and keep their metrics.

    Outputs and inputs of the model, loss, gradients, updated weights and buffers are never set aside: they decide. Where all of
    them agree in every step, a difference inside heals if they agree far better than it is large. Where some do not, the result
    is "differs" whatever happens here, and a difference of the forward still is not the first divergence where an enclosing
    layer's output agrees far better than it is large.

    Nothing heals in single step, which hands raw base's tensors after each layer; in PaDiff's modes, where every difference
    counts; where the model's outputs are not recorded; or with strict_inside and fail_fast. By itself a difference does not
    heal either where raw lacks a gradient, or where no gradient but zero came back to it: then nothing shows that it is harmless.

    Args:
        steps: are changed in place.
        settings: say what was run.
        complete: says that all comparisons which had to be made were made, that nothing was left out of them, and that no
            parameter or buffer lacks a partner.
        holders: are base's routes of the layers that hold parameters themselves. What such a layer makes of its parameters does
            not heal by itself, however little of it arrives at the outputs, unless the same elements lie along other axes.

    In all other runs an output that differs is set aside, too, where the very tensor of one side is compared further on. So is
    what layers of inferred pairs take and return, where they are used in each other's place.

    Returns:
        A note on what was set aside; none where nothing was.
    """
    if settings.single_step or settings.strict_inside or settings.fail_fast or settings.compare.mode != "scaled":
        return []
    decisive = [pair for one in steps for pair in one.pairs if not _is_inner(pair)]
    if not any(_is_output(pair) for pair in decisive):
        return []
    aside = [pair for one in steps for pair in _found_elsewhere(one)]
    if any(pair.status == "fail" for pair in decisive):
        for one in steps:
            aside += _set_aside(one, _beside_a_fault(one))
    elif complete and _outputs_tell(steps):
        for one in steps:
            aside += _set_aside(one, _where_all_agrees(one, _ceiling(decisive), holders, settings))
    return _note(aside)


_Heals = Callable[[Pair, "BoundaryPlace | None"], str]
"""Says where a difference heals; "" where it does not."""


def _beside_a_fault(one: StepResult) -> _Heals:
    """Let a difference heal where what is computed from it next agrees, be it along other axes."""
    places, cut, turned = _Places(one), _cut(one), _along_other_axes(one)

    def heals(pair: Pair, place: BoundaryPlace | None) -> str:
        if _place(pair) in cut:
            return ""
        if pair.failure == "axes" and (pair.base_route, pair.call) in turned:
            return f"{_any_number(pair.base_route)} takes and returns the same along other axes"
        return places.heals_nearby(pair, place)

    return heals


def _along_other_axes(one: StepResult) -> set[LayerCall]:
    """Return the calls of layers that take and return what they do on the other side, along other axes.

    A layer that was given its input along wrong axes would return other numbers, unless it treats these axes alike; then the
    first layer that does not is told.
    """
    failures: dict[LayerCall, dict[str, set[str]]] = {}
    for each in one.forward:
        sides = failures.setdefault((each.base.route, each.base.call), {"input": set(), "output": set()})
        sides[each.base.side].update(pair.failure for pair in each.pairs)
    return {
        call
        for call, sides in failures.items()
        if all("axes" in found and found <= {"", "axes"} for found in sides.values())
    }


def _where_all_agrees(one: StepResult, ceiling: float, holders: Collection[str], settings: AlignSettings) -> _Heals:
    """Let a difference heal that is larger than the ceiling, but for those that would not show in what agrees."""
    unlooked = " (gradients were not looked at)" if settings.diff_phase == "forward" else ""
    places, silent = _Places(one), _without_gradient(one) | _cut(one)

    def heals(pair: Pair, place: BoundaryPlace | None) -> str:
        size = _size(pair)
        made = _is_output(pair) and pair.base_route in holders and pair.failure != "axes"
        if math.isnan(size) or size < ceiling or made or _place(pair) in silent:
            return ""
        if pair.stage == "backward" and not places.heals_nearby(pair, place):
            return ""
        return f"differs {places.inside(pair, place)}, and heals: all that follows from it agrees{unlooked}"

    return heals


def _found_elsewhere(one: StepResult) -> list[Pair]:
    """Skip what differs where its tensors are found again at other layers, and its gradients; return the pairs as they are."""
    reasons = {
        (each.base.route, each.base.call, tensor): _any_number(why)
        for each in one.forward
        for tensor, why in (each.elsewhere or {}).items()
    }
    aside: list[Pair] = []

    def anew(pair: Pair) -> Pair:
        why = reasons.get((pair.base_route, pair.call, pair.tensor.removeprefix("grad of ")))
        if why is None or pair.status != "fail" or pair.failure == "nan":
            return pair
        aside.append(pair.judged_anew(replace(Verdict.skip(why), metrics=pair.metrics)))
        return aside[-1]

    def boundaries(judged: Sequence[Judged]) -> list[Judged]:
        return [replace(each, pairs=tuple(map(anew, each.pairs))) if each.failed else each for each in judged]

    if reasons:
        one.forward, one.backward = boundaries(one.forward), boundaries(one.backward)
    return aside


def _note(aside: Sequence[Pair]) -> list[str]:
    if not aside:
        return []
    largest = max((pair.metrics.rel_l2 for pair in aside if pair.metrics is not None), default=0.0)
    size = f", by up to {largest:.2g} of the tensor," if largest else ""
    return [
        f"{len(aside)} tensors inside layers differ{size} and were set aside, for what follows from them agrees: "
        "--strict-inside fails them"
    ]


def _outputs_tell(steps: Iterable[StepResult]) -> bool:
    """Tell whether the model's outputs can show an error: floating numbers, and not all of them zero."""
    roots = [one for step in steps for one in step.forward if one.base.route == "" and one.base.side == "output"]
    passed = [pair for one in roots for pair in one.pairs if pair.status == "pass"]
    measured = all(pair.metrics is not None and pair.metrics.measure == "rel_l2" for pair in passed)
    return measured and not any(one.is_zero for one in roots)


_Place = tuple[str, int, str]
"""A layer's route, its call, and whether its inputs or its outputs."""


def _place(pair: Pair) -> _Place:
    return pair.base_route, pair.call, pair.tensor.removeprefix("grad of ").partition(".")[0]


def _without_gradient(one: StepResult) -> set[_Place]:
    """Return the places to which gradients came back, and none but zero: an error there does not show in any gradient."""
    came: dict[_Place, bool] = {}
    for each in one.backward:
        place = (each.base.route, each.base.call, each.base.side)
        came[place] = came.get(place, True) and each.is_zero
    return {place for place, zero in came.items() if zero}


def _cut(one: StepResult) -> set[_Place]:
    """Return the places where one side alone has a gradient. Where each side has one that the other lacks, their names differ."""
    whose: dict[_Place, set[str]] = {}
    for pair in one.others:
        if pair.failure == "missing" and _is_inner(pair):
            whose.setdefault(_place(pair), set()).add(pair.why)
    return {place for place, reasons in whose.items() if len(reasons) == 1}


def _is_output(pair: Pair) -> bool:
    return pair.stage == "forward" and pair.tensor.startswith("output")


class _Places:
    """The layers' calls of one step, and how well the outputs of each and the gradients agree."""

    def __init__(self, one: StepResult) -> None:
        self._callers: dict[LayerCall, LayerCall | None] = {}
        self._outputs: dict[LayerCall, float] = {}  # worst relative error; inf where one fails
        for each in one.forward:
            call = (each.base.route, each.base.call)
            self._callers[call] = each.base.caller
            if each.base.side == "output" and any(pair.status == "pass" for pair in each.pairs):
                self._outputs[call] = max(_error(pair) for pair in each.pairs)
        grads = (pair for pair in one.others if pair.stage == "grads")
        self._gradients = FollowingGradients(one.backward, grads, _error)

    def heals_nearby(self, pair: Pair, place: BoundaryPlace | None) -> str:
        """Say at which layer a difference heals: at an output, or for a gradient at what goes further back; "" for none."""
        size = _size(pair)
        if place is None or math.isnan(size):
            return ""
        inside = self.inside(pair, place)
        if pair.stage == "backward":
            route = self._gradients.heal(place, _UNMEASURED_GRADIENT if pair.metrics is None else size)
            where = None if route is None else f"in the gradients of {_any_number(route) or 'the model'}"
        else:
            route = self._healing_output(place, size)
            where = None if route is None else f"at the output of {_any_number(route) or 'the model'}"
        return "" if where is None else f"differs {inside}, and heals {where}"

    def _healing_output(self, place: BoundaryPlace, size: float) -> str | None:
        """Return the layer around a difference of the forward whose output agrees far better than it is large."""
        call: LayerCall | None = (place.route, place.call) if place.side == "input" else place.caller
        while call is not None:
            if self._outputs.get(call, math.inf) <= OUTPUT_SHARE * size:
                return call[0]
            call = self._callers.get(call)
        return None

    def inside(self, pair: Pair, place: BoundaryPlace | None) -> str:
        """Name the layer in which a difference lies, with * for numbers, so that layers that repeat are told once."""
        outer = pair.base_route if place is None or place.caller is None else place.caller[0]
        return f"inside {_any_number(outer)}" if outer else "inside the model"


def _set_aside(one: StepResult, heals: _Heals) -> list[Pair]:
    """Skip the failing inner pairs for which `heals` gives a reason, and return them as they are now."""
    aside: list[Pair] = []

    def anew(pair: Pair, place: BoundaryPlace | None) -> Pair:
        may = pair.status == "fail" and pair.failure != "nan" and _is_inner(pair)
        why = heals(pair, place) if may else ""
        if not why:
            return pair
        if pair.failure == "axes":
            why = f"{why}; {pair.why.partition('; ')[0]}"  # what is alike is told once, whatever its sizes
        aside.append(pair.judged_anew(replace(Verdict.skip(why), metrics=pair.metrics)))
        return aside[-1]

    def boundaries(judged: Sequence[Judged]) -> list[Judged]:
        return [
            replace(each, pairs=tuple(anew(pair, each.base) for pair in each.pairs)) if each.failed else each
            for each in judged
        ]

    one.forward, one.backward = boundaries(one.forward), boundaries(one.backward)
    places = {id(each.pair): _place_of(each) for each in one.missing}
    by_identity: Mapping[int, Pair] = {id(pair): anew(pair, places.get(id(pair))) for pair in one.others}
    one.missing = [replace(each, pair=by_identity.get(id(each.pair), each.pair)) for each in one.missing]
    one.others = list(by_identity.values())
    return aside


def _place_of(missing: MissingGradient) -> BoundaryPlace:
    """Return where a gradient is that one side alone has; where nothing tells when it came, it is after all others."""
    seq = math.ceil(missing.at) if math.isfinite(missing.at) else sys.maxsize
    return BoundaryPlace(seq, *missing.call, missing.side, missing.caller, False)


def _is_inner(pair: Pair) -> bool:
    return pair.stage in _INNER and pair.base_route != ""


def _ceiling(decisive: Iterable[Pair]) -> float:
    """Return the least size of a difference against which all that decides agrees far better."""
    shares = {"forward": OUTPUT_SHARE, "backward": GRADIENT_SHARE, "grads": GRADIENT_SHARE, "weights": GRADIENT_SHARE}
    return max((_error(pair) / shares[pair.stage] for pair in decisive if pair.stage in shares), default=math.inf)


def _error(pair: Pair) -> float:
    """Return how far a pair is apart, relatively; 0 where it was skipped, or passes as rounding noise, inf where it fails."""
    if pair.status == "fail":
        return math.inf
    metrics = pair.metrics
    return metrics.rel_l2 if metrics is not None and metrics.measure == "rel_l2" else 0.0


def _size(pair: Pair) -> float:
    """Return how large a difference is, relatively; NaN where it is not finite."""
    return _UNMEASURED if pair.metrics is None else pair.metrics.rel_l2


def _any_number(route: str) -> str:
    return re.sub(r"\b\d+\b", "*", route)
