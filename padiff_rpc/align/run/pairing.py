"""Pair the boundaries of base and raw as they arrive."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping

from padiff_rpc.align.run.share_draws import DrawSharing
from padiff_rpc.match.pair_records import pair_records
from padiff_rpc.model.api_names import api_name
from padiff_rpc.model.model import Boundary, BoundarySide, Phase
from padiff_rpc.per_side import OTHER_SIDE, PerSide, SideName
from padiff_rpc.result import Stage

BoundaryKey = tuple[Phase, str, int, BoundarySide, str]
"""The key that a boundary has on both sides: phase, base route, call, side, and in backward the gradient's place.

A functional call has the route and the call of its layer, and for a place its name and its number within that call.
"""


def stage_of(phase: Phase) -> Stage:
    """Return the stage under which the boundaries of a phase are compared."""
    return "forward" if phase == "forward" else "backward"


_NO_LAYERS: PerSide[tuple[str, ...]] = PerSide((), ())


class Pairing:
    """The boundaries of one step that wait for their partner. Thread-safe.

    In backward a gradient's place is named as in the forward, where the sides may have named the same tensor differently; the
    forward's pairs tell which is which.

    Args:
        routes: maps raw routes to base routes.
        numbered: says that a side may only number the gradients of a layer's inputs, as a dump does, so that the order of the
            inputs must be remembered (see pair_numbered).
        lone: are the layers that one side alone has, whose boundaries are kept out of all pairing (see LoneLayers).
        draws: gives raw's dropouts base's draws; None where they keep their own.
    """

    def __init__(
        self,
        routes: Mapping[str, str],
        numbered: bool = False,
        lone: PerSide[tuple[str, ...]] = _NO_LAYERS,
        draws: DrawSharing | None = None,
    ) -> None:
        self.lone = lone
        self.draws = draws
        self._routes = routes
        self._numbered_inputs = numbered
        self._waiting: PerSide[dict[BoundaryKey, Boundary]] = PerSide({}, {})
        self._places: dict[tuple[str, int, BoundarySide, str], str] = {}
        self._taken: dict[tuple[SideName, str, int], list[str]] = {}
        self._numbers: Counter[tuple[SideName, tuple[str, int], str]] = Counter()
        self._arrived = threading.Condition()
        self._ended = False

    def add(self, side: SideName, boundary: Boundary) -> tuple[Boundary, Boundary] | None:
        """Take a boundary in, each once; return (base, raw) when it completes a pair."""
        with self._arrived:
            key = self._key(side, boundary)
            self._remember_order(side, key[1], boundary)
            partner = self._waiting.of(OTHER_SIDE[side]).pop(key, None)
            if partner is None:
                self._waiting.of(side)[key] = boundary
                self._arrived.notify_all()
                return None
            base, raw = _base_first(side, boundary, partner)
            self._learn_places(base, raw)
            return base, raw

    def await_base(self, raw: Boundary, starves: Callable[[], None] = lambda: None) -> Boundary | None:
        """Wait for base to reach the same boundary; None when base's phase ended without it.

        `starves` is called whenever base has come to a boundary, and it was not that one.
        """
        with self._arrived:
            key = self._key("raw", raw)
            self._remember_order("raw", key[1], raw)

            def arrived() -> bool:
                found = self._ended or key in self._waiting.base
                if not found:
                    starves()
                return found

            self._arrived.wait_for(arrived)
            base = self._waiting.base.pop(key, None)
            if base is None:
                self._waiting.raw[key] = raw
            else:
                self._learn_places(base, raw)
            return base

    def begin_phase(self) -> None:
        """Expect boundaries of base again."""
        with self._arrived:
            self._ended = False

    def end_base(self) -> None:
        """Say that base sends no more boundaries in this phase."""
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()

    def pair_numbered(self, side: SideName) -> list[tuple[Boundary, Boundary]]:
        """Pair, in their order, the waiting gradients of layers' inputs, which `side` only numbers; return each (base, raw)."""
        other = OTHER_SIDE[side]
        with self._arrived:
            groups: dict[tuple[str, int], PerSide[list[BoundaryKey]]] = {}
            for name in (side, other):
                for key in self._waiting.of(name):
                    if key[0] == "backward" and key[3] == "input":
                        groups.setdefault((key[1], key[2]), PerSide([], [])).of(name).append(key)
            pairs: list[tuple[Boundary, Boundary]] = []
            for place, keys in groups.items():
                order = {name: at for at, name in enumerate(self._taken.get((other, *place), ()))}
                mine = sorted(keys.of(side), key=lambda key: int(_name_in(key)))
                theirs = sorted(keys.of(other), key=lambda key: order.get(_name_in(key), len(order)))
                for one, another in zip(mine, theirs, strict=False):
                    found, partner = self._waiting.of(side).pop(one), self._waiting.of(other).pop(another)
                    pairs.append(_base_first(side, found, partner))
            return pairs

    def take_leftovers(self) -> PerSide[list[Boundary]]:
        """Remove and return each side's boundaries that found no partner, in execution order."""
        with self._arrived:
            rest = self._waiting.map(lambda waiting: sorted(waiting.values(), key=_by_seq))
            for waiting in self._waiting:
                waiting.clear()
            return rest

    def _key(self, side: SideName, boundary: Boundary) -> BoundaryKey:
        if boundary.api and boundary.caller is not None:
            return self._call_key(side, boundary.caller, api_name(boundary.route, boundary.caller[0]))
        route = boundary.route if side == "base" else self._routes[boundary.route]
        place = ""
        if boundary.phase == "backward":
            place = boundary.records[0].name
            if side == "raw":
                place = self._places.get((route, boundary.call, boundary.side, place), place)
            place = self._numbered(side, (route, boundary.call), f"{boundary.side} {place}")
        return (boundary.phase, route, boundary.call, boundary.side, place)

    def _remember_order(self, side: SideName, base_route: str, boundary: Boundary) -> None:
        if self._numbered_inputs and boundary.phase == "forward" and boundary.side == "input":
            self._taken[side, base_route, boundary.call] = [record.name for record in boundary.records]

    def _numbered(self, side: SideName, call: tuple[str, int], name: str) -> str:
        """Add a number to the name: a place gets a gradient from every backward that runs through one forward."""
        number = self._numbers[side, call, name]
        self._numbers[side, call, name] += 1
        return f"{name} {number}"

    def _call_key(self, side: SideName, caller: tuple[str, int], name: str) -> BoundaryKey:
        """Number the call within its layer call: where the sides' numbers of calls differ, only that layer call is in doubt."""
        route = caller[0] if side == "base" else self._routes[caller[0]]
        return ("forward", route, caller[1], "output", self._numbered(side, caller, name))

    def _learn_places(self, base: Boundary, raw: Boundary) -> None:
        if base.phase != "forward" or base.api:
            return
        for mine, other in pair_records(base, raw):
            if mine is not None and other is not None and mine.name != other.name:
                self._places[(base.route, base.call, base.side, other.name)] = mine.name


def _base_first(side: SideName, own: Boundary, partner: Boundary) -> tuple[Boundary, Boundary]:
    """Return a side's own boundary and its partner as (base, raw)."""
    return (own, partner) if side == "base" else (partner, own)


def _name_in(key: BoundaryKey) -> str:
    """Return the tensor's name in a backward's key, which is `SIDE NAME NUMBER`."""
    return key[4].partition(" ")[2].rpartition(" ")[0]


def _by_seq(boundary: Boundary) -> int:
    return boundary.seq
