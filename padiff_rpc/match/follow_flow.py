"""Pair layers that names and order leave open by what flows through them: which layers feed them, and whom they feed.

The tensors of one side are compared with those of the same side alone, so that the two models' weights need not agree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from padiff_rpc.match.layer_map import LayerPair
from padiff_rpc.match.routes import is_inside
from padiff_rpc.match.tree import LayerNode, build_tree
from padiff_rpc.model.model import BoundarySide, LayerCall, ModelDescription
from padiff_rpc.per_side import PerSide

_ROUNDS = 8
"""How often labels spread to the neighbours; depth and height already tell the layers of a chain apart."""


@dataclass(frozen=True, slots=True)
class Passage:
    """What passed one side of a layer's call: `hashes` of the tensors, but for those that hold one number only."""

    call: LayerCall
    side: BoundarySide
    caller: LayerCall | None
    hashes: tuple[bytes, ...]


def pairs_by_flow(
    described: PerSide[ModelDescription],
    passages: PerSide[Sequence[Passage]],
    pairs: Sequence[LayerPair],
    guesses: Sequence[tuple[str, str]],
) -> dict[str, str]:
    """Return raw's route by base's route, for the layers with parameters around which pairs were guessed.

    They are settled in each smallest pair of layers that holds a guess, and only where every layer with parameters in it is told
    from all others: by its shapes, by how far it is from the model's input and output, and by its neighbours.

    Args:
        described: both models.
        passages: what passed the layers of each side in one forward, in execution order.
        pairs: the pairs of layers that were found.
        guesses: the routes, in base and raw, of those that order alone joined.
    """
    graphs = PerSide(*(_Graph(model, came) for model, came in zip(described, passages, strict=True)))
    settled: dict[str, str] = {}
    for scope in _scopes(pairs, guesses):
        base, raw = _labels(graphs, PerSide(scope.base, scope.raw))
        to_raw = {label: route for route, label in raw.items()}
        if len(to_raw) == len(raw) == len(base) == len(set(base.values())) and to_raw.keys() == set(base.values()):
            settled |= {route: to_raw[label] for route, label in base.items()}
    return settled


def _scopes(pairs: Sequence[LayerPair], guesses: Sequence[tuple[str, str]]) -> list[LayerPair]:
    """Return the pairs that hold a guess directly, and lie in no other such pair."""
    found: dict[str, LayerPair] = {}
    for base, raw in guesses:
        around = [
            pair
            for pair in pairs
            if pair.base != base and pair.raw != raw and is_inside(base, pair.base) and is_inside(raw, pair.raw)
        ]
        if around:
            innermost = max(around, key=lambda pair: len(pair.base.split(".")) if pair.base else 0)
            found[innermost.base] = innermost
    return [
        one
        for one in found.values()
        if not any(other is not one and is_inside(one.base, other.base) for other in found.values())
    ]


class _Graph:
    """Which layers with parameters of their own feed which, in one forward of one side."""

    def __init__(self, described: ModelDescription, passages: Sequence[Passage]) -> None:
        self.holders: dict[str, LayerNode] = {
            route: node for route, node in build_tree(described).items() if node.own_parameters
        }
        self.feeds: dict[str, set[str]] = defaultdict(set)
        self.fed_by: dict[str, set[str]] = defaultdict(set)
        self.order: dict[str, None] = {}
        self._callers: dict[LayerCall, LayerCall | None] = {}
        self._inputs: dict[LayerCall, tuple[bytes, ...]] = {}
        self._maker: dict[bytes, LayerCall] = {}
        self._origins: dict[LayerCall, set[str]] = {}
        self._ran: dict[LayerCall | None, list[str]] = defaultdict(list)  # holders in a call, in order
        for one in passages:
            (self._enter if one.side == "input" else self._leave)(one)

    def _enter(self, one: Passage) -> None:
        call, route = one.call, one.call[0]
        self._callers[call] = one.caller
        self._inputs[call] = one.hashes
        origins = {origin for hash in one.hashes for origin in self._origins_of(hash, one)}
        self._origins[call] = origins
        if route in self.holders:
            self.order.setdefault(route)
            for origin in origins - {route}:
                self.feeds[origin].add(route)
                self.fed_by[route].add(origin)
            around = one.caller
            while around is not None:
                self._ran[around].append(route)
                around = self._callers.get(around)

    def _leave(self, one: Passage) -> None:
        for hash in one.hashes:
            self._maker.setdefault(hash, one.call)  # the first that made it: others hand it on

    def _origins_of(self, hash: bytes, taken: Passage) -> set[str]:
        """Return the holders from which a tensor comes that a layer takes."""
        maker = self._maker.get(hash)
        if maker is not None:
            if maker[0] in self.holders:
                return {maker[0]}
            return self._ends(maker) or self._origins.get(maker, set())
        caller = taken.caller
        if caller is None or hash in self._inputs.get(caller, ()):
            return self._origins.get(caller, set()) if caller is not None else set()
        # The caller's own code made it, of what nothing else has taken so far.
        return self._ends(caller) or self._origins.get(caller, set())

    def _ends(self, call: LayerCall) -> set[str]:
        """Return the holders that ran in a call and feed no other in it."""
        ran = set(self._ran.get(call, ()))
        return {route for route in ran if not self.feeds[route] & ran}


def _labels(graphs: PerSide[_Graph], scope: PerSide[str]) -> PerSide[dict[str, Hashable]]:
    """Label the holders in a pair of layers, both sides alike: by shapes, depth and height there, and by their neighbours."""
    labels = PerSide(*(_first_labels(graph, around) for graph, around in zip(graphs, scope, strict=True)))
    for _ in range(_ROUNDS):
        numbers: dict[Hashable, int] = {}
        labels = PerSide(*(_spread(graph, mine, numbers) for graph, mine in zip(graphs, labels, strict=True)))
    return labels


def _spread(graph: _Graph, labels: Mapping[str, Hashable], numbers: dict[Hashable, int]) -> dict[str, Hashable]:
    """Return labels that tell a holder's neighbours as well; a neighbour outside has the label None.

    numbers: the number that stands for each new label, which both sides share.
    """
    found: dict[str, Hashable] = {}
    for route, label in labels.items():
        around = (frozenset(Counter(map(labels.get, others[route])).items()) for others in (graph.fed_by, graph.feeds))
        found[route] = numbers.setdefault((label, *around), len(numbers))
    return found


def _first_labels(graph: _Graph, around: str) -> dict[str, Hashable]:
    inside = [route for route in graph.order if is_inside(route, around)]
    depth: dict[str, int] = {}
    for route in inside:
        depth[route] = 1 + max((depth.get(other, 0) for other in graph.fed_by[route]), default=0)
    height: dict[str, int] = {}
    for route in reversed(inside):
        height[route] = 1 + max((height.get(other, 0) for other in graph.feeds[route]), default=0)
    return {route: (graph.holders[route].exact, depth[route], height[route]) for route in inside}
