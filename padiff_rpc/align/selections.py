"""Selections and marks that follow from a description alone: layers that hold nothing themselves."""

from __future__ import annotations

from collections.abc import Collection

from padiff_rpc.model.model import ModelDescription
from padiff_rpc.selection import EVERYTHING, Selection

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


def _parameters(description: ModelDescription) -> frozenset[str]:
    infos = [info for info in description.parameters if info.kind == "parameter"]
    return frozenset(name for info in infos for name in (info.name, *info.aliases))
