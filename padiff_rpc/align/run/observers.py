"""What each side's boundaries do while a phase runs: pair up, and in single step take base's tensors."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from functools import partial

from padiff_rpc.align.run.pairing import Pairing
from padiff_rpc.align.run.release_records import RecordReleases
from padiff_rpc.align.run.stall import Stall
from padiff_rpc.align.run.threads import T
from padiff_rpc.align.sides import Sides
from padiff_rpc.match.pair_records import are_of_one_kind, pair_records
from padiff_rpc.model.model import Boundary
from padiff_rpc.per_side import SideName
from padiff_rpc.tensors.tensor import Tensor

Reached = tuple[Boundary, Boundary]


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // 64) * 64


def finishing(observer: ReportingObserver | SyncedObserver, job: Callable[[], T]) -> T:
    """Run a side's job and let its observer finish, whether the job returns or raises."""
    try:
        return job()
    finally:
        observer.finish()


class ReportingObserver:
    """Pairs one side's boundaries, and tells of those that the other side has reached as well."""

    def __init__(
        self, side: SideName, pairing: Pairing, tell: Callable[[Reached], None], stall: Stall, releases: RecordReleases
    ) -> None:
        self._side: SideName = side
        self._pairing = pairing
        self._tell = tell
        self._stall = stall
        self.await_room: Callable[[int], bool] = releases.await_room

    def observe(self, boundary: Boundary) -> None:
        """Pair the boundary, and tell of it where the other side has reached it."""
        if self._side == "base":
            self._stall.fed("raw")  # before raw can look: it says anew where this is not what it needs
        reached = self._pairing.add(self._side, boundary)
        if reached is not None:
            self._tell(reached)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Replace nothing."""
        return {}

    def finish(self) -> None:
        """Do nothing: no boundary is held back."""


class SyncedObserver:
    """Waits for base at each of raw's boundaries, and hands raw base's tensors where they differ.

    Records that lie in shared memory are not copied: raw reads them in place. They may be judged, and so released, once raw has
    done so: when it is at its next boundary, waits for room, or has ended.
    """

    def __init__(
        self, sides: Sides, pairing: Pairing, tell: Callable[[Reached], None], stall: Stall, releases: RecordReleases
    ) -> None:
        self._sides = sides
        self._pairing = pairing
        self._tell = tell
        self._stall = stall
        self._releases = releases
        self._memory: mmap.mmap | None = None
        self._fed: Reached | None = None  # with records that raw reads in place

    def await_room(self, releases: int) -> bool:
        """Wait for room in raw's store, as Releasing says."""
        self.finish()
        return self._releases.await_room(releases)

    def observe(self, boundary: Boundary) -> None:
        """Pair a functional call, which is not replaced; for any other boundary substitute() follows."""
        self.finish()
        reached = self._pairing.add("raw", boundary) if boundary.api else None
        if reached is not None:
            self._tell(reached)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Wait for base at this boundary and return those of its tensors that differ from raw's, under raw's names."""
        base = self._pairing.await_base(boundary, partial(self._stall.starves, "raw"))
        self._stall.fed("raw")
        if base is None:
            return {}
        replace = {
            mine.id: (other.name, mine.spec.size_bytes)
            for mine, other in pair_records(base, boundary)
            if mine is not None
            and other is not None
            and mine.spec.shape == other.spec.shape
            and (mine.spec.dtype, mine.digest.hash) != (other.spec.dtype, other.digest.hash)
            and are_of_one_kind(mine, other)  # else it was not compared, and base's would hide what raw has
        }
        # Most boundaries of a healthy pair need nothing, and asking for no record is a round trip too.
        records = self._sides.base.read_activations(list(replace)) if replace else ()
        values: dict[str, Tensor] = {}
        total_bytes, at = sum(_aligned(size_bytes) for _, size_bytes in replace.values()), 0
        for stream in self._sides.traffic.watch(records):
            name, size_bytes = replace[int(stream.name)]
            value = stream.whole
            if value is None:
                value = stream.collect(self._room(total_bytes)[at : at + size_bytes])
                at += _aligned(size_bytes)
            else:
                self._fed = base, boundary
            values[name] = self._sides.traffic.count(value)
        if self._fed is None:
            self._tell((base, boundary))  # raw is not kept waiting for the verdict
        return values

    def finish(self) -> None:
        """Tell of the boundary whose substitutes raw has taken by now."""
        fed, self._fed = self._fed, None
        if fed is not None:
            self._tell(fed)

    def _room(self, size_bytes: int) -> memoryview:
        """Return memory for so many bytes: that of the boundary before, which raw has taken over by now.

        Fresh memory costs more than the copy into it. And what a thread frees malloc keeps for that thread; this goes back.
        """
        if not size_bytes:
            return memoryview(b"")
        if self._memory is None or len(self._memory) < size_bytes:
            self._memory = mmap.mmap(-1, size_bytes)
        return memoryview(self._memory)[:size_bytes]
