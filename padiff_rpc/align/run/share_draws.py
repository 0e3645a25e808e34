"""Give raw's dropouts what base's have drawn, at raw's own scale, while both run."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from padiff_rpc.align.run.release_records import RecordReleases
from padiff_rpc.align.run.stall import Stall
from padiff_rpc.align.sides import Sides
from padiff_rpc.match.random_layers import SharedDraw
from padiff_rpc.model.model import Boundary, LayerCall, Observer, Record, Releasing
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.tensors.redraw import redraw
from padiff_rpc.tensors.tensor import Tensor

_SIGMAS = 6.0
"""How far apart two draws of one rate may be in what they keep: one in a billion is further."""


class DrawSharing:
    """What base's dropouts draw in one forward, for raw's to take. Thread-safe.

    Only which elements are kept is base's. What raw multiplies them by is its own, so that another rate, or a dropout that does
    not scale, shows at its layer. Where the two keep so different shares of the elements that their rates must differ, raw keeps
    its own draw.

    Attributes:
        shared: maps raw's routes to base's of the layers whose draws were shared.
        refused: maps raw's routes to why a draw was not shared.
        alone: holds raw's routes of the layers that have drawn where base's had not, before base ended.
    """

    def __init__(self, sides: Sides, pairs: Iterable[SharedDraw]) -> None:
        self.shared: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.alone: dict[str, None] = {}
        self._sides = sides
        self._pairs = {pair.raw: pair for pair in pairs}
        self._drawn: dict[LayerCall, Boundary] = {}
        self._changed = threading.Condition()
        self._ended = False

    @property
    def routes(self) -> PerSide[tuple[str, ...]]:
        """The dropouts whose draws are to be reported."""
        pairs = self._pairs.values()
        return PerSide(tuple(pair.base for pair in pairs), tuple(self._pairs))

    def anew(self) -> DrawSharing:
        """Return the sharing of another run, for the layers whose draws were shared in this one."""
        pairs = [pair for raw, pair in self._pairs.items() if raw in self.shared and raw not in self.refused]
        return DrawSharing(self._sides, pairs)

    def watch(self, side: SideName, observer: Observer, releases: PerSide[RecordReleases], stall: Stall) -> Observer:
        """Wrap a side's observer, which then hears of no draws."""
        return _Drawing(self, side, observer, releases, stall)

    def drew(self, base: Boundary) -> None:
        """Take what base has drawn."""
        with self._changed:
            self._drawn[base.route, base.call] = base
            self._changed.notify_all()

    def went_on(self) -> None:
        """Have raw look whether it still waits for more than base has come to."""
        with self._changed:
            self._changed.notify_all()

    def end_base(self) -> None:
        """Say that base draws no more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def leftovers(self) -> list[Boundary]:
        """Remove and return the draws that raw has not asked for."""
        with self._changed:
            left, self._drawn = list(self._drawn.values()), {}
            return left

    def await_base(self, raw: Boundary, starves: Callable[[], None] = lambda: None) -> Boundary | None:
        """Wait for base's draw at this call; None where base ended without it.

        `starves` is called whenever base has come to a boundary, and it was not that one.
        """
        key = (self._pairs[raw.route].base, raw.call)

        def arrived() -> bool:
            found = self._ended or key in self._drawn
            if not found:
                starves()
            return found

        with self._changed:
            self._changed.wait_for(arrived)
            if key not in self._drawn:
                self.alone.setdefault(raw.route)
            return self._drawn.pop(key, None)

    def answer(self, base: Boundary, raw: Boundary) -> Mapping[str, Tensor]:
        """Return what raw's input is to be multiplied by, under the record's name; nothing where raw keeps its own draw."""
        mine, other = base.records[0], raw.records[0]
        why_not = self._why_not(mine, other, self._pairs[raw.route].by_channel)
        if why_not:
            self.refused[raw.route] = why_not
            return {}
        traffic = self._sides.traffic
        with traffic.single(self._sides.base.read_activations([mine.id])) as stream:
            drawn = redraw(stream.collect(), other.digest.max, other.spec.dtype)
        self.shared[raw.route] = base.route
        return {other.name: traffic.count(drawn)}

    def _why_not(self, mine: Record, other: Record, by_channel: bool) -> str:
        if mine.spec.shape != other.spec.shape:
            return f"it draws for {other.spec}, base's for {mine.spec}"
        base, raw = _kept(mine), _kept(other)
        if raw is None or base is None:
            return "a side drops every element"
        count = math.prod(mine.spec.shape[:2]) if by_channel else mine.spec.count
        middle = (base + raw) / 2
        if abs(base - raw) > _SIGMAS * math.sqrt(2 * max(middle * (1 - middle), 0.0) / max(count, 1)) + 1e-4:
            return f"it keeps {raw:.3g} of the elements, base's keeps {base:.3g}"
        return ""


class _Drawing:
    """One side's observer: it keeps the draws from the one behind it."""

    def __init__(
        self,
        sharing: DrawSharing,
        side: SideName,
        observer: Observer,
        releases: PerSide[RecordReleases],
        stall: Stall,
    ) -> None:
        self._sharing = sharing
        self._side: SideName = side
        self._observer = observer
        self._releases = releases
        self._stall = stall

    def await_room(self, releases: int) -> bool:
        """Wait for room in the side's store, as Releasing says."""
        return isinstance(self._observer, Releasing) and self._observer.await_room(releases)

    def observe(self, boundary: Boundary) -> None:
        """Keep a draw; hand on any other boundary."""
        if boundary.draw:
            if self._side == "base":
                self._stall.fed("raw")
                self._sharing.drew(boundary)
            return
        self._observer.observe(boundary)
        if self._side == "base":
            self._sharing.went_on()

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Answer raw's draw by base's."""
        if not boundary.draw:
            return self._observer.substitute(boundary)
        base = self._sharing.await_base(boundary, partial(self._stall.starves, "raw"))
        self._stall.fed("raw")
        try:
            return {} if base is None else self._sharing.answer(base, boundary)
        finally:
            self._releases.raw.add(boundary)
            if base is not None:
                self._releases.base.add(base)


def _kept(record: Record) -> float | None:
    """Return the share of the elements that a draw keeps; None where that is none of them."""
    digest, largest = record.digest, record.digest.max
    if not 0 < largest < math.inf:
        return None
    mean = digest.mean if digest.mean is not None else digest.abs_mean
    if mean is not None:
        return mean / largest
    return (digest.norm or 0.0) ** 2 / largest**2 / max(record.spec.count, 1)
