"""Find the tensors of inferred pairs that differ again at other layers nearby, by the figures that they carry.

Which Dropout or activation is whose partner, only structure, order or names say. Where two of them are used in each other's
place, each carries what the other does on the other side. Their digests tell that; no tensor is read for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.compare.likeness import carry_alike
from padiff_rpc.compare.standard import Standard
from padiff_rpc.model.model import Boundary, BoundarySide, LayerCall, Record
from padiff_rpc.per_side import SIDES, PerSide, SideName

_Holds = Callable[[SideName, Record], bool]
"""Tells whether a tensor of one side, byte for byte, is among those that agree at other layers."""


@dataclass(frozen=True, slots=True)
class _Carried:
    """One side's tensor at a boundary."""

    seq: int
    route: str
    caller: LayerCall | None
    side: BoundarySide
    record: Record


@dataclass(frozen=True, slots=True)
class _Apart:
    """Two tensors of an inferred pair that differ."""

    carried: PerSide[_Carried]
    tensor: str
    standard: Standard


class Exchanged:
    """The tensors of one forward that differ at layers whose pairs are inferred.

    Args:
        inferred: base's routes of these layers.
    """

    def __init__(self, inferred: Collection[str]) -> None:
        self._inferred = inferred
        self._apart: list[_Apart] = []

    def add(self, base: Boundary, raw: Boundary, mine: Record, other: Record, tensor: str, standard: Standard) -> None:
        """Remember two tensors that differ, if only structure, order or names pair their layers.

        Two that carry the same figures are the same elements in another order: they have changed places with nothing.
        """
        if base.route in self._inferred and not carry_alike(mine.spec, mine.digest, other.spec, other.digest, standard):
            self._apart.append(_Apart(PerSide(_carried(base, mine), _carried(raw, other)), tensor, standard))

    def found(
        self, judged: Sequence[Judged], leftovers: PerSide[list[Boundary]], holds: _Holds
    ) -> dict[int, dict[str, str]]:
        """Return, by base's number of a boundary and by tensor, with which layer of raw it changes places.

        Both tensors of a pair must be found again: each carries the same figures as one of the other side, inside the same
        innermost layer around that is certain, in order, each once; or one does, and the other agrees elsewhere byte for byte.

        Args:
            judged: all boundaries of the forward.
            leftovers: boundaries that one side alone has.
            holds: tells which tensors agree elsewhere.
        """
        if not self._apart:
            return {}
        around = _Around(judged, self._inferred)
        groups: dict[tuple[LayerCall | None, BoundarySide], list[_Apart]] = defaultdict(list)
        for one in self._apart:
            calls = PerSide(*(around.certain_call(side, one.carried.of(side).caller) for side in SIDES))
            if calls.base == calls.raw:
                groups[calls.base, one.carried.base.side].append(one)
        reasons: dict[int, dict[str, str]] = {}
        for key, apart in groups.items():
            spare = PerSide(
                *(
                    [
                        _carried(boundary, record)
                        for boundary in leftovers.of(side)
                        if not boundary.api and (around.certain_call(side, boundary.caller), boundary.side) == key
                        for record in boundary.records
                    ]
                    for side in SIDES
                )
            )
            for one, partner in _settled(apart, spare, holds):
                why = (
                    f"carries the same figures as raw's {partner.route!r}, with which it changes places"
                    if partner is not None
                    else "agrees elsewhere, and raw's tensor is what another of base's layers carries"
                )
                reasons.setdefault(one.carried.base.seq, {})[one.tensor] = why
        return reasons


class _Around:
    """The calls around each call, on both sides, and which of raw's is which of base's."""

    def __init__(self, judged: Iterable[Judged], inferred: Collection[str]) -> None:
        self._inferred = inferred
        self._callers: PerSide[dict[LayerCall, LayerCall | None]] = PerSide({}, {})
        self._of_base: PerSide[dict[LayerCall, LayerCall]] = PerSide({}, {})
        for one in judged:
            base = (one.base.route, one.base.call)
            for side, place in one.places.items():
                call = (place.route, place.call)
                self._callers.of(side)[call] = place.caller
                self._of_base.of(side)[call] = base

    def certain_call(self, side: SideName, caller: LayerCall | None) -> LayerCall | None:
        """Return the innermost call around that is of a certain layer, as base's; None where there is none."""
        while caller is not None:
            base = self._of_base.of(side).get(caller)
            if base is not None and base[0] not in self._inferred:
                return base
            caller = self._callers.of(side).get(caller)
        return None


def _settled(
    apart: Sequence[_Apart], spare: PerSide[list[_Carried]], holds: _Holds
) -> Iterable[tuple[_Apart, _Carried | None]]:
    """Yield the pairs of which both tensors are found again, each with the tensor of raw that base's is, if it is one."""
    standard = apart[0].standard
    own = {id(one.carried.base): one.carried.raw for one in apart}
    base, raw = (sorted([*(one.carried.of(side) for one in apart), *spare.of(side)], key=_seq) for side in SIDES)
    partners: dict[int, _Carried] = {}
    taken: set[int] = set()
    for mine in base:
        for theirs in raw:
            if id(theirs) not in taken and own.get(id(mine)) is not theirs and _alike(mine, theirs, standard):
                partners[id(mine)] = theirs
                taken.add(id(theirs))
                break
    for one in apart:
        mine, theirs = one.carried
        found = id(mine) in partners, id(theirs) in taken
        if all(found) or (found[0] and holds("raw", theirs.record)) or (found[1] and holds("base", mine.record)):
            yield one, partners.get(id(mine))


def _alike(mine: _Carried, theirs: _Carried, standard: Standard) -> bool:
    one, two = mine.record, theirs.record
    return carry_alike(one.spec, one.digest, two.spec, two.digest, standard)


def _carried(boundary: Boundary, record: Record) -> _Carried:
    return _Carried(boundary.seq, boundary.route, boundary.caller, boundary.side, record)


def _seq(one: _Carried) -> int:
    return one.seq
