"""Run one phase (forward or backward) on both sides at the same time, and judge its boundaries as they come."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Generic

from padiff_rpc.align.run.fail_fast import PhaseStop
from padiff_rpc.align.run.judge_boundaries import Judge
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.run.lone_layers import LoneLayers
from padiff_rpc.align.run.observers import Reached, ReportingObserver, SyncedObserver, finishing
from padiff_rpc.align.run.pairing import Pairing
from padiff_rpc.align.run.release_records import RecordReleases
from padiff_rpc.align.run.side_raised import raise_where_a_model_raised
from padiff_rpc.align.run.stall import Stall
from padiff_rpc.align.run.threads import SideThreads, T, results_of
from padiff_rpc.align.sides import Sides
from padiff_rpc.model.model import BackwardResult, Boundary, Observer, Phase
from padiff_rpc.per_side import PerSide, SideName

_News = queue.SimpleQueue[Reached | None]
"""Boundaries that both sides have reached, base's first; None for each side that has ended."""

_BATCH_COUNT = 64
_BATCH_BYTES = 8 << 20
"""How much is judged together, and so released together: what comes in while a batch is judged makes the next one."""


@dataclass(frozen=True)
class PhaseRun(Generic[T]):
    """What a phase brought.

    Attributes:
        results: are the results of each side.
        judged: are the judged boundaries in base's execution order.
        leftovers: are each side's boundaries without a partner.
        returned: tells, by the hashes of what each side's layers without a partner returned, their routes.
    """

    results: PerSide[T]
    judged: list[Judged]
    leftovers: PerSide[list[Boundary]]
    returned: PerSide[dict[bytes, str]] = field(default_factory=lambda: PerSide({}, {}))


def run_phase(
    sides: Sides,
    threads: SideThreads,
    pairing: Pairing,
    name: Phase,
    step: int,
    jobs: PerSide[Callable[[Observer], T]],
    on_judged: Callable[[Judged], None],
    stop: PhaseStop,
) -> PhaseRun[T]:
    """Start both sides, judge and release boundaries until both are through.

    The boundaries of layers that one side alone has are kept out of all that. In single step raw waits at each
    boundary for base's tensors; base runs ahead of it, and the judging lags behind.
    PhaseStopped where `stop` says so, and where a model raises after something differed. Where judging fails, both sides
    end at their next boundary.
    """
    pairing.begin_phase()
    judge = Judge(sides, step)
    phase = _Phase(sides, threads, pairing, judge, on_judged, stop)
    futures = phase.start(jobs, pairing.lone)
    try:
        with stop.abandoning():
            threads.judge(phase.judge_until_done)
    finally:
        phase.stall.give_up()  # where judging failed, nobody releases anything any more
    stop.raise_if_stopped(futures)
    raise_where_a_model_raised(name, futures, phase.judged)
    results = results_of(futures)
    for side, result in results.items():
        if isinstance(result, BackwardResult) and "parts" in result.unrecorded:
            phase.take(pairing.pair_numbered(side))
    for boundary in () if pairing.draws is None else pairing.draws.leftovers():
        phase.releases.base.add(boundary)
    leftovers = pairing.take_leftovers()
    for side, boundaries in leftovers.items():
        for boundary in boundaries:
            phase.releases.of(side).add(boundary)
        phase.releases.of(side).flush()
    phase.judged.sort(key=lambda one: one.base.seq)
    return PhaseRun(results, judge.noted_on(phase.judged, leftovers), leftovers, phase.returned)


class _Phase:
    """A phase while it runs: what is judged so far, and what waits to be judged, to be released, or for room."""

    def __init__(
        self,
        sides: Sides,
        threads: SideThreads,
        pairing: Pairing,
        judge: Judge,
        on_judged: Callable[[Judged], None],
        stop: PhaseStop,
    ) -> None:
        self._sides = sides
        self._threads = threads
        self._pairing = pairing
        self._judge = judge
        self._on_judged = on_judged
        self._stop = stop
        self._news: _News = queue.SimpleQueue()
        self.judged: list[Judged] = []
        self.returned: PerSide[dict[bytes, str]] = PerSide({}, {})
        self.stall = Stall(threads.in_turn)
        self.releases = PerSide(
            RecordReleases("base", sides.base, self.stall), RecordReleases("raw", sides.raw, self.stall)
        )

    def start(self, jobs: PerSide[Callable[[Observer], T]], lone: PerSide[tuple[str, ...]]) -> PerSide[Future[T]]:
        """Start each side's job in that side's thread, with an observer that pairs its boundaries."""
        pairing, stop, threads = self._pairing, self._stop, self._threads
        base_observer = ReportingObserver("base", pairing, self._tell, self.stall, self.releases.base)
        if self._sides.single_step:
            raw_observer = SyncedObserver(self._sides, pairing, self._tell, self.stall, self.releases.raw)
        else:
            raw_observer = ReportingObserver("raw", pairing, self._tell, self.stall, self.releases.raw)
        observers = PerSide(
            LoneLayers(stop.watch("base", base_observer), lone.base, self.releases.base),
            LoneLayers(stop.watch("raw", raw_observer), lone.raw, self.releases.raw),
        )
        self.returned = observers.map(lambda observer: observer.returned)
        hearing = self._hearing(observers)
        base = threads.submit("base", lambda: jobs.base(hearing.base))
        base.add_done_callback(lambda _: pairing.end_base())
        if (draws := pairing.draws) is not None:
            base.add_done_callback(lambda _: draws.end_base())
        raw = threads.submit("raw", lambda: finishing(raw_observer, lambda: jobs.raw(hearing.raw)))
        base.add_done_callback(partial(_end, "base", self.stall, self._news))
        raw.add_done_callback(partial(_end, "raw", self.stall, self._news))
        return PerSide(base, raw)

    def _hearing(self, observers: PerSide[LoneLayers]) -> PerSide[Observer]:
        """Return what the models tell their boundaries: these observers, behind those that keep the draws from them."""
        draws, releases, stall = self._pairing.draws, self.releases, self.stall
        if draws is None:
            return PerSide(observers.base, observers.raw)
        return PerSide(
            draws.watch("base", observers.base, releases, stall), draws.watch("raw", observers.raw, releases, stall)
        )

    def _tell(self, reached: Reached) -> None:
        if self._threads.in_turn:  # nobody judges while a side runs, unless it does so itself
            self.take([reached])
            return
        self.stall.told()
        self._news.put(reached)

    def judge_until_done(self) -> None:
        """Judge what comes, as much at a time as is there, until both sides have ended."""
        news = self._news
        running = 2
        while running:
            batch: list[Reached] = []
            size_bytes = 0
            one = news.get()
            while one is not None:
                batch.append(one)
                size_bytes += sum(record.spec.size_bytes for record in one[0].records)
                if len(batch) == _BATCH_COUNT or size_bytes >= _BATCH_BYTES or news.empty():
                    break
                one = news.get()
            running -= one is None
            self.take(batch)
            self.stall.judged(len(batch))

    def take(self, reached: Sequence[Reached]) -> None:
        """Judge these boundaries and let their records go, unless the phase is stopped."""
        verdicts = () if self._stop.stopped else zip(reached, self._judge.judge(reached), strict=True)
        for (of_base, of_raw), one in verdicts:
            self._stop.judged(one)
            self.releases.base.add(of_base)
            self.releases.raw.add(of_raw)
            self.judged.append(one)
            self._on_judged(one)
        if self._stop.stopped:
            self.stall.give_up()  # a side that waits for room is to end


def _end(side: SideName, stall: Stall, news: _News, _: object) -> None:
    stall.ended(side)
    news.put(None)
