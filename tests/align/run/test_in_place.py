"""Records read in place give the same results as records that are sent, also where places are used again at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import pytest
from padiff_servers.serve_step import StepObserver
from padiff_servers.service import WorkerService

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import ForwardRequest
from padiff_rpc.remote.connect import connect
from padiff_rpc.remote.placed import PlacedRecords
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.result import Result
from padiff_rpc.tensors.tensor import collect_all
from padiff_rpc.wire import shared_store
from tests.align.pairs import Elsewhere, models
from tests.servers.harness import Serving, serving

from .test_full_store import BUDGET_BYTES, INPUTS


def small(**model_args: Any) -> HostedModel:
    """A model with a store for a few of its records; what does not fit waits."""
    return HostedModel(models().deep(**model_args), store_memory_bytes=BUDGET_BYTES, store_disk_bytes=0)


@contextmanager
def workers() -> Iterator[tuple[Serving, Serving]]:
    """Two models that differ in a layer and in all weights: nearly every tensor is compared, and replaced in single step."""
    with serving(small(seed=0)) as base, serving(small(seed=1, bug_at=5)) as raw:
        yield base, raw


def run(base: Serving, raw: Serving, shared: tuple[bool, bool] = (True, True), **settings: Any) -> Result:
    with ExitStack() as stack:
        sides = [
            Elsewhere(stack.enter_context(connect(each.address, shared_memory=share)))
            for each, share in zip((base, raw), shared, strict=True)
        ]
        return align(sides[0], sides[1], INPUTS, INPUTS, AlignSettings(assign=False, **settings))


@pytest.mark.parametrize("single_step", [False, True])
def test_every_route_gives_the_same_verdicts_and_metrics(single_step: bool) -> None:
    with workers() as (base, raw):
        sent = run(base, raw, (False, False), single_step=single_step)
        assert sum(pair.status == "fail" for pair in sent.pairs) > 50
        for shared in [(True, True), (True, False), (False, True)]:
            assert sent.pairs == run(base, raw, shared, single_step=single_step).pairs


def test_what_a_slow_raw_still_reads_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    reach = StepObserver._reach  # pyright: ignore[reportPrivateUsage]

    def slowly(self: StepObserver, placed: Any) -> Any:
        tensor = reach(self, placed)
        time.sleep(0.02)  # base, whose store is full, waits for any place that is released
        return tensor

    with workers() as (base, raw):
        sent = run(base, raw, (False, False), single_step=True)
        monkeypatch.setattr(StepObserver, "_reach", slowly)
        assert sent.pairs == run(base, raw, single_step=True).pairs


def test_on_one_host_no_record_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Any:
        raise AssertionError("a record was asked for in a message")

    fed: list[int] = []
    reach = StepObserver._reach  # pyright: ignore[reportPrivateUsage]

    def noted(self: StepObserver, placed: Any) -> Any:
        fed.append(placed.place.offset)
        return reach(self, placed)

    monkeypatch.setattr(HostedModel, "read_activations", refuse)
    monkeypatch.setattr(StepObserver, "_reach", noted)
    with workers() as (base, raw):
        result = run(base, raw, single_step=True)
    assert len(result.pairs) > 100
    assert len(fed) > 40


def test_where_raw_cannot_reach_bases_store_its_substitutes_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with workers() as (base, raw):
        sent = run(base, raw, (False, False), single_step=True)
        # As a worker of another user or process namespace finds it.
        monkeypatch.setattr("padiff_servers.service.shared_store", lambda offer: None)
        assert sent.pairs == run(base, raw, single_step=True).pairs


def test_an_older_raw_that_does_not_know_the_call_is_sent_its_substitutes(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(self: object, request: object, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    with serving(small(seed=0)) as base, monkeypatch.context() as patch:
        patch.setattr(WorkerService, "ReachStore", unknown)
        raw = serving(small(seed=1, bug_at=5))
        with raw as older:
            sent = run(base, older, (False, False), single_step=True)
            assert sent.pairs == run(base, older, single_step=True).pairs


def test_substitutes_of_two_stores_are_told_apart() -> None:
    """As from an observer that takes them from more than one model."""
    with (
        serving(small(seed=0)) as one,
        serving(small(seed=1)) as other,
        serving(small(seed=2)) as raw,
        ExitStack() as stack,
    ):
        models = [stack.enter_context(connect(each.address)) for each in (one, other, raw)]
        wholes = []
        for model in models[:2]:
            outputs = model.forward(ForwardRequest(INPUTS, gradients=False)).outputs
            whole = next(model.read_activations([outputs[0].id])).whole
            assert whole is not None
            wholes.append(whole)
        substitution, sent = models[2]._substitution(1, dict(zip("ab", wholes, strict=True)))
        assert substitution.tensor_count == 2
        assert sent == dict(zip("ab", wholes, strict=True))
        substitution, sent = models[2]._substitution(1, {"a": wholes[0]})
        assert ([placed.name for placed in substitution.placed], sent) == (["a"], {})


def read_output(model: RemoteModel) -> list[int]:
    """Run a step, read what it returned, and give that record's id."""
    outputs = model.forward(ForwardRequest(INPUTS, gradients=False)).outputs
    ids = [record.id for record in outputs]
    assert len(collect_all(model.read_activations(ids))) == 1
    return ids


def test_after_the_session_has_ended_nothing_is_read_that_others_have_recorded() -> None:
    with serving(small(seed=0)) as worker:
        first = connect(worker.address)
        ids = read_output(first)
        reading = first.read_activations(ids)
        waiting = next(reading)
        first.close()
        with connect(worker.address) as second:
            read_output(second)
            with pytest.raises(PadiffError):
                list(first.read_activations(ids))
            with pytest.raises(PadiffError):
                waiting.collect()
        reading.close()


def test_after_the_lease_has_run_out_nothing_is_read_that_others_have_recorded() -> None:
    with serving(small(seed=0)) as worker:
        first = connect(worker.address)
        ids = read_output(first)
        worker.sessions.close(first._session_id)  # as when its process stood still
        with connect(worker.address) as second:
            read_output(second)
            with pytest.raises(PadiffError) as raised:
                list(first.read_activations(ids))
        assert raised.value.reason is Reason.UNKNOWN_NAME
        first.close()


def test_where_a_store_offers_no_memory_records_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostedModel, "offer_store", lambda self: None)
    read: list[object] = []
    original = PlacedRecords.read
    monkeypatch.setattr(PlacedRecords, "read", lambda *args: read.append(args) or original(*args))
    with workers() as (base, raw):
        sent = run(base, raw, (False, False))
        assert sent.pairs == run(base, raw).pairs
    assert read == []


def test_the_coordinator_maps_no_store_that_it_cannot_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Any:
        raise OSError("another user's process")

    monkeypatch.setattr(shared_store.memfd, "open_of", refuse)
    with workers() as (base, raw):
        assert not run(base, raw).aligned
