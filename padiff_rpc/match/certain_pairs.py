"""Tell which pairs of layers are certain: parameters tie them, or somebody says so. All others are inferred."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from padiff_rpc.match.layer_map import How, ParameterLink
from padiff_rpc.match.tree import LayerNode


def certain_layers(
    partner: Mapping[LayerNode, LayerNode], how: Mapping[LayerNode, How], links: Iterable[ParameterLink]
) -> set[LayerNode]:
    """Return base's layers whose pairs are certain: both whole models, pairs of the layer map, and what parameters tie.

    A pair is tied where a link joins a parameter that base's layer holds, itself or below it, with one that raw's layer holds.
    Buffers tie nothing: two rotary tables are equal wherever they stand.

    Args:
        partner: raw's layer by base's layer.
        how: what paired them, by base's layer.
        links: the links of parameters and buffers.
    """
    to_raw: dict[str, set[str]] = defaultdict(set)
    for link in links:
        if link.kind == "parameter":
            for name in link.base:
                to_raw[name].update(link.raw)
    return {
        base
        for base, raw in partner.items()
        if how[base] in ("root", "explicit") or _are_tied(base.tensor_names(), raw.tensor_names(), to_raw)
    }


def _are_tied(base: set[str], raw: set[str], to_raw: Mapping[str, set[str]]) -> bool:
    return any(not raw.isdisjoint(to_raw[name]) for name in base if name in to_raw)
