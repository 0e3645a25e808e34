"""Write a phase's records to a tape while the model runs on, in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from types import TracebackType

from padiff_rpc.model.model import Boundary, Model
from padiff_rpc.tape.tensor_files import RecordFiles
from padiff_rpc.tensors.tensor import Tensor

_BATCH = 64
"""How many boundaries' records are read and released together.

A call to a worker for each boundary would cost more than a small tensor.
"""


class WritingThread:
    """The observer of one phase, and a context manager around it: it writes records in order and releases them at once.

    So a store holds what the disk has not taken yet, and never a whole phase. If writing fails, its error is raised at
    the model's next boundary, which stops the run, and at the latest at the end of the `with`. `boundaries` has those
    that came.

    Args:
        model: The model that runs.
        files: Where the records are written.
        tell: Called with each boundary, in the thread that observes.
    """

    def __init__(self, model: Model, files: RecordFiles, tell: Callable[[Boundary], None]) -> None:
        self.boundaries: list[Boundary] = []
        self._model = model
        self._files = files
        self._tell = tell
        self._waiting: queue.SimpleQueue[Boundary | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._abandoned = False
        self._changed = threading.Condition()
        self._unwritten = 0
        self._releases = 0
        self._thread = threading.Thread(target=self._run, name="tape", daemon=True)

    def __enter__(self) -> WritingThread:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abandoned = error is not None
        self._waiting.put(None)
        self._thread.join()
        if error is None:
            self._raise_failure()

    def observe(self, boundary: Boundary) -> None:
        """Queue a boundary's records to be written. Raises the error with which writing failed, if it did."""
        self._raise_failure()
        self.boundaries.append(boundary)
        self._tell(boundary)
        with self._changed:
            self._unwritten += 1
        self._waiting.put(boundary)

    def await_room(self, releases: int) -> bool:
        """Wait until records were released more than `releases` times in this phase.

        Return False if that will not happen: all known records are written, or writing failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._releases > releases or not self._unwritten)
            return self._releases > releases

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Replace nothing."""
        return {}

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) and not self._abandoned:
                records = [record for boundary in batch for record in boundary.records]
                self._files.take(records, self._model.read_activations)
                if records:
                    self._model.release_activations([record.id for record in records])
                with self._changed:
                    self._unwritten -= len(batch)
                    self._releases += bool(records)
                    self._changed.notify_all()
        except BaseException as err:  # noqa: BLE001 - the model's thread raises it
            with self._changed:
                self._failure = err
                self._changed.notify_all()

    def _next_batch(self) -> list[Boundary]:
        """Wait for a boundary and take those that have come by then; an empty list at the end."""
        batch: list[Boundary] = []
        while len(batch) < _BATCH and not (batch and self._waiting.empty()):
            boundary = self._waiting.get()
            if boundary is None:
                self._waiting.put(None)  # the end stays at hand for the next call
                break
            batch.append(boundary)
        return batch
