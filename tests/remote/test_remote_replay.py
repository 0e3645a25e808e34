"""RemoteModel replays a layer over gRPC as HostedModel does in this process; an older worker is told by name."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from padiff_servers.service import WorkerService

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import ForwardRequest, LossSpec, RecordOptions
from padiff_rpc.model.replaying import Replaying, ReplayRequest, ReplayResult
from padiff_rpc.remote.connect import connect
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tensors.tensor import Tensor, collect_all
from tests.servers.harness import StubModel, numpy_model, serving

VECTORS = Tensor.from_array(np.random.RandomState(0).standard_normal((4, 8)).astype(np.float32))
STEP = ForwardRequest({"x": VECTORS}, seed=3, gradients=False)


@pytest.fixture(params=["shared memory", "streams"])
def remote(request: pytest.FixtureRequest) -> Iterator[RemoteModel]:
    with (
        serving(numpy_model("mlp")) as worker,
        connect(worker.address, shared_memory=request.param == "shared memory") as model,
    ):
        yield model


def told(model: HostedModel | RemoteModel, result: ReplayResult) -> list[object]:
    ids = [str(identifier) for identifier in result.record_ids()]
    tensors = collect_all(model.read_activations(list(map(int, ids))))
    boundaries = [(each.phase, each.route, each.call, each.side, each.caller) for each in result.boundaries]
    return [boundaries, [record.name for record in result.parameters], [tensors[each] for each in ids]]


def test_a_replay_gives_exactly_what_it_gives_in_this_process(remote: RemoteModel) -> None:
    local = numpy_model("mlp")
    big = Tensor.from_array(np.random.RandomState(1).standard_normal((70_000, 8)))  # of several messages
    for request in (
        ReplayRequest(STEP, "", dtype="float64", inner=("body.act",)),
        ReplayRequest(ForwardRequest({"x": big}, gradients=False), "body.fc1", inputs={"0": big}, seed=5),
    ):
        assert told(local, local.replay(request)) == told(remote, remote.replay(request))


def test_who_can_replay_says_so(remote: RemoteModel) -> None:
    assert isinstance(remote, Replaying)
    assert not issubclass(RecordedModel, Replaying)


def test_a_failure_comes_as_the_model_told_it_and_the_session_goes_on(remote: RemoteModel) -> None:
    with pytest.raises(PadiffError, match="no call 1") as caught:
        remote.replay(ReplayRequest(STEP, "body.fc1", call=1))
    assert Reason.UNKNOWN_NAME is caught.value.reason
    assert remote.replay(ReplayRequest(STEP, "body.fc1")).parameters


def test_a_replay_between_synced_steps_does_not_wait_for_substitutes(remote: RemoteModel) -> None:
    class Silent:
        def observe(self, boundary: object) -> None: ...

        def substitute(self, boundary: object) -> dict[str, Tensor]:
            return {}

    request = ForwardRequest({"x": VECTORS}, record=RecordOptions(sync=True))
    for _ in range(2):
        remote.forward(request, Silent())
        remote.backward(LossSpec("sum"), Silent())
        assert remote.replay(ReplayRequest(STEP, "head")).parameters


def test_a_full_store_is_an_error_and_does_not_wait() -> None:
    model = HostedModel(numpy_model("mlp").model, store_memory_bytes=64, store_disk_bytes=0)
    with serving(model) as worker, connect(worker.address) as remote:
        with pytest.raises(PadiffError) as caught:
            remote.replay(ReplayRequest(STEP, "head"))
        assert Reason.STORE_FULL is caught.value.reason


def test_the_request_reaches_the_model_whole() -> None:
    stub = StubModel()
    request = ReplayRequest(
        ForwardRequest({"x": VECTORS}, training=True, record=None),
        "fc",
        1,
        "float32",
        {"x": VECTORS},
        {"fc.weight": VECTORS},
        4,
        ("0",),
        False,
        ("in",),
    )
    with serving(stub) as worker, connect(worker.address) as remote:
        remote.replay(request)
    assert request == stub.replayed


def test_an_older_worker_cannot_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(self: object, requests: object, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")

    monkeypatch.setattr(WorkerService, "ReplayLayer", unknown)
    with serving(numpy_model("mlp")) as worker, connect(worker.address) as remote:
        with pytest.raises(PadiffError, match="cannot replay a layer") as caught:
            remote.replay(ReplayRequest(STEP, "head"))
        assert Reason.VERSION_MISMATCH is caught.value.reason
        assert "upgrade" in caught.value.hint
