"""Judge the layer of the first divergence by itself: whether its two sides compute the same function, and how precisely."""

from __future__ import annotations

from typing import cast

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.errors import PadiffError
from padiff_rpc.explain.judge_layer import judge_layer
from padiff_rpc.explain.layer_in_step import LayerInStep, ReplayingModel
from padiff_rpc.match.random_layers import random_layers
from padiff_rpc.model.model import ForwardRequest, Inputs
from padiff_rpc.model.replaying import Replaying
from padiff_rpc.per_side import SIDES, PerSide, SideName
from padiff_rpc.result import Divergence, LayerJudgement, Result

_JUDGED = ("forward", "backward", "grads")


def judge_first(result: Result, prepared: Prepared, inputs: PerSide[Inputs]) -> None:
    """Add to a result what a replay of the first divergence's layer in float64 says of it.

    That is done with the tolerance "auto", where both models run, and values differ in what a layer inside computes. The whole
    model is not replayed. Failures of the replay become a note.

    Args:
        result: is the result, which gains a judgement or a note.
        prepared: are the matched models and the settings.
        inputs: are the arguments of each side's forward.
    """
    divergence, settings = result.first_divergence, prepared.settings
    if divergence is None or not settings.measures_floor or not settings.explain:
        return
    models = prepared.sides.models
    measured = divergence.stage in _JUDGED and divergence.found_at.failure in ("values", "floor")
    if not measured or not divergence.base.route or not all(isinstance(model, Replaying) for model in models):
        return
    if any(_draws(prepared, side, divergence) for side in SIDES):
        return  # alone, each side would draw other numbers
    seed = None if settings.seed is None else settings.seed + divergence.step
    inside = f"{divergence.base.route}."
    layer = LayerInStep(
        models=cast("PerSide[ReplayingModel]", models),
        forwards=inputs.map(lambda given: ForwardRequest(given, settings.training, seed, gradients=False)),
        routes=PerSide(divergence.base.route, divergence.raw.route),
        call=divergence.call,
        described=prepared.described,
        links=prepared.scope.links,
        inner=[PerSide(pair.base, pair.raw) for pair in prepared.scope.layers if pair.base.startswith(inside)],
        backward=settings.diff_phase != "forward",
    )
    try:
        found = judge_layer(layer)
    except PadiffError as err:  # the verdict stands, whatever the replay meets
        result.notes.append(f"{divergence.raw.route} was not judged by itself: {err.message}")
        return
    result.judgement = LayerJudgement(
        found.base_route, found.raw_route, found.call, found.kind, found.apart, found.words()
    )


def _draws(prepared: Prepared, side: SideName, divergence: Divergence) -> bool:
    """Tell whether a side's layer is, or holds, an active dropout."""
    top = (divergence.base if side == "base" else divergence.raw).route
    description = prepared.described.of(side)
    inside = {layer.route for layer in description.layers if layer.route == top or layer.route.startswith(f"{top}.")}
    return bool(random_layers(description, prepared.settings.training, inside))
