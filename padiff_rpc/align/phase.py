"""Run one phase (forward or backward) on both sides at the same time, and judge its boundaries as they come."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from padiff_rpc.align.boundaries import Judged, Pairing, SideName, Sides, are_of_one_kind, judge_boundary, pair_records
from padiff_rpc.align.stall import Stall
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import BackwardResult, Boundary, Model, Observer
from padiff_rpc.tensor import CHUNK_BYTES, Tensor

T = TypeVar("T")

_Pairs = queue.SimpleQueue[tuple[Boundary, Boundary]]

_RELEASE_COUNT = 64
"""Small records that may wait for their release together."""


@dataclass(frozen=True)
class PhaseRun(Generic[T]):
    """What a phase brought: each side's result, the judged boundaries in base's execution order, and those alone."""

    base: T
    raw: T
    judged: list[Judged]
    leftovers: dict[SideName, list[Boundary]]


class SideThreads:
    """One thread per side for the whole alignment: grad mode and autocast are thread-local in both frameworks.

    in_turn: run each job at once, in the calling thread. So it must be where both models are in this process: they
    share its random generators, and the caller's autocast and device guards hold in the caller's thread alone.
    """

    def __init__(self, in_turn: bool = False) -> None:
        self.in_turn = in_turn
        self._pools = (
            {}
            if in_turn
            else {name: ThreadPoolExecutor(1, thread_name_prefix=f"padiff-{name}") for name in ("base", "raw")}
        )

    def submit(self, side: SideName, job: Callable[[], T]) -> Future[T]:
        return self._pools[side].submit(job) if self._pools else _done(job)

    def both(self, base: Callable[[], T], raw: Callable[[], T]) -> tuple[T, T]:
        """Run one job per side at the same time; raises what the first side that failed raised, after both ended."""
        return _results(self.submit("base", base), self.submit("raw", raw))

    def close(self) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=True)


def run_phase(
    sides: Sides,
    threads: SideThreads,
    pairing: Pairing,
    step: int,
    base: Callable[[Observer], T],
    raw: Callable[[Observer], T],
    on_judged: Callable[[Judged], None],
) -> PhaseRun[T]:
    """Start both sides, judge and release boundaries until both are through.

    In single step raw waits at each boundary for base's tensors, and is judged in its own thread; else this thread
    judges while both run freely.
    """
    pairing.begin_phase()
    judged: list[Judged] = []
    stall = Stall(threads.in_turn)
    releases = {"base": _Releases("base", sides.base, stall), "raw": _Releases("raw", sides.raw, stall)}
    taking = threading.Lock()  # in single step a side that waits for room may judge what the other left

    def take(one: Judged) -> None:
        with taking:
            releases["base"].add(one.base)
            releases["raw"].add(one.raw)
            judged.append(one)
            on_judged(one)

    late: _Pairs = queue.SimpleQueue()

    def flush(side: SideName) -> None:
        _judge_late(sides, step, late, take)
        releases[side].flush()

    def start(side: SideName, run: Callable[[Observer], T], observer: Observer, end: Callable[[], None]) -> Future[T]:
        def ended(_: Future[T]) -> None:
            end()
            stall.ended(side)

        future = threads.submit(side, lambda: run(observer))
        future.add_done_callback(ended)
        return future

    rooms: dict[SideName, _Room] = {side: _Room(side, stall, partial(flush, side)) for side in ("base", "raw")}
    if sides.single_step:
        base_future = start("base", base, _Offer(pairing, late, rooms["base"]), pairing.end_base)
        raw_future = start("raw", raw, _Synced(sides, pairing, step, take, late, rooms["raw"]), _nothing)
    else:
        news: queue.SimpleQueue[tuple[SideName, Boundary | None]] = queue.SimpleQueue()
        base_future = start("base", base, _Report("base", news, rooms["base"]), lambda: news.put(("base", None)))
        raw_future = start("raw", raw, _Report("raw", news, rooms["raw"]), lambda: news.put(("raw", None)))
        try:
            _judge_until_done(sides, pairing, step, news, take, stall)
        finally:
            stall.give_up()  # where judging failed, nobody releases anything any more
    results = _results(base_future, raw_future)
    _judge_late(sides, step, late, take)
    for side, result in zip(("base", "raw"), results, strict=True):
        if isinstance(result, BackwardResult) and "parts" in result.unrecorded:
            for complete in pairing.pair_numbered(side):
                take(judge_boundary(sides, step, *complete))
    leftovers = pairing.take_leftovers()
    for side, boundaries in leftovers.items():
        for boundary in boundaries:
            releases[side].add(boundary)
        releases[side].flush()
    judged.sort(key=lambda one: one.base.seq)
    return PhaseRun(*results, judged, leftovers)


def _judge_late(sides: Sides, step: int, late: _Pairs, take: Callable[[Judged], None]) -> None:
    while True:
        try:
            complete = late.get_nowait()
        except queue.Empty:
            return
        take(judge_boundary(sides, step, *complete))


def _judge_until_done(
    sides: Sides,
    pairing: Pairing,
    step: int,
    news: queue.SimpleQueue[tuple[SideName, Boundary | None]],
    take: Callable[[Judged], None],
    stall: Stall,
) -> None:
    running = 2
    while running:
        side, boundary = news.get()
        if boundary is None:
            running -= 1
            continue
        complete = pairing.add(side, boundary)
        if complete is not None:
            take(judge_boundary(sides, step, *complete))
        stall.judged()


class _Releases:
    """Releases judged records: large ones at once, small ones together, since each release is a message to the worker.

    None is held back while the worker waits for room. A side's own thread may flush while another one adds.
    """

    def __init__(self, side: SideName, model: Model, stall: Stall) -> None:
        self._side: SideName = side
        self._model = model
        self._stall = stall
        self._lock = threading.Lock()
        self._ids: list[int] = []
        self._size_bytes = 0

    def add(self, boundary: Boundary) -> None:
        with self._lock:
            self._ids += [record.id for record in boundary.records]
            self._size_bytes += sum(record.spec.size_bytes for record in boundary.records)
            enough = len(self._ids) >= _RELEASE_COUNT or self._size_bytes >= CHUNK_BYTES
        if enough or self._stall.is_asking(self._side):
            self.flush()

    def flush(self) -> None:
        with self._lock:
            ids, self._ids, self._size_bytes = self._ids, [], 0
            if ids:
                self._model.release_records(ids)
                self._stall.released(self._side)


class _Room:
    """How one side waits for room in its store."""

    def __init__(self, side: SideName, stall: Stall, flush: Callable[[], None]) -> None:
        self.side: SideName = side
        self.stall = stall
        self._flush = flush

    def wait(self, releases: int) -> bool:
        return self.stall.wait(self.side, releases, self._flush)


def _nothing() -> None:
    """Do nothing."""


def _done(job: Callable[[], T]) -> Future[T]:
    """Run a job here and now."""
    future: Future[T] = Future()
    try:
        future.set_result(job())
    except Exception as err:  # noqa: BLE001 - the future raises it where its result is asked for, as a pool's would
        future.set_exception(err)
    return future


def _results(base: Future[T], raw: Future[T]) -> tuple[T, T]:
    errors = [error for future in (base, raw) if (error := future.exception()) is not None]
    # A side that waits for room is given up once the other has failed; the other then has the cause.
    for error in sorted(errors, key=lambda each: isinstance(each, PadiffError) and each.reason is Reason.STORE_FULL):
        raise error
    return base.result(), raw.result()


class _Report:
    """Puts boundaries on the queue of the judging thread."""

    def __init__(self, side: SideName, news: queue.SimpleQueue[tuple[SideName, Boundary | None]], room: _Room) -> None:
        self._side: SideName = side
        self._news = news
        self._room = room
        self.await_room = room.wait

    def observe(self, boundary: Boundary) -> None:
        self._room.stall.told()
        self._news.put((self._side, boundary))

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        return {}


class _Offer:
    """Lays base's boundaries out for raw's thread to find. For functional calls raw does not wait, so it may be first."""

    def __init__(self, pairing: Pairing, late: _Pairs, room: _Room) -> None:
        self._pairing = pairing
        self._late = late
        self._stall = room.stall
        self.await_room = room.wait

    def observe(self, boundary: Boundary) -> None:
        self._stall.fed("raw")  # before raw can look: it says anew where this is not what it needs
        complete = self._pairing.add("base", boundary)
        if complete is not None:
            self._late.put(complete)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        return {}


class _Synced:
    """Judges each of raw's boundaries against base's, then hands raw base's tensors where they differ."""

    def __init__(
        self,
        sides: Sides,
        pairing: Pairing,
        step: int,
        take: Callable[[Judged], None],
        late: _Pairs,
        room: _Room,
    ) -> None:
        self._sides = sides
        self._pairing = pairing
        self._step = step
        self._take = take
        self._late = late
        self._stall = room.stall
        self.await_room = room.wait

    def observe(self, boundary: Boundary) -> None:
        """Judge functional calls, which are not replaced; for all else substitute() follows."""
        _judge_late(self._sides, self._step, self._late, self._take)
        complete = self._pairing.add("raw", boundary) if boundary.api else None
        if complete is not None:
            self._take(judge_boundary(self._sides, self._step, *complete))

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        base = self._pairing.await_base(boundary, partial(self._stall.starves, "raw"))
        self._stall.fed("raw")
        if base is None:
            return {}
        judged = judge_boundary(self._sides, self._step, base, boundary)
        replace = {
            mine.id: other.name
            for mine, other in pair_records(base, boundary)
            if mine is not None
            and other is not None
            and mine.spec.shape == other.spec.shape
            and (mine.spec.dtype, mine.digest.hash) != (other.spec.dtype, other.digest.hash)
            and are_of_one_kind(mine, other)  # else it was not compared, and base's would hide what raw has
        }
        # Most boundaries of a healthy pair need nothing, and asking for no record is a round trip too.
        records = self._sides.base.read_records(list(replace)) if replace else ()
        streams = self._sides.traffic.watch(records)
        values = {replace[int(stream.name)]: self._sides.traffic.count(stream.collect()) for stream in streams}
        self._take(judged)
        return values
