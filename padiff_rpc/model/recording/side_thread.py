"""A thread beside the model's, for work that the model need not wait for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from padiff_rpc.system.priority import give_way

Job = Callable[[], object]
"""A piece of work without arguments, whose result is dropped."""


class SideThread:
    """Run jobs one by one in a thread of its own, in the order in which they were put.

    Once a job has failed no other is run, and put() and settle() raise its error.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def put(self, job: Job) -> None:
        """Queue a job, and start the thread where none runs."""
        if self._failure is not None:
            raise self._failure
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="beside", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def settle(self) -> None:
        """Wait until all jobs are done, and end the thread; the next job starts another."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        give_way()
        while (job := self._jobs.get()) is not None:
            if self._failure is not None:
                continue
            try:
                job()
            except BaseException as err:  # noqa: BLE001 - whoever puts or settles gets it
                self._failure = err
