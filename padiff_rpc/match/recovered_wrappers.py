"""Pair wrappers that were replaced by their sublayers, but turn out to hold exactly corresponding parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from padiff_rpc.match.layer_map import How, ParameterLink
from padiff_rpc.match.tree import LayerNode
from padiff_rpc.per_side import PerSide


def recovered_wrappers(
    trees: PerSide[Mapping[str, LayerNode]], taken: Collection[LayerNode], links: Sequence[ParameterLink]
) -> Iterator[tuple[LayerNode, LayerNode, How]]:
    """Yield base's layer, raw's layer and how they were found to correspond, for wrappers without a partner.

    Args:
        trees: all layers of each side, by route.
        taken: layers that have a partner, or none of their own.
        links: the links found so far.
    """
    to_raw: dict[str, set[tuple[str, ...]]] = {}
    by_raw_name: dict[str, tuple[str, ...]] = {}
    for link in links:
        by_raw_name.update(dict.fromkeys(link.raw, link.raw))
        for name in link.base:
            to_raw.setdefault(name, set()).add(link.raw)
    candidates: dict[frozenset[tuple[str, ...]], list[LayerNode]] = {}
    for node in trees.raw.values():
        if node not in taken and not node.is_leaf:
            linked = frozenset(by_raw_name[name] for name in node.tensor_names() if name in by_raw_name)
            candidates.setdefault(linked, []).append(node)
    for node in trees.base.values():
        if node in taken or node.is_leaf:
            continue
        linked = frozenset(raw for name in node.tensor_names() for raw in to_raw.get(name, ()))
        rivals = candidates.get(linked, []) if linked else []
        if rivals:
            same_name = next((raw for raw in rivals if raw.name == node.name), None)
            partner = same_name or rivals[0]
            rivals.remove(partner)
            yield node, partner, "name" if same_name else "order"
