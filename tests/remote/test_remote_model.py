"""RemoteModel does over gRPC what HostedModel does in this process, and fails as clearly; by either transport."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.model.model import (
    Boundary,
    Flooring,
    ForwardRequest,
    LossSpec,
    Model,
    OptimizerSpec,
    RecordOptions,
)
from padiff_rpc.remote import connect as connecting
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.tensors.tensor import DType, Tensor, TensorStream, collect_all
from tests.servers.harness import DEADLINE_S, StubModel, numpy_model, serving, wait_until

VECTORS = Tensor.from_array(np.random.RandomState(0).standard_normal((4, 8)).astype(np.float32))
SGD = parse_optimizer("SGD(lr=0.1)")
TENSORS = {
    "0-d": Tensor.from_array(np.array(1.5)),
    "empty": Tensor.from_array(np.zeros((3, 0), np.int64)),
    "bf16": Tensor.from_array(np.arange(6, dtype=np.uint16).reshape(2, 3), DType.BF16),
    "fp8": Tensor.from_array(np.arange(4, dtype=np.uint8), DType.F8_E4M3),
    "> 4 MiB": Tensor.from_array(np.random.RandomState(0).standard_normal((3, 500_001))),
    "bool": Tensor.from_array(np.array([[True], [False]])),
}


class Watcher:
    """Keeps boundaries, reads what was recorded while the model runs, and answers with chosen tensors."""

    def __init__(self, model: Model, answer: Callable[[Boundary], Mapping[str, Tensor]] = lambda boundary: {}) -> None:
        self.boundaries: list[Boundary] = []
        self.values: list[Tensor] = []
        self._model, self._answer = model, answer

    def observe(self, boundary: Boundary) -> None:
        self.boundaries.append(boundary)
        for stream in self._model.read_activations([record.id for record in boundary.records]):
            self.values.append(stream.collect())

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        return self._answer(boundary)


shared = True


def connect(address: str) -> RemoteModel:
    """Connect by the transport of this test, and see that it is the one."""
    model = connecting.connect(address, shared_memory=shared)
    assert model.transport == ("shared memory" if shared else "streams")
    return model


@pytest.fixture(autouse=True)
def free_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each model find the same room, whatever other tests write meanwhile: a store's share of it is told."""
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 40))


@pytest.fixture(autouse=True, params=["shared memory", "streams"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "shared", request.param == "shared memory")


@pytest.fixture
def stub() -> StubModel:
    return StubModel(dict(TENSORS))


@pytest.fixture
def remote_stub(stub: StubModel) -> Iterator[RemoteModel]:
    with serving(stub) as worker, connect(worker.address) as model:
        yield model


@pytest.fixture
def remote() -> Iterator[RemoteModel]:
    with serving(numpy_model("mlp")) as worker, connect(worker.address) as model:
        yield model


def step(model: Model, *, sync: bool = False, answer: Any = lambda boundary: {}) -> dict[str, Any]:
    """Run one whole step, and return everything that it gave but for times."""
    forward_watcher, backward_watcher = Watcher(model, answer), Watcher(model, answer)
    request = ForwardRequest({"x": VECTORS}, seed=3, record=RecordOptions(sync=sync))
    forward = model.forward(request, forward_watcher)
    backward = model.backward(LossSpec("projection", {"seed": 0.0}), backward_watcher)
    names = [info.name for info in model.describe().parameters]
    gradients = collect_all(model.read_parameters(names, "gradient"))
    model.optimizer_step(SGD)
    return {
        "outputs": forward.outputs,
        "loss": backward.loss,
        "without_gradient": backward.without_gradient,
        "boundaries": [forward_watcher.boundaries, backward_watcher.boundaries],
        "values": [forward_watcher.values, backward_watcher.values],
        "gradients": gradients,
        "digests": model.digest_parameters(names, "gradient"),
        "parameters": collect_all(model.read_parameters(names)),
    }


def zero_act(boundary: Boundary) -> Mapping[str, Tensor]:
    """Replace what `body.act` returns, and the gradient that arrives there."""
    if (boundary.route, boundary.side) != ("body.act", "output"):
        return {}
    return {record.name: Tensor.from_array(np.full(record.spec.shape, 0.25, np.float32)) for record in boundary.records}


def test_the_statements_of_the_models_class_come_as_they_are(remote_stub: RemoteModel, remote: RemoteModel) -> None:
    assert tuple(f"model.{name} -> {name}" for name in TENSORS) == remote_stub.checkpoint_statements()
    assert () == remote.checkpoint_statements()


@pytest.mark.parametrize("sync", [False, True])
def test_a_step_gives_exactly_what_it_gives_in_this_process(remote: RemoteModel, sync: bool) -> None:
    local = numpy_model("mlp")
    assert local.describe() == remote.describe()
    assert local.info() == remote.info()
    for _ in range(2):
        expected, found = step(local, sync=sync), step(remote, sync=sync)
        assert expected == found
        assert expected["gradients"]
        assert len(expected["values"][0]) > 5
        assert len(expected["values"][1]) > 5


def test_a_floor_is_measured_there_as_in_this_process(remote: RemoteModel) -> None:
    loss = LossSpec("mse", targets={"target": Tensor.from_array(np.ones((4, 4), np.float32))})
    request = ForwardRequest({"x": VECTORS}, seed=3)
    found: list[list[float | None]] = []
    for model in (numpy_model("mlp"), remote):
        assert isinstance(model, Flooring)
        model.measure_floor(request, loss)
        watcher = Watcher(model)
        model.forward(request, watcher)
        model.backward(loss, watcher)
        names = [info.name for info in model.describe().parameters]
        digests = [record.digest for boundary in watcher.boundaries for record in boundary.records]
        found.append([each.floor for each in (*digests, *model.digest_parameters(names, "gradient").values())])
    assert None not in found[0]
    assert found[0] == found[1]


@pytest.mark.parametrize("sync", [False, True])
def test_functional_calls_come_with_the_layers_and_in_a_synced_run_nobody_answers_them(sync: bool) -> None:
    def run(model: Model) -> tuple[Any, list[Boundary], list[Boundary], list[Tensor]]:
        asked: list[Boundary] = []
        watcher = Watcher(model, lambda boundary: asked.append(boundary) or {})
        record = RecordOptions(sync=sync, api_calls=True)
        outputs = model.forward(ForwardRequest({"x": VECTORS}, seed=3, record=record), watcher).outputs
        return outputs, watcher.boundaries, asked, watcher.values

    with serving(numpy_model("calls")) as worker, connect(worker.address) as model:
        expected, found = run(numpy_model("calls")), run(model)
    assert expected == found
    assert "gate/relu" in {boundary.route for boundary in found[1] if boundary.api}
    assert found[2] == ([boundary for boundary in found[1] if not boundary.api] if sync else [])


def test_substitutions_have_exactly_the_effect_they_have_in_this_process(remote: RemoteModel) -> None:
    local = numpy_model("mlp")
    plain = step(numpy_model("mlp"))
    expected, found = step(local, sync=True, answer=zero_act), step(remote, sync=True, answer=zero_act)
    assert expected == found
    assert plain["outputs"] != found["outputs"]
    assert plain["gradients"]["body.fc1.weight"] != found["gradients"]["body.fc1.weight"]


def test_a_large_substitution_arrives_whole() -> None:
    big = Tensor.from_array(np.random.RandomState(1).standard_normal((2000, 1000)))
    stub = StubModel({"x": big}, boundaries=2)
    with serving(stub) as worker, connect(worker.address) as model:
        model.forward(
            ForwardRequest({"x": big}, record=RecordOptions(sync=True)),
            Watcher(StubModel({"0": big, "1": big}), lambda boundary: {"x": big}),
        )
    assert {0: {"x": big}, 1: {"x": big}} == stub.substituted
    assert stub.request is not None
    assert big == stub.request.inputs["x"]


def test_a_run_nobody_observes_records_only_its_outputs(remote: RemoteModel) -> None:
    result = remote.forward(ForwardRequest({"x": VECTORS}))
    assert ["0"] == [record.name for record in result.outputs]
    first = result.outputs[0].id
    assert 1 == len(list(remote.read_activations([first])))
    remote.backward(LossSpec("mean"))
    with pytest.raises(PadiffError) as caught:
        list(remote.read_activations([first + 1]))
    assert Reason.UNKNOWN_NAME is caught.value.reason


def test_a_synced_run_needs_an_observer(remote: RemoteModel) -> None:
    with pytest.raises(PadiffError) as caught:
        remote.forward(ForwardRequest({"x": VECTORS}, record=RecordOptions(sync=True)))
    assert Reason.BAD_CONFIG is caught.value.reason


def test_tensors_of_every_kind_are_read_as_they_are(remote_stub: RemoteModel) -> None:
    assert TENSORS == collect_all(remote_stub.read_parameters(list(TENSORS)))


def test_tensors_of_every_kind_are_written_as_they_are(remote_stub: RemoteModel, stub: StubModel) -> None:
    stub.tensors = {name: Tensor.from_array(np.zeros(0)) for name in TENSORS}
    remote_stub.write_parameters(tensor.stream(name) for name, tensor in TENSORS.items())
    assert TENSORS == stub.tensors


def test_what_is_asked_comes_in_that_order(remote_stub: RemoteModel) -> None:
    names = list(reversed(TENSORS))
    assert names == [stream.name for stream in remote_stub.read_parameters(names)]
    assert names == list(remote_stub.digest_parameters(names))


def test_writing_nothing_is_fine(remote_stub: RemoteModel) -> None:
    remote_stub.write_parameters([])


def test_inputs_and_targets_of_every_kind_arrive(remote_stub: RemoteModel, stub: StubModel) -> None:
    inputs = {"x": TENSORS["bf16"], "past": ((TENSORS["0-d"], None), [TENSORS["empty"]]), "rate": 0.1, "deep": {"n": 3}}
    remote_stub.forward(ForwardRequest(inputs, training=False, seed=0, gradients=False, record=None))
    assert ForwardRequest(inputs, training=False, seed=0, gradients=False, record=None) == stub.request
    loss = LossSpec("mse", {"a": 0.5}, {"target": TENSORS["> 4 MiB"]}, ("b", "a"))
    result = remote_stub.backward(loss)
    assert loss == stub.loss
    assert (0.5, (("fc", 1, "input", "0"),)) == (result.loss, result.without_gradient)


def test_records_are_read_by_other_threads_while_forward_runs(remote_stub: RemoteModel, stub: StubModel) -> None:
    stub.tensors = {str(number): TENSORS["bf16"] for number in range(8)}
    stub.proceed = threading.Event()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(remote_stub.forward, ForwardRequest({}), Watcher(remote_stub))
        assert stub.started.wait(DEADLINE_S)
        reads = [pool.submit(lambda: collect_all(remote_stub.read_activations(range(8)))) for _ in range(4)]
        for read in reads:
            assert stub.tensors == read.result(DEADLINE_S)
        remote_stub.release_activations([3])
        assert "3" not in stub.tensors
        assert not running.done()
        stub.proceed.set()
        running.result(DEADLINE_S)


def test_the_model_runs_in_the_model_thread(remote_stub: RemoteModel, stub: StubModel) -> None:
    remote_stub.forward(ForwardRequest({}))
    first = stub.thread
    remote_stub.forward(ForwardRequest({}))
    assert first == stub.thread != threading.get_ident()


def test_an_observer_that_raises_ends_the_step_and_the_model_goes_on(remote: RemoteModel) -> None:
    class Broken(Watcher):
        def observe(self, boundary: Boundary) -> None:
            raise ZeroDivisionError("in the observer")

    for sync in (False, True):
        with pytest.raises(ZeroDivisionError, match="in the observer"):
            remote.forward(ForwardRequest({"x": VECTORS}, record=RecordOptions(sync=sync)), Broken(remote))
        assert (
            step(numpy_model("mlp"))["outputs"][0].digest
            == remote.forward(ForwardRequest({"x": VECTORS})).outputs[0].digest
        )


def test_a_stream_that_is_not_read_to_its_end_frees_the_worker(remote_stub: RemoteModel, stub: StubModel) -> None:
    stub.tensors["big"] = Tensor.from_array(np.zeros(50 << 20, np.uint8))
    streams = remote_stub.read_parameters(["big", "bf16"])
    assert next(next(streams).chunks).nbytes > 0
    del streams
    assert "bf16" in remote_stub.digest_parameters(["bf16"])


def test_a_failing_source_of_tensors_fails_the_write_with_its_own_error(remote_stub: RemoteModel) -> None:
    def source() -> Iterator[TensorStream]:
        yield TENSORS["bf16"].stream("bf16")
        raise ZeroDivisionError("in the source")

    with pytest.raises(ZeroDivisionError, match="in the source"):
        remote_stub.write_parameters(source())
    assert TENSORS == collect_all(remote_stub.read_parameters(list(TENSORS)))


def test_a_source_is_read_in_the_calling_thread_and_no_further_than_needed(remote_stub: RemoteModel) -> None:
    threads: set[int] = set()

    def endless() -> Iterator[TensorStream]:
        while True:
            threads.add(threading.get_ident())
            yield TENSORS["> 4 MiB"].stream("absent")

    with pytest.raises(PadiffError) as caught:
        remote_stub.write_parameters(endless())
    assert Reason.UNKNOWN_NAME is caught.value.reason
    assert {threading.get_ident()} == threads


def test_parameters_go_from_one_worker_to_another(remote: RemoteModel) -> None:
    names = [info.name for info in remote.describe().parameters]
    with serving(numpy_model("mlp", seed=1)) as worker, connect(worker.address) as other:
        assert remote.digest_parameters(names) != other.digest_parameters(names)
        other.write_parameters(remote.read_parameters(names))
        assert remote.digest_parameters(names) == other.digest_parameters(names)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda model: model.forward(ForwardRequest({"y": VECTORS})), Reason.BAD_INPUTS),
        (lambda model: model.forward(ForwardRequest({"x": np.zeros(3)})), Reason.BAD_INPUTS),
        (lambda model: model.forward(ForwardRequest({"x": Tensor.from_array(np.zeros(3))})), Reason.MODEL_FAILED),
        (
            lambda model: model.forward(ForwardRequest({"x": VECTORS}, record=RecordOptions(routes=("absent",)))),
            Reason.UNKNOWN_NAME,
        ),
        (lambda model: model.backward(LossSpec("mean")), Reason.OUT_OF_ORDER),
        (lambda model: list(model.read_parameters(["absent"])), Reason.UNKNOWN_NAME),
        (lambda model: list(model.read_activations([10**6])), Reason.UNKNOWN_NAME),
        (lambda model: model.write_parameters([VECTORS.stream("head.bias")]), Reason.BAD_TENSOR),
        (lambda model: model.optimizer_step(OptimizerSpec("Bogus")), Reason.UNKNOWN_NAME),
    ],
)
def test_a_refusal_comes_with_its_reason_and_changes_nothing(
    remote: RemoteModel, call: Callable[[RemoteModel], object], reason: Reason
) -> None:
    names = [info.name for info in remote.describe().parameters]
    before = remote.digest_parameters(names)
    with pytest.raises(PadiffError) as caught:
        call(remote)
    assert reason is caught.value.reason
    assert before == remote.digest_parameters(names)


def test_the_lease_is_renewed_while_nothing_is_asked() -> None:
    stub = StubModel(dict(TENSORS))
    with serving(stub, lease_s=0.6) as worker, connect(worker.address) as model:
        renewed = threading.Event()
        original = worker.sessions.get

        def get(session_id: str) -> Any:
            calls.append(session_id)
            if len(calls) > 4:  # more than a lease later
                renewed.set()
            return original(session_id)

        calls: list[str] = []
        worker.sessions.get = get  # type: ignore[method-assign]
        assert renewed.wait(DEADLINE_S)
        assert 0 == stub.resets
        assert ["bf16"] == list(model.digest_parameters(["bf16"]))


def test_a_session_that_expired_says_so(stub: StubModel) -> None:
    with serving(stub) as worker, connect(worker.address) as model:
        worker.sessions.close(model._session_id)
        for call in (model.describe, lambda: model.forward(ForwardRequest({}))):
            with pytest.raises(PadiffError) as caught:
                call()
            assert Reason.SESSION_EXPIRED is caught.value.reason


def test_close_ends_the_session_once_and_nothing_works_after_it(stub: StubModel) -> None:
    with serving(stub) as worker:
        model = connect(worker.address)
        model.close()
        model.close()
        wait_until(lambda: stub.resets == 1, "the session's records are dropped")
        with pytest.raises(PadiffError, match="was closed") as caught:
            model.describe()
        assert Reason.OUT_OF_ORDER is caught.value.reason
        connect(worker.address).close()


def test_a_worker_that_ends_in_the_middle_of_a_step_is_unreachable(stub: StubModel) -> None:
    stub.proceed = threading.Event()
    with serving(stub) as worker, connect(worker.address) as model, ThreadPoolExecutor() as pool:
        running = pool.submit(model.forward, ForwardRequest({}))
        assert stub.started.wait(DEADLINE_S)
        worker.server.stop(None)
        error = running.exception(DEADLINE_S)
        stub.proceed.set()
        assert isinstance(error, PadiffError)
        assert Reason.WORKER_UNREACHABLE is error.reason
