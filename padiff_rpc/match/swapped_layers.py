"""Find layers that were paired by their order alone, and could as well be each other's partners."""

from __future__ import annotations

import re
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


def by_words(base: Sequence[LayerNode], raw: Sequence[LayerNode]) -> list[LayerNode]:
    """Return raw's layers in the order in which their names have most words in common with base's; in their own if none has."""
    if len(raw) > _MOST:
        return list(raw)
    return list(max(permutations(raw), key=lambda order: _words_in_common(list(zip(base, order, strict=True)), order)))


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
    most = max(_words_in_common(guessed, order) for order in permutations(raw for _, raw in guessed))
    for order in permutations(raw for _, raw in guessed):
        partners = {base.route: raw for (base, _), raw in zip(guessed, order, strict=True)}
        moved = tuple(
            replace(link, raw_route=partners[link.base_route].route, raw=_moved(link, partners[link.base_route]))
            for link in own
        )
        pairs = tuple(LayerPair(base, raw.route, "order", certain=True) for base, raw in partners.items())
        words = ", ".join(f"{base.name} -> {raw.name}" for (base, _), raw in zip(guessed, order, strict=True))
        # A name that has a word in common with one partner tells which it is: another that fits is a fault, and no choice.
        contrary = _words_in_common(guessed, order) < most
        alternatives.append(Alternative(words, moved, contrary, layers=pairs))
    alternatives.sort(key=lambda one: one.contrary)
    what = f"the order of {', '.join(base.shown for base, _ in guessed)}"
    guess = f"{what} is taken for that of {', '.join(raw.shown for _, raw in guessed)}, which is a guess"
    return Choice(what, routes.base, routes.raw, tuple(alternatives), guess)


def _words_in_common(guessed: Sequence[tuple[LayerNode, LayerNode]], order: Sequence[LayerNode]) -> int:
    """Count the words and numbers that the names of partners have in common, such as `left` in `left` and `left_proj`."""
    return sum(len(_words(base.name) & _words(raw.name)) for (base, _), raw in zip(guessed, order, strict=True))


def _words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+", name)}


def _held(node: LayerNode) -> tuple[str, dict[str, tuple[int, ...]]]:
    return node.family, node.shapes


def _moved(link: ParameterLink, raw: LayerNode) -> tuple[str, ...]:
    """Return the tensor of another layer of raw that has the name of the link's own in its layer."""
    (name,) = link.raw
    return (raw.own[name.removeprefix(f"{link.raw_route}.")].name,)
