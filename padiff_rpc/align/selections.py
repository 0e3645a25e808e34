"""Selections and marks that follow from a description alone: layers that hold nothing themselves."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.model.selection import EVERYTHING, Selection, asked_layers, check_globs, narrowed

_WRAPS = "it holds no parameters of its own (PADIFF_SIKP_WRAP_LAYER)"


def wrap_layers(description: ModelDescription) -> Selection:
    """Leave out every layer without parameters of its own, the root apart; buffers do not count."""
    held = _parameters(description)
    return Selection(
        {layer.route: _WRAPS for layer in description.layers if layer.route and held.isdisjoint(layer.parameters)}
    )


def skipped_routes(
    description: ModelDescription, selection: Selection = EVERYTHING, layer_map: Collection[str] = ()
) -> dict[str, str]:
    """Return the routes that weight assignment passes over layer by layer, with the reason, in definition order.

    PaDiff's tree marks them "(skip)". layer_map: this side's routes in the layer map.
    """
    held = _parameters(description)
    reasons: dict[str, str] = {}
    for layer in description.layers:
        if layer.route in layer_map:
            reasons[layer.route] = "in the layer map"
        elif not selection.keeps(layer.route):
            reasons[layer.route] = f"left out: {selection.left_out[layer.route]}"
        elif held.isdisjoint(layer.parameters):
            reasons[layer.route] = "no parameters of its own"
    return reasons


def as_asked(
    settings: AlignSettings, base: ModelDescription, raw: ModelDescription, matching: Matching
) -> AlignSettings:
    """Put `layers` and `depth` into the selections. A pair is asked for where either side's route is; depth goes by base's.

    BAD_CONFIG for a glob that matches no layer of either side, or where no pair is left.
    """
    if not settings.layers and settings.depth is None:
        return settings
    routes = {"base": [layer.route for layer in base.layers], "raw": [layer.route for layer in raw.layers]}
    check_globs(settings.layers, {*routes["base"], *routes["raw"]}, "base or raw")
    asked = {side: asked_layers(routes[side], settings.layers, None) for side in ("base", "raw")}
    within = asked_layers(routes["base"], (), settings.depth)
    pairs = [
        pair
        for pair in matching.layers
        if (pair.base in asked["base"] or pair.raw in asked["raw"]) and pair.base in within
    ]
    if not pairs:
        raise PadiffError(
            "no layer that is asked for has a partner on the other side",
            reason=Reason.BAD_CONFIG,
            hint="`padiff-rpc inspect` lists the layers of a model; --pair BASE=RAW makes two of them correspond",
        )
    return replace(
        settings,
        base_selection=narrowed(settings.base_selection, routes["base"], {pair.base for pair in pairs}),
        raw_selection=narrowed(settings.raw_selection, routes["raw"], {pair.raw for pair in pairs}),
    )


def _parameters(description: ModelDescription) -> frozenset[str]:
    infos = [info for info in description.parameters if info.kind == "parameter"]
    return frozenset(name for info in infos for name in (info.name, *info.aliases))
