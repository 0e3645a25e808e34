"""Run one phase (forward or backward) on both sides at the same time, and judge its boundaries as they come."""

from __future__ import annotations

import mmap
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from padiff_rpc.align.run.fail_fast import PhaseStop
from padiff_rpc.align.run.judge_boundaries import Judge
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.run.pairing import Pairing, SideName, Sides, are_of_one_kind, pair_records
from padiff_rpc.align.run.release_records import Releases
from padiff_rpc.align.run.stall import Stall
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import BackwardResult, Boundary, Observer
from padiff_rpc.system.priority import give_way
from padiff_rpc.tensors.tensor import Tensor

T = TypeVar("T")
U = TypeVar("U")

_Reached = tuple[Boundary, Boundary]
_News = queue.SimpleQueue[_Reached | None]
"""Boundaries that both sides have reached, base's first; None for each side that has ended."""

_BATCH_COUNT = 64
_BATCH_BYTES = 8 << 20
"""How much is judged together, and so released together: what comes in while a batch is judged makes the next one."""


@dataclass(frozen=True)
class PhaseRun(Generic[T]):
    """What a phase brought: each side's result, the judged boundaries in base's execution order, and those alone."""

    base: T
    raw: T
    judged: list[Judged]
    leftovers: dict[SideName, list[Boundary]]


class SideThreads:
    """One thread per side for the whole alignment: grad mode and autocast are thread-local in both frameworks.

    And one that judges. It gives way to the models where they share its host: they are what everybody waits for, and it
    catches up when the faster one has ended.

    in_turn: run each job at once, in the calling thread. So it must be where both models are in this process: they
    share its random generators, and the caller's autocast and device guards hold in the caller's thread alone.
    """

    def __init__(self, in_turn: bool = False) -> None:
        self.in_turn = in_turn
        self._pools: dict[SideName, ThreadPoolExecutor] = {}
        self._judge: ThreadPoolExecutor | None = None
        if not in_turn:
            self._pools = {"base": _thread("base"), "raw": _thread("raw")}
            self._judge = _thread("judge", give_way)

    def submit(self, side: SideName, job: Callable[[], T]) -> Future[T]:
        return self._pools[side].submit(job) if self._pools else _done(job)

    def both(self, base: Callable[[], T], raw: Callable[[], U]) -> tuple[T, U]:
        """Run one job per side at the same time; raises what the first side that failed raised, after both ended."""
        return _results(self.submit("base", base), self.submit("raw", raw))

    def judge(self, job: Callable[[], None]) -> None:
        """Run a job in the thread that judges, and wait for it."""
        if self._judge is None:
            job()
        else:
            self._judge.submit(job).result()

    def close(self, wait: bool = True) -> None:
        """End the threads, if that has not been done. wait False: leave what still runs to whoever ends the models."""
        pools, self._pools, self._judge = [*self._pools.values(), self._judge], {}, None
        for pool in filter(None, pools):
            pool.shutdown(wait=wait, cancel_futures=not wait)


def run_phase(
    sides: Sides,
    threads: SideThreads,
    pairing: Pairing,
    step: int,
    base: Callable[[Observer], T],
    raw: Callable[[Observer], T],
    on_judged: Callable[[Judged], None],
    stop: PhaseStop,
) -> PhaseRun[T]:
    """Start both sides, judge and release boundaries until both are through.

    In single step raw waits at each boundary for base's tensors; base runs ahead of it, and the judging lags behind.
    PhaseStopped where `stop` says so. Where judging fails, both sides end at their next boundary.
    """
    pairing.begin_phase()
    judge = Judge(sides, step)
    judged: list[Judged] = []
    stall = Stall(threads.in_turn)
    releases = {"base": Releases("base", sides.base, stall), "raw": Releases("raw", sides.raw, stall)}

    def take(reached: Sequence[_Reached]) -> None:
        verdicts = () if stop.stopped else zip(reached, judge.judge(reached), strict=True)
        for (of_base, of_raw), one in verdicts:
            stop.judged(one)
            releases["base"].add(of_base)
            releases["raw"].add(of_raw)
            judged.append(one)
            on_judged(one)
        if stop.stopped:
            stall.give_up()  # a side that waits for room is to end

    news: _News = queue.SimpleQueue()

    def tell(reached: _Reached) -> None:
        if threads.in_turn:  # nobody judges while a side runs, unless it does so itself
            take([reached])
            return
        stall.told()
        news.put(reached)

    base_observer = _Reporting("base", pairing, tell, stall, releases["base"])
    if sides.single_step:
        raw_observer = _Synced(sides, pairing, tell, stall, releases["raw"])
    else:
        raw_observer = _Reporting("raw", pairing, tell, stall, releases["raw"])
    base_future = threads.submit("base", lambda: base(stop.watch("base", base_observer)))
    base_future.add_done_callback(lambda _: pairing.end_base())
    raw_future = threads.submit("raw", lambda: _finishing(raw_observer, lambda: raw(stop.watch("raw", raw_observer))))
    base_future.add_done_callback(partial(_end, "base", stall, news))
    raw_future.add_done_callback(partial(_end, "raw", stall, news))
    try:
        with stop.abandoning():
            threads.judge(lambda: _judge_until_done(news, take, stall))
    finally:
        stall.give_up()  # where judging failed, nobody releases anything any more
    stop.raise_if_stopped(base_future, raw_future)
    results = _results(base_future, raw_future)
    for side, result in zip(("base", "raw"), results, strict=True):
        if isinstance(result, BackwardResult) and "parts" in result.unrecorded:
            take(pairing.pair_numbered(side))
    leftovers = pairing.take_leftovers()
    for side, boundaries in leftovers.items():
        for boundary in boundaries:
            releases[side].add(boundary)
        releases[side].flush()
    judged.sort(key=lambda one: one.base.seq)
    return PhaseRun(*results, judged, leftovers)


def _thread(name: str, begin: Callable[[], None] | None = None) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix=f"padiff-{name}", initializer=begin)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // 64) * 64


def _end(side: SideName, stall: Stall, news: _News, _: object) -> None:
    stall.ended(side)
    news.put(None)


def _judge_until_done(news: _News, take: Callable[[Sequence[_Reached]], None], stall: Stall) -> None:
    """Judge what comes, as much at a time as is there, until both sides have ended."""
    running = 2
    while running:
        batch: list[_Reached] = []
        size_bytes = 0
        one = news.get()
        while one is not None:
            batch.append(one)
            size_bytes += sum(record.spec.size_bytes for record in one[0].records)
            if len(batch) == _BATCH_COUNT or size_bytes >= _BATCH_BYTES or news.empty():
                break
            one = news.get()
        running -= one is None
        take(batch)
        stall.judged(len(batch))


def _finishing(observer: _Reporting | _Synced, job: Callable[[], T]) -> T:
    try:
        return job()
    finally:
        observer.finish()


def _done(job: Callable[[], T]) -> Future[T]:
    """Run a job here and now."""
    future: Future[T] = Future()
    try:
        future.set_result(job())
    except Exception as err:  # noqa: BLE001 - the future raises it where its result is asked for, as a pool's would
        future.set_exception(err)
    return future


def _results(base: Future[T], raw: Future[U]) -> tuple[T, U]:
    errors = [error for future in (base, raw) if (error := future.exception()) is not None]
    # A side that waits for room is given up once the other has failed; the other then has the cause.
    for error in sorted(errors, key=lambda each: isinstance(each, PadiffError) and each.reason is Reason.STORE_FULL):
        raise error
    return base.result(), raw.result()


class _Reporting:
    """Pairs one side's boundaries, and tells of those that the other side has reached, too."""

    def __init__(
        self, side: SideName, pairing: Pairing, tell: Callable[[_Reached], None], stall: Stall, releases: Releases
    ) -> None:
        self._side: SideName = side
        self._pairing = pairing
        self._tell = tell
        self._stall = stall
        self.await_room = releases.await_room

    def observe(self, boundary: Boundary) -> None:
        if self._side == "base":
            self._stall.fed("raw")  # before raw can look: it says anew where this is not what it needs
        reached = self._pairing.add(self._side, boundary)
        if reached is not None:
            self._tell(reached)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        return {}

    def finish(self) -> None:
        """Do what is left once the side has ended."""


class _Synced:
    """Waits for base at each of raw's boundaries, and hands raw base's tensors where they differ.

    Of records that lie in shared memory nothing is copied: raw reads them in place. They may be judged, and so released, once it
    has: when it is at its next boundary, waits for room, or has ended.
    """

    def __init__(
        self, sides: Sides, pairing: Pairing, tell: Callable[[_Reached], None], stall: Stall, releases: Releases
    ) -> None:
        self._sides = sides
        self._pairing = pairing
        self._tell = tell
        self._stall = stall
        self._releases = releases
        self._memory: mmap.mmap | None = None
        self._fed: _Reached | None = None  # with records that raw reads in place

    def await_room(self, releases: int) -> bool:
        self.finish()
        return self._releases.await_room(releases)

    def observe(self, boundary: Boundary) -> None:
        """Pair functional calls, which are not replaced; for all else substitute() follows."""
        self.finish()
        reached = self._pairing.add("raw", boundary) if boundary.api else None
        if reached is not None:
            self._tell(reached)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
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
        records = self._sides.base.read_records(list(replace)) if replace else ()
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
