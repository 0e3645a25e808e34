"""What a user's map brings with it for layers that it does not name: pairs that its links tie or rule out, and packs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator

from padiff_rpc.match.layers_fit import akin
from padiff_rpc.match.mapped_links import MappedLink
from padiff_rpc.match.tree import LayerNode
from padiff_rpc.per_side import OTHER_SIDE, SIDES, PerSide


def tied_pairs(links: Iterable[MappedLink], taken: Collection[LayerNode]) -> Iterator[tuple[LayerNode, LayerNode]]:
    """Yield the pairs of layers whose own parameters a map links with each other, and with no other layer's.

    They must be alike enough to compare their outputs: of one family, or of a user's own classes.

    Args:
        links: the links that the map demands.
        taken: layers that have a partner, or none of their own.
    """
    partners: PerSide[dict[LayerNode, set[LayerNode]]] = PerSide(defaultdict(set), defaultdict(set))
    for one in links:
        for base in one.held.base:
            for raw in one.held.raw:
                partners.base[base.node].add(raw.node)
                partners.raw[raw.node].add(base.node)
    for base, found in partners.base.items():
        raw = next(iter(found))
        alone = len(found) == len(partners.raw[raw]) == 1 and base.route and raw.route
        if alone and base not in taken and raw not in taken and base.family == raw.family and akin(base, raw):
            yield base, raw


def packed_layers(links: Iterable[MappedLink]) -> Iterator[tuple[LayerNode, str]]:
    """Yield the Linears that a map packs into others, or that hold others packed; each with the reason why it has no partner."""
    for one in links:
        if len(one.link.base) == len(one.link.raw):
            continue
        for side in SIDES:
            theirs = ", ".join(dict.fromkeys(tensor.node.shown for tensor in one.held.of(OTHER_SIDE[side])))
            for tensor in one.held.of(side):
                if tensor.node.family == "linear":
                    yield (
                        tensor.node,
                        f"the map packs its parameters with those of {theirs}, so that its output has no counterpart",
                    )
