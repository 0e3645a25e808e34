"""Tell of each layer how much of its error it adds itself, by a step in which raw's layers get base's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.compare.floor import least_floor
from padiff_rpc.model.model import BoundarySide
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import STAGES, IntroducedError, Metrics, Pair, Stage
from padiff_rpc.tensors.tensor import DType

_OWN: Mapping[Stage, BoundarySide] = {"forward": "output", "backward": "input"}
"""At which side of a layer the tensors are that it makes; those at the other side its caller has made."""

_Place = tuple[str, Stage]


@dataclass
class _Found:
    raw: str
    metrics: Metrics
    tensor: str


def introduced_errors(
    whole: StepResult, alone: StepResult, classes: PerSide[Mapping[str, str]]
) -> list[IntroducedError]:
    """Return the errors that layers introduce, by layer; the layer that adds most comes first.

    Args:
        whole: is the step in which errors add up.
        alone: is the same step in which raw's layers start from base's tensors.
        classes: map each side's routes to class names.
    """
    totals, own = _worst(whole), _worst(alone)
    errors = [_error(place, one, totals.get(place), classes) for place, one in own.items()]
    found = [one for one in errors if one is not None]
    greatest: dict[str, float] = {}
    for one in found:
        greatest[one.base_route] = max(one.ratio, greatest.get(one.base_route, 0.0))
    return sorted(found, key=lambda one: (-greatest[one.base_route], one.base_route, STAGES.index(one.stage)))


def _error(
    place: _Place, own: _Found, total: _Found | None, classes: PerSide[Mapping[str, str]]
) -> IntroducedError | None:
    least = least_floor(DType(own.metrics.base_dtype)) if own.metrics.base_dtype else None
    if least is None:
        return None
    route, stage = place
    return IntroducedError(
        stage=stage,
        base_route=route,
        raw_route=own.raw,
        class_name=classes.base.get(route, ""),
        tensor=own.tensor,
        total=own.metrics.rel_l2 if total is None else total.metrics.rel_l2,
        introduced=own.metrics.rel_l2,
        floor=least,
        ratio=own.metrics.rel_l2 / least,
    )


def _worst(step: StepResult) -> dict[_Place, _Found]:
    """Return the largest difference that is each layer's own doing, by base's route and stage."""
    found: dict[_Place, _Found] = {}

    def note(route: str, raw: str, pair: Pair) -> None:
        metrics = pair.metrics
        if (
            pair.status == "skipped"
            or metrics is None
            or metrics.nan
            or metrics.measure not in ("rel_l2", "max_scaled")
        ):
            return
        held = found.get((route, pair.stage))
        if held is None or metrics.rel_l2 > held.metrics.rel_l2:
            found[route, pair.stage] = _Found(raw, metrics, pair.tensor)

    for one in (*step.forward, *step.backward):
        for pair in one.pairs:
            if one.base.side == _OWN[pair.stage]:
                note(one.base.route, one.raw.route, pair)
            elif one.base.caller is not None and one.raw.caller is not None:
                note(one.base.caller[0], one.raw.caller[0], pair)
    for pair in step.others:
        if pair.stage == "grads":
            note(pair.base_route, pair.raw_route, pair)
    return found
