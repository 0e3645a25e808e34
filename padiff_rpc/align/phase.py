"""Run one phase (forward or backward) on both sides at the same time, and judge its boundaries as they come."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from padiff_rpc.align.boundaries import Judged, Pairing, SideName, Sides, are_of_one_kind, judge_boundary, pair_records
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

    def close(self, wait: bool = True) -> None:
        """End the threads, if that has not been done. wait False: leave what still runs to whoever ends the models."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            pool.shutdown(wait=wait, cancel_futures=not wait)


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
    releases = {"base": _Releases(sides.base), "raw": _Releases(sides.raw)}

    def take(one: Judged) -> None:
        releases["base"].add(one.base)
        releases["raw"].add(one.raw)
        judged.append(one)
        on_judged(one)

    late: _Pairs = queue.SimpleQueue()
    if sides.single_step:
        base_future = threads.submit("base", lambda: base(_Offer(pairing, late)))
        base_future.add_done_callback(lambda _: pairing.end_base())
        raw_future = threads.submit("raw", lambda: raw(_Synced(sides, pairing, step, take, late)))
    else:
        news: queue.SimpleQueue[tuple[SideName, Boundary | None]] = queue.SimpleQueue()
        base_future = threads.submit("base", lambda: base(_Report("base", news)))
        raw_future = threads.submit("raw", lambda: raw(_Report("raw", news)))
        base_future.add_done_callback(lambda _: news.put(("base", None)))
        raw_future.add_done_callback(lambda _: news.put(("raw", None)))
        _judge_until_done(sides, pairing, step, news, take)
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
    while not late.empty():
        take(judge_boundary(sides, step, *late.get()))


def _judge_until_done(
    sides: Sides,
    pairing: Pairing,
    step: int,
    news: queue.SimpleQueue[tuple[SideName, Boundary | None]],
    take: Callable[[Judged], None],
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


class _Releases:
    """Releases judged records: large ones at once, small ones together, since each release is a message to the worker."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._ids: list[int] = []
        self._size_bytes = 0

    def add(self, boundary: Boundary) -> None:
        self._ids += [record.id for record in boundary.records]
        self._size_bytes += sum(record.spec.size_bytes for record in boundary.records)
        if len(self._ids) >= _RELEASE_COUNT or self._size_bytes >= CHUNK_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._ids:
            self._model.release_records(self._ids)
        self._ids = []
        self._size_bytes = 0


def _done(job: Callable[[], T]) -> Future[T]:
    """Run a job here and now."""
    future: Future[T] = Future()
    try:
        future.set_result(job())
    except Exception as err:  # noqa: BLE001 - the future raises it where its result is asked for, as a pool's would
        future.set_exception(err)
    return future


def _results(base: Future[T], raw: Future[T]) -> tuple[T, T]:
    errors = [future.exception() for future in (base, raw)]
    for error in errors:
        if error is not None:
            raise error
    return base.result(), raw.result()


class _Report:
    """Puts boundaries on the queue of the judging thread."""

    def __init__(self, side: SideName, news: queue.SimpleQueue[tuple[SideName, Boundary | None]]) -> None:
        self._side: SideName = side
        self._news = news

    def observe(self, boundary: Boundary) -> None:
        self._news.put((self._side, boundary))

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        return {}


class _Offer:
    """Lays base's boundaries out for raw's thread to find. For functional calls raw does not wait, so it may be first."""

    def __init__(self, pairing: Pairing, late: _Pairs) -> None:
        self._pairing = pairing
        self._late = late

    def observe(self, boundary: Boundary) -> None:
        complete = self._pairing.add("base", boundary)
        if complete is not None:
            self._late.put(complete)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        return {}


class _Synced:
    """Judges each of raw's boundaries against base's, then hands raw base's tensors where they differ."""

    def __init__(self, sides: Sides, pairing: Pairing, step: int, take: Callable[[Judged], None], late: _Pairs) -> None:
        self._sides = sides
        self._pairing = pairing
        self._step = step
        self._take = take
        self._late = late

    def observe(self, boundary: Boundary) -> None:
        """Judge functional calls, which are not replaced; for all else substitute() follows."""
        _judge_late(self._sides, self._step, self._late, self._take)
        complete = self._pairing.add("raw", boundary) if boundary.api else None
        if complete is not None:
            self._take(judge_boundary(self._sides, self._step, *complete))

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        base = self._pairing.await_base(boundary)
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
