"""Link the parameters that one side's layer holds itself with those that the other side's keeps in Linears inside it.

An adapter such as LoRA is written in both ways: as a wrapper around a Linear, with further Linears in it (`base_layer.weight`,
`lora_A.default.weight`), or as a Linear with further parameters of its own (`weight`, `lora_A`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from padiff_rpc.match.tree import LayerNode
from padiff_rpc.per_side import OTHER_SIDE, SIDES, PerSide, SideName

_UNNAMED = frozenset({"default", "weight"})
"""Parts of a route that name no parameter: PEFT's adapter, and a Linear's only tensor."""


@dataclass(frozen=True)
class Adapter:
    """Two layers of which one holds itself what the other keeps apart.

    Attributes:
        whole_side: the side whose layer holds all parameters itself.
        places: for each of these parameters, by its name, the other side's layer that holds its counterpart, and its name there.
    """

    whole_side: SideName
    places: Mapping[str, tuple[LayerNode, str]]


def find_adapter(pair: PerSide[LayerNode]) -> Adapter | None:
    """Return how the parameters of two layers of a user's own classes correspond if one is such an adapter; else None.

    Each parameter must have exactly one counterpart. One that the whole layer names is sought in the sublayer of that name; what
    is left must lie in one sublayer, under the same names (`weight`, `bias`).
    """
    for side in SIDES:
        whole, parted = pair.of(side), pair.of(OTHER_SIDE[side])
        if whole.family or parted.family or not whole.is_leaf or parted.own_parameters or whole.loose != parted.loose:
            continue
        places = _places(whole, parted)
        if places:
            return Adapter(side, places)
    return None


def _places(whole: LayerNode, parted: LayerNode) -> dict[str, tuple[LayerNode, str]] | None:
    kept = {
        (*node.route.removeprefix(f"{parted.route}.").split("."), name): (node, name)
        for node in parted.descendants()
        for name in node.own_parameters
    }
    places: dict[str, tuple[LayerNode, str]] = {}
    for path in list(kept):
        named = ".".join(part for part in path if part not in _UNNAMED)
        if named in whole.own_parameters and named not in places:
            places[named] = kept.pop(path)
    rest = [name for name in whole.own_parameters if name not in places]
    if len({node for node, _ in kept.values()}) > 1 or sorted(rest) != sorted(name for _, name in kept.values()):
        return None
    return places | {name: (node, name) for node, name in kept.values()}
