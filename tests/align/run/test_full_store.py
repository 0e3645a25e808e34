"""Stores that hold far less than a step records: the models wait for each other, or say that they cannot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import ForwardRequest, Model
from padiff_rpc.numpy_framework import nn
from padiff_rpc.remote.connect import connect
from padiff_rpc.result import Result
from tests.align.pairs import Elsewhere, models
from tests.servers.harness import DEADLINE_S, serving, wait_until

ROWS = 4000  # a record of the deep model is 128,000 bytes
BUDGET_BYTES = 1 << 20
INPUTS = as_inputs({"x": np.random.RandomState(0).standard_normal((ROWS, 8)).astype(np.float32)})


class Branches(nn.Layer):
    """Two chains of layers over one input, which run in this order or in the other."""

    def __init__(self, first: str = "left", broken: bool = False) -> None:
        super().__init__()
        self.left = nn.Sequential(*(nn.Linear(8, 8) for _ in range(12)))
        self.right = nn.Sequential(*(nn.Linear(8, 8) for _ in range(12)))
        self.first = first
        self.broken = broken

    def forward(self, x: Any) -> Any:
        if self.broken:
            self.left(x)
            raise ValueError("a bug in the model")
        one, other = (self.left, self.right) if self.first == "left" else (self.right, self.left)
        made = {self.first: one(x)}
        rest = other(x)
        left, right = (made["left"], rest) if self.first == "left" else (rest, made["right"])
        return left + right


def small(model: nn.Layer) -> HostedModel:
    return HostedModel(model, store_memory_bytes=BUDGET_BYTES, store_disk_bytes=0)


def deep(seed: int) -> HostedModel:
    return small(models().deep(seed))


@contextmanager
def sides(base: HostedModel, raw: HostedModel, *where: str) -> Iterator[list[Any]]:
    """The two models, each "here" or behind gRPC; they run in threads of their own."""
    with ExitStack() as stack:
        found: list[Any] = []
        for model, place in zip((base, raw), where, strict=True):
            if place == "here":
                found.append(Elsewhere(model))
                continue
            served = stack.enter_context(serving(model))
            found.append(Elsewhere(stack.enter_context(connect(served.address))))
        yield found


def run(base: Model, raw: Model, **settings: Any) -> Result:
    """Align, but not for ever."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(align, base, raw, INPUTS, INPUTS, AlignSettings(**settings))
    pool.shutdown(wait=False)
    return future.result(DEADLINE_S)


@pytest.mark.parametrize("single_step", [False, True])
@pytest.mark.parametrize("where", [("there", "there"), ("here", "there"), ("there", "here")])
def test_a_step_of_many_times_the_budget_is_aligned(single_step: bool, where: tuple[str, str]) -> None:
    base, raw = deep(0), deep(1)
    with sides(base, raw, *where) as (one, other):
        result = run(one, other, single_step=single_step)
    assert result.aligned
    told = {"there": "shared memory", "here": None}
    assert {"base": told[where[0]], "raw": told[where[1]]} == result.figures["transport"]
    stores = result.figures["store"]
    for side in ("base", "raw"):
        assert 0 < stores[side].pop("peak_memory_bytes") <= BUDGET_BYTES
        assert stores[side] == {
            "memory_budget_bytes": BUDGET_BYTES,
            "disk_budget_bytes": 0,
            "peak_disk_bytes": 0,
            "spilled_bytes": 0,
        }


def test_a_fast_side_runs_ahead_as_far_as_its_store_reaches() -> None:
    with sides(deep(0), deep(1), "there", "there") as (base, raw):
        result = run(base, raw, single_step=True)
    assert result.figures["store"]["base"]["peak_memory_bytes"] > BUDGET_BYTES * 0.8


def test_functional_calls_are_judged_while_a_side_waits() -> None:
    base, raw = deep(0), deep(1)
    with sides(base, raw, "there", "there") as (one, other):
        assert run(one, other, single_step=True, api_calls=True).aligned


def test_a_fault_is_found_all_the_same() -> None:
    base, raw = deep(0), small(models().deep(1, bug_at=5))
    with sides(base, raw, "there", "there") as (one, other):
        result = run(one, other)
    assert result.first_divergence is not None
    assert result.first_divergence.raw.route == "5"


@pytest.mark.parametrize("single_step", [False, True])
def test_models_that_need_each_others_far_end_are_told_so_and_can_be_used_again(single_step: bool) -> None:
    base, raw = small(Branches("left")), small(Branches("right"))
    with sides(base, raw, "there", "there") as (one, other):
        with pytest.raises(PadiffError) as raised:
            run(one, other, single_step=single_step)
        assert raised.value.reason is Reason.STORE_FULL
        assert f"{BUDGET_BYTES} bytes of memory and 0 bytes of disk" in raised.value.message
        assert "--store-memory or --store-disk" in raised.value.hint
        for model in (one, other):
            model.forward(ForwardRequest(INPUTS, record=None))


def test_a_side_that_fails_is_the_cause_and_not_the_one_that_waits_for_it() -> None:
    base, raw = small(Branches()), small(Branches(broken=True))
    with sides(base, raw, "there", "there") as (one, other), pytest.raises(PadiffError) as raised:
        run(one, other)
    assert raised.value.reason is Reason.MODEL_FAILED
    assert "a bug in the model" in raised.value.message


def test_models_of_one_process_run_in_turn_and_so_need_room_for_a_step() -> None:
    with pytest.raises(PadiffError) as raised:
        run(deep(0), deep(1))
    assert raised.value.reason is Reason.STORE_FULL


class Silent:
    """Releases nothing, and says when it is asked to."""

    def __init__(self, asked: threading.Event, leave: threading.Event) -> None:
        self.asked = asked
        self._leave = leave

    def observe(self, boundary: Any) -> None:
        return

    def substitute(self, boundary: Any) -> dict[str, Any]:
        return {}

    def await_room(self, releases: int) -> bool:
        self.asked.set()
        assert self._leave.wait(DEADLINE_S)
        return True


def test_a_coordinator_that_goes_away_frees_the_worker_that_waits_for_it() -> None:
    model = deep(0)
    asked, leave = threading.Event(), threading.Event()
    with serving(model) as served, ThreadPoolExecutor(1) as pool:
        first = connect(served.address)
        step = pool.submit(first.forward, ForwardRequest(INPUTS), Silent(asked, leave))
        assert asked.wait(DEADLINE_S)
        first.close()
        leave.set()
        with pytest.raises(PadiffError):
            step.result(DEADLINE_S)
        wait_until(lambda: model.store_figures().memory_bytes == 0, "the worker has dropped the records")
        with connect(served.address) as second:
            second.forward(ForwardRequest(INPUTS, record=None))


def test_an_observer_that_releases_nothing_gets_an_error_at_once() -> None:
    class Deaf:
        def observe(self, boundary: Any) -> None:
            return

        def substitute(self, boundary: Any) -> dict[str, Any]:
            return {}

    with serving(deep(0)) as served, connect(served.address) as model:
        with pytest.raises(PadiffError) as raised:
            model.forward(ForwardRequest(INPUTS), Deaf())
        assert raised.value.reason is Reason.STORE_FULL
        model.forward(ForwardRequest(INPUTS, record=None))
