"""Run one phase (forward or backward) on both sides at the same time, and judge its boundaries as they come."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic

from padiff_rpc.align.run.fail_fast import PhaseStop
from padiff_rpc.align.run.judge_boundaries import Judge
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.run.observers import Reached, ReportingObserver, SyncedObserver, finishing
from padiff_rpc.align.run.pairing import Pairing
from padiff_rpc.align.run.release_records import RecordReleases
from padiff_rpc.align.run.stall import Stall
from padiff_rpc.align.run.threads import SideThreads, T, results_of
from padiff_rpc.align.sides import Sides
from padiff_rpc.model.model import BackwardResult, Boundary, Observer
from padiff_rpc.per_side import SideName

_News = queue.SimpleQueue[Reached | None]
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
    releases = {"base": RecordReleases("base", sides.base, stall), "raw": RecordReleases("raw", sides.raw, stall)}

    def take(reached: Sequence[Reached]) -> None:
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

    def tell(reached: Reached) -> None:
        if threads.in_turn:  # nobody judges while a side runs, unless it does so itself
            take([reached])
            return
        stall.told()
        news.put(reached)

    base_observer = ReportingObserver("base", pairing, tell, stall, releases["base"])
    if sides.single_step:
        raw_observer = SyncedObserver(sides, pairing, tell, stall, releases["raw"])
    else:
        raw_observer = ReportingObserver("raw", pairing, tell, stall, releases["raw"])
    base_future = threads.submit("base", lambda: base(stop.watch("base", base_observer)))
    base_future.add_done_callback(lambda _: pairing.end_base())
    raw_future = threads.submit("raw", lambda: finishing(raw_observer, lambda: raw(stop.watch("raw", raw_observer))))
    base_future.add_done_callback(partial(_end, "base", stall, news))
    raw_future.add_done_callback(partial(_end, "raw", stall, news))
    try:
        with stop.abandoning():
            threads.judge(lambda: _judge_until_done(news, take, stall))
    finally:
        stall.give_up()  # where judging failed, nobody releases anything any more
    stop.raise_if_stopped(base_future, raw_future)
    results = results_of(base_future, raw_future)
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


def _end(side: SideName, stall: Stall, news: _News, _: object) -> None:
    stall.ended(side)
    news.put(None)


def _judge_until_done(news: _News, take: Callable[[Sequence[Reached]], None], stall: Stall) -> None:
    """Judge what comes, as much at a time as is there, until both sides have ended."""
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
        take(batch)
        stall.judged(len(batch))
