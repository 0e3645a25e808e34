"""The model thread: the one thread that touches the framework, and the queue of work for it."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from padiff_rpc.errors import PadiffError, Reason

T = TypeVar("T")
log: logging.Logger = logging.getLogger(__name__)


class ModelThread:
    """Runs jobs one by one, in the order they came, in the thread that calls run(): the worker's main thread."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._stopped = False

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue a job, from any thread.

        Returns:
            The future of its result or its error. After run() has ended that is worker_ends().
        """
        future: Future[T] = Future()
        self._jobs.put((job, future))
        if self._stopped:
            self._drain()
        return future

    def run(self) -> None:
        """Run jobs until stop() is called. Jobs that are left fail with worker_ends().

        A BaseException that is no Exception, such as a signal raises, ends it and is raised again.
        """
        try:
            while (item := self._jobs.get()) is not None:
                _run_job(*item)
        finally:
            self._stopped = True
            self._drain()

    def stop(self) -> None:
        """Have run() return after the jobs that are queued."""
        self._jobs.put(None)

    def _drain(self) -> None:
        """Fail the jobs that nobody will run any more, so that nobody waits for them."""
        while True:
            try:
                item = self._jobs.get_nowait()
            except queue.Empty:
                return
            if item is not None:
                item[1].set_exception(worker_ends())


def worker_ends() -> PadiffError:
    """Make the WORKER_UNREACHABLE error for calls that come while the worker ends."""
    return PadiffError("the worker is shutting down", reason=Reason.WORKER_UNREACHABLE)


def _run_job(job: Callable[[], Any], future: Future[Any]) -> None:
    try:
        result = job()
    except Exception as err:  # noqa: BLE001 - whatever it is, it belongs to whoever waits for the job
        future.set_exception(err)
    except BaseException:
        future.set_exception(worker_ends())
        raise
    else:
        future.set_result(result)
