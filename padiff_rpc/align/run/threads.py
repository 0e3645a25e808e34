"""The threads of an alignment: one per side, and one that judges."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.system.priority import give_way

T = TypeVar("T")


class SideThreads:
    """One thread per side for the whole alignment, and one that judges.

    Each side keeps its thread, since grad mode and autocast are thread-local in both frameworks. The judging thread gives way
    to the models where they share its host: everybody waits for the models, and it catches up when the faster one has ended.

    Args:
        in_turn: runs each job at once, in the calling thread. Two models in this process need that: they share its random
            generators, and the caller's autocast and device guards hold in the caller's thread alone.
    """

    def __init__(self, in_turn: bool = False) -> None:
        self.in_turn = in_turn
        self._pools: PerSide[ThreadPoolExecutor] | None = None
        self._judge: ThreadPoolExecutor | None = None
        if not in_turn:
            self._pools = PerSide(_thread("base"), _thread("raw"))
            self._judge = _thread("judge", give_way)

    def submit(self, side: SideName, job: Callable[[], T]) -> Future[T]:
        """Run a job in the side's thread and return its future."""
        return _done(job) if self._pools is None else self._pools.of(side).submit(job)

    def both(self, base: Callable[[], T], raw: Callable[[], T]) -> PerSide[T]:
        """Run one job per side at the same time; raises what the first side that failed raised, after both ended."""
        return results_of(PerSide(self.submit("base", base), self.submit("raw", raw)))

    def judge(self, job: Callable[[], None]) -> None:
        """Run a job in the judging thread, and wait for it."""
        if self._judge is None:
            job()
        else:
            self._judge.submit(job).result()

    def close(self, wait: bool = True) -> None:
        """End the threads, where they still run. With wait False a running job is left to whoever ends the models."""
        pools, self._pools, self._judge = [*(self._pools or ()), self._judge], None, None
        for pool in filter(None, pools):
            pool.shutdown(wait=wait, cancel_futures=not wait)


def _thread(name: str, begin: Callable[[], None] | None = None) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix=f"padiff-{name}", initializer=begin)


def _done(job: Callable[[], T]) -> Future[T]:
    """Run a job here and now."""
    future: Future[T] = Future()
    try:
        future.set_result(job())
    except Exception as err:  # noqa: BLE001 - the future raises it where its result is asked for, as a pool's would
        future.set_exception(err)
    return future


def results_of(futures: PerSide[Future[T]]) -> PerSide[T]:
    """Wait for both sides' futures and return their results; raises what the first side that failed raised."""
    errors = [error for future in futures if (error := future.exception()) is not None]
    # A side that waits for room is given up once the other has failed; the other then has the cause.
    for error in sorted(errors, key=lambda each: isinstance(each, PadiffError) and each.reason is Reason.STORE_FULL):
        raise error
    return futures.map(lambda future: future.result())
