"""Find layers that were paired by their order alone, and could as well be each other's partners."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import permutations

from padiff_rpc.match.layer_map import Alternative, Choice, LayerPair, ParameterLink
from padiff_rpc.match.tree import LayerNode
from padiff_rpc.per_side import PerSide

_MOST = 3
"""How many layers may change places: four have 24 orders, and each may take a run."""


def may_change_places(guessed: Sequence[tuple[LayerNode, LayerNode]]) -> bool:
    """Tell whether any of these layers of base may be the partner of any of raw's: all are of one family, and hold the same."""
    sides = zip(*guessed, strict=True)
    alike = all(
        nodes[0].family and not any(node.children or (node.family, node.shapes) != _held(nodes[0]) for node in nodes)
        for nodes in sides
    )
    return 1 < len(guessed) <= _MOST and alike


def choice_of_order(
    routes: PerSide[str], guessed: Sequence[tuple[LayerNode, LayerNode]], links: Iterable[ParameterLink]
) -> Choice | None:
    """Return the orders in which layers of base may be partners of layers of raw; None if not all their tensors are linked.

    Args:
        routes: the routes of the two layers that enclose them.
        guessed: pairs that `may_change_places`.
        links: the links of the matching, those of these pairs among them.
    """
    places = {base.route: at for at, (base, _) in enumerate(guessed)}
    own = [link for link in links if link.base_route in places and len(link.raw) == 1]
    if len(own) != sum(len(base.own) for base, _ in guessed):
        return None
    alternatives: list[Alternative] = []
    for order in permutations(raw for _, raw in guessed):
        partners = {base.route: raw for (base, _), raw in zip(guessed, order, strict=True)}
        moved = tuple(
            replace(link, raw_route=partners[link.base_route].route, raw=_moved(link, partners[link.base_route]))
            for link in own
        )
        pairs = tuple(LayerPair(base, raw.route, "order", certain=True) for base, raw in partners.items())
        words = ", ".join(f"{base.name} -> {raw.name}" for (base, _), raw in zip(guessed, order, strict=True))
        alternatives.append(Alternative(words, moved, layers=pairs))
    what = f"the order of {', '.join(base.shown for base, _ in guessed)}"
    guess = f"{what} is taken for that of {', '.join(raw.shown for _, raw in guessed)}, which is a guess"
    return Choice(what, routes.base, routes.raw, tuple(alternatives), guess)


def _held(node: LayerNode) -> tuple[str, dict[str, tuple[int, ...]]]:
    return node.family, node.shapes


def _moved(link: ParameterLink, raw: LayerNode) -> tuple[str, ...]:
    """Return the tensor of another layer of raw that has the name of the link's own in its layer."""
    (name,) = link.raw
    return (raw.own[name.removeprefix(f"{link.raw_route}.")].name,)
