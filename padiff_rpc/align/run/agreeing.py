"""Remember by their hashes which inner tensors agree, and find tensors again that one side has elsewhere."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.model.model import Boundary, Record
from padiff_rpc.per_side import OTHER_SIDE, PerSide, SideName

_HASH_BYTES = 8
"""Of the hash of an inner tensor whose comparison passed, so many bytes are kept: there are thousands of such tensors."""


@dataclass(frozen=True, slots=True)
class _Unlike:
    """An inner output that differs: where, and the start of each side's hash."""

    seqs: PerSide[int]
    tensor: str
    hashes: PerSide[int]


class Agreeing:
    """The inner tensors of one forward that agree, and the outputs that do not, in the order in which they are judged."""

    def __init__(self) -> None:
        self._hashes: PerSide[array[int]] = PerSide(array("Q"), array("Q"))
        self._seqs: PerSide[array[int]] = PerSide(array("q"), array("q"))
        self._routes: list[str] = []  # base's
        self._unlike: list[_Unlike] = []

    def add(self, base: Boundary, raw: Boundary, mine: Record, other: Record) -> None:
        """Remember two tensors that agree."""
        for hashes, record in zip(self._hashes, (mine, other), strict=True):
            hashes.append(_start(record))
        for seqs, boundary in zip(self._seqs, (base, raw), strict=True):
            seqs.append(boundary.seq)
        self._routes.append(base.route)

    def add_unlike(self, base: Boundary, raw: Boundary, mine: Record, other: Record, tensor: str) -> None:
        """Remember two outputs of an inner layer that differ, unless one of them is a single number, which tells nothing."""
        if all(one.digest.min != one.digest.max for one in (mine, other)):
            self._unlike.append(_Unlike(PerSide(base.seq, raw.seq), tensor, PerSide(_start(mine), _start(other))))

    def holds(self, side: SideName, record: Record) -> bool:
        """Tell whether a tensor of one side is among those that agree."""
        return not record.digest.is_zero and _start(record) in self._hashes.of(side)

    def noted_on(self, judged: Sequence[Judged]) -> list[Judged]:
        """Note on outputs that differ that one side has the other's counterpart of that very tensor further on.

        One side's layer then does what the other has done only there (a norm that applies its activation itself, against a norm
        and an activation), so that the tensor is compared there. A tensor that agreed before is none of these: a layer that
        hands on what it took has not done anything.
        """
        found: dict[int, dict[str, str]] = {}
        known = self._hashes.map(_places) if self._unlike else PerSide({}, {})
        for one in self._unlike:
            for side, other in OTHER_SIDE.items():
                if (route := self._later(one, side, known.of(side))) is not None:
                    why = f"{side}'s layer returns what {other} has only further on, at {route!r}, where it agrees"
                    found.setdefault(one.seqs.base, {})[one.tensor] = why
        return [replace(one, elsewhere=found[one.base.seq]) if one.base.seq in found else one for one in judged]

    def _later(self, one: _Unlike, side: SideName, known: Mapping[int, Sequence[int]]) -> str | None:
        """Return the layer at which a side's tensor agrees after it differs here; None where it does not, or did before."""
        seqs, at = self._seqs.of(side), known.get(one.hashes.of(side), ())
        if not at or any(seqs[index] < one.seqs.of(side) for index in at):
            return None
        return self._routes[min(at, key=seqs.__getitem__)]


def _places(hashes: Sequence[int]) -> dict[int, list[int]]:
    """Return where each hash stands."""
    places: dict[int, list[int]] = {}
    for at, hash in enumerate(hashes):
        places.setdefault(hash, []).append(at)
    return places


def _start(record: Record) -> int:
    return int.from_bytes(record.digest.hash[:_HASH_BYTES], sys.byteorder)
