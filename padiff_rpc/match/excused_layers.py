"""Tell which layers' missing partners are no failure, since a selection leaves them or their partners out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from padiff_rpc.match.tree import LayerNode
from padiff_rpc.model.selection import Selection
from padiff_rpc.per_side import OTHER_SIDE, PerSide, SideName


def excused_layers(
    side: SideName,
    selections: PerSide[Selection],
    pairs: Sequence[tuple[LayerNode, LayerNode]],
    explicit: Iterable[tuple[LayerNode, LayerNode]],
) -> dict[str, str]:
    """Return why layers of a side are not compared, by route: they or their partners are left out.

    Layers inside a pair of the layer map are not among them, since their tensors are compared at that pair.

    Args:
        side: the side.
        selections: what each side leaves out.
        pairs: the paired layers of this side, each with its partner.
        explicit: the pairs of the layer map.
    """
    theirs = selections.of(OTHER_SIDE[side])
    excused = dict(selections.of(side).left_out)
    for node, partner in pairs:
        if not theirs.keeps(partner.route):
            excused.setdefault(node.route, f"its partner {partner.shown} is, {theirs.left_out[partner.route]}")
    mapped = {node for both in explicit for node in both}
    for node, _ in pairs:
        if node in mapped and node.route not in excused:
            for below in node.descendants():
                excused.pop(below.route, None)
    return excused
