"""A tape's records are written and let go of while the model runs; what goes wrong in that stops the run."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import BackwardResult, Boundary, ForwardRequest, ForwardResult, LossSpec, Observer
from padiff_rpc.tape.write_tape import record
from padiff_rpc.tensors.tensor import TensorStream
from tests.align.pairs import hosted, inputs_of
from tests.servers.harness import DEADLINE_S, wait_until
from tests.tape.tapes import LOSS


class Attended:
    """A model whose boundaries are counted, and that waits at each until all records of those before are released.

    Where reading fails it waits once, until that has happened.
    """

    def __init__(self, model: HostedModel, failure: Exception | None = None) -> None:
        self._model = model
        self._failure = failure
        self.heard: list[Boundary] = []
        self.released: set[int] = set()
        self.failed = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def forward(self, request: ForwardRequest, observer: Observer) -> ForwardResult:
        return self._model.forward(request, self._attended(observer))

    def backward(self, loss: LossSpec, observer: Observer) -> BackwardResult:
        return self._model.backward(loss, self._attended(observer))

    def read_activations(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        if self._failure is not None:
            self.failed.set()
            raise self._failure
        return self._model.read_activations(ids)

    def release_activations(self, ids: Sequence[int]) -> None:
        self.released |= set(ids)
        self._model.release_activations(ids)

    def _attended(self, observer: Observer) -> Observer:
        attended = self

        class Each:
            def observe(self, boundary: Boundary) -> None:
                observer.observe(boundary)
                attended.heard.append(boundary)
                if attended._failure is None:
                    ids = {record.id for record in boundary.records}
                    wait_until(lambda: ids <= attended.released, "the records are released while the model runs")
                elif len(attended.heard) == 100:
                    assert attended.failed.wait(DEADLINE_S)

            def substitute(self, boundary: Boundary) -> dict[str, Any]:
                return {}

        return Each()


def test_records_are_written_and_released_while_forward_and_backward_run(tmp_path: Path) -> None:
    model = Attended(hosted("deep"))
    record(model, inputs_of("deep"), tmp_path / "tape", model_name="net", loss=LOSS)
    assert {"forward", "backward"} == {boundary.phase for boundary in model.heard}
    assert 0 == model.store_figures().memory_bytes


def test_a_store_of_one_boundary_is_enough_where_the_writer_keeps_up(tmp_path: Path) -> None:
    tight = HostedModel(hosted("deep").model, store_memory_bytes=4 * 8 * 4, store_disk_bytes=0)
    record(Attended(tight), inputs_of("deep"), tmp_path / "tape", model_name="net", loss=LOSS)
    assert (tmp_path / "tape" / "tape.json").is_file()


def test_what_keeps_records_from_being_written_stops_the_run(tmp_path: Path) -> None:
    failure = RuntimeError("the disk is gone")
    model = Attended(hosted("deep", depth=500), failure)
    with pytest.raises(RuntimeError) as caught:
        record(model, inputs_of("deep"), tmp_path / "tape", model_name="net", loss=LOSS)
    assert failure is caught.value
    assert {"forward"} == {boundary.phase for boundary in model.heard}
    assert 0 < len(model.heard) < 2 * 500
    assert [] == list(tmp_path.iterdir())


def test_a_failing_model_is_told_as_it_is(tmp_path: Path) -> None:
    class Failing(Attended):
        def forward(self, request: ForwardRequest, observer: Observer) -> ForwardResult:
            super().forward(request, observer)
            raise ValueError("the model's own")

    with pytest.raises(ValueError, match="the model's own"):
        record(Failing(hosted("mlp")), inputs_of("mlp"), tmp_path / "tape", model_name="net", loss=LOSS)
