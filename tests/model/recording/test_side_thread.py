"""Work beside the model's thread: in order, all done when it is settled, and no failure lost."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import Boundary, ForwardRequest, LossSpec
from padiff_rpc.model.recording.side_thread import SideThread
from tests.align.pairs import hosted


def test_jobs_are_done_in_order_when_it_is_settled_and_again_after_that() -> None:
    beside, done = SideThread(), []
    for round_of in ((0, 1, 2), (3, 4)):
        for number in round_of:
            beside.put(lambda number=number: done.append(number))
        beside.settle()
    assert [0, 1, 2, 3, 4] == done
    assert "beside" not in [thread.name for thread in threading.enumerate()]


def test_after_a_failure_nothing_is_done_and_it_is_raised_each_time() -> None:
    beside, done = SideThread(), []
    beside.put(lambda: 1 // 0)
    beside.put(lambda: done.append(1))
    for act in (beside.settle, lambda: beside.put(lambda: done.append(2)), beside.settle):
        with pytest.raises(ZeroDivisionError):
            act()
    assert [] == done


class Hearing:
    """Notes what it hears and in which thread; from the boundary `fails_at` on it raises."""

    def __init__(self, fails_at: int = 10**6) -> None:
        self.heard: list[Boundary] = []
        self.threads: set[str] = set()
        self._fails_at = fails_at

    def observe(self, boundary: Boundary) -> None:
        self.threads.add(threading.current_thread().name)
        if len(self.heard) == self._fails_at:
            raise RuntimeError("heard enough")
        self.heard.append(boundary)

    def substitute(self, boundary: Boundary) -> Any:
        return {}


def models() -> tuple[HostedModel, HostedModel]:
    model = hosted("deep")
    return model, HostedModel(model.model, model.backend, summarise_apart=True)


def run(model: HostedModel, hearing: Hearing) -> list[Boundary]:
    model.forward(ForwardRequest(as_inputs({"x": np.ones((2, 8), np.float32)}), seed=0), hearing)
    model.backward(LossSpec("projection", {"seed": 0.0}), hearing)
    return hearing.heard


def test_what_is_told_apart_is_what_is_told_at_once() -> None:
    at_once, apart = models()
    expected, hearing = run(at_once, Hearing()), Hearing()
    found = run(apart, hearing)
    assert {"beside"} == hearing.threads
    assert len(expected) > 100

    def told(boundaries: list[Boundary]) -> list[Any]:
        return [
            (each.seq, each.phase, each.route, each.call, each.side, [(r.name, r.spec, r.digest) for r in each.records])
            for each in boundaries
        ]

    assert told(expected) == told(found)


@pytest.mark.parametrize("fails_at", [0, 5, 150])
def test_an_observer_that_fails_apart_fails_the_step(fails_at: int) -> None:
    _, apart = models()
    with pytest.raises(RuntimeError, match="heard enough"):
        run(apart, Hearing(fails_at))
    assert len(run(apart, Hearing())) > 100
