"""The service against peers that break the rules, and what it does when things end early."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import Tensor
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.v1.model_pb2 import RecordOptions
from padiff_rpc.v1.worker_service_pb2_grpc import ModelWorkerServiceStub
from padiff_rpc.wire.payload import encode
from padiff_rpc.wire.status import DETAIL_LIMIT_BYTES, error_from_rpc
from tests.servers.harness import DEADLINE_S, Serving, StubModel, raw_stub, serving, wait_until
from tests.wire.packing import pack_tensors

X = Tensor.from_array(np.arange(4, dtype=np.float32))


@pytest.fixture
def model() -> StubModel:
    return StubModel({"x": X})


@pytest.fixture
def worker(model: StubModel) -> Iterator[Serving]:
    with serving(model) as running:
        yield running


@pytest.fixture
def stub(worker: Serving) -> Iterator[ModelWorkerServiceStub]:
    with raw_stub(worker.address) as made:
        yield made


@pytest.fixture
def session(stub: ModelWorkerServiceStub) -> str:
    return stub.OpenSession(pb.OpenSessionRequest(protocol_version=1, client="test")).session_id


def failure(call: Any) -> PadiffError:
    """Make a call that must fail, and return its error as a coordinator sees it."""
    with pytest.raises(grpc.RpcError) as caught:
        exhaust(call())
    return error_from_rpc(caught.value, "test")


def exhaust(result: Any) -> None:
    """Read a stream to its end; the one message of another call is there already."""
    if hasattr(result, "__next__"):
        list(result)


def forward(session: str, *, sync: bool = False, tensors: int = 0, inputs: str = "{}") -> pb.ForwardRequest:
    record = RecordOptions(all_routes=True, inputs=True, sync=sync)
    header = pb.ForwardHeader(
        session_id=session, inputs_json=inputs, record=record, tensor_count=tensors, observed=True
    )
    return pb.ForwardRequest(header=header)


def chunks() -> list[pb.ForwardRequest]:
    return [pb.ForwardRequest.FromString(encode(pb.ForwardRequest(), batch)) for batch in pack_tensors({"x": X})]


def test_every_call_of_a_session_wants_one(stub: ModelWorkerServiceStub, session: str) -> None:
    calls = [
        lambda: list(stub.DescribeModel(pb.DescribeModelRequest(session_id="other"))),
        lambda: list(stub.ReadParameters(iter([pb.ReadParametersRequest(session_id="other")]))),
        lambda: list(stub.DigestParameters(pb.DigestParametersRequest(session_id="other", what=pb.WHAT_VALUE))),
        lambda: list(stub.WriteParameters(iter([pb.WriteParametersRequest(session_id="other")]))),
        lambda: list(stub.WriteParameters(iter([]))),
        lambda: stub.ShareMemory(pb.ShareMemoryRequest(session_id="other")),
        lambda: list(stub.Forward(iter([forward("other")]))),
        lambda: list(stub.Backward(iter([pb.BackwardRequest(header=pb.BackwardHeader(session_id="other"))]))),
        lambda: list(stub.ReplayLayer(iter([pb.ReplayLayerRequest(header=pb.ReplayLayerHeader(session_id="other"))]))),
        lambda: list(stub.ReadActivations(iter([pb.ReadActivationsRequest(session_id="other")]))),
        lambda: stub.ReleaseActivations(pb.ReleaseActivationsRequest(session_id="other")),
        lambda: stub.OptimizerStep(pb.OptimizerStepRequest(session_id="other")),
        lambda: stub.KeepAlive(pb.KeepAliveRequest(session_id="other")),
    ]
    for call in calls:
        assert Reason.SESSION_EXPIRED is failure(call).reason
    stub.CloseSession(pb.CloseSessionRequest(session_id="other"))
    stub.KeepAlive(pb.KeepAliveRequest(session_id=session))


def test_a_protocol_version_it_does_not_speak_is_refused(stub: ModelWorkerServiceStub) -> None:
    error = failure(lambda: stub.OpenSession(pb.OpenSessionRequest(protocol_version=9)))
    assert (Reason.VERSION_MISMATCH, "9" in error.message) == (error.reason, True)


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        (lambda session: [], Reason.DATA_LOSS),
        (lambda session: chunks(), Reason.DATA_LOSS),
        (lambda session: [forward(session, tensors=2, inputs='{"x": {"$tensor": "x"}}'), *chunks()], Reason.DATA_LOSS),
        (lambda session: [forward(session, tensors=1), forward(session)], Reason.DATA_LOSS),
        (lambda session: [forward(session, tensors=1), *chunks()], Reason.BAD_INPUTS),
        (lambda session: [forward(session, inputs="nonsense")], Reason.BAD_INPUTS),
        (lambda session: [forward(session, inputs='{"x": {"$tensor": "x"}}')], Reason.BAD_INPUTS),
    ],
)
def test_a_malformed_step_never_reaches_the_model(
    stub: ModelWorkerServiceStub, session: str, model: StubModel, requests: Any, reason: Reason
) -> None:
    assert reason is failure(lambda: stub.Forward(iter(requests(session)))).reason
    assert model.request is None


def synced(session: str, *answers: pb.ForwardRequest) -> Iterator[pb.ForwardRequest]:
    yield forward(session, sync=True)
    yield from answers


def substitution(seq: int, tensors: int = 0) -> pb.ForwardRequest:
    return pb.ForwardRequest(substitution=pb.Substitution(seq=seq, tensor_count=tensors))


def test_substitutions_reach_the_model(stub: ModelWorkerServiceStub, session: str, model: StubModel) -> None:
    answers = [substitution(0), substitution(1, 1), *chunks(), substitution(2)]
    *told, last = list(stub.Forward(synced(session, *answers)))
    assert [0, 1, 2] == [boundary.seq for response in told for boundary in response.boundaries.boundaries]
    assert "result" == last.WhichOneof("item")
    assert {0: {}, 1: {"x": X}, 2: {}} == model.substituted


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ([substitution(1)], "substitution of boundary 1 came where that of 0 was due"),
        ([substitution(0), substitution(0)], "substitution of boundary 0 came where that of 1 was due"),
        ([substitution(0, 1), substitution(1)], "substitution came where a batch was due"),
        (chunks(), "batch came where a substitution was due"),
        ([], "the end of the stream came where a substitution was due"),
    ],
)
def test_a_wrong_substitution_aborts_the_step(
    stub: ModelWorkerServiceStub, session: str, model: StubModel, answers: list[Any], text: str
) -> None:
    error = failure(lambda: stub.Forward(synced(session, *answers)))
    assert (Reason.DATA_LOSS, True) == (error.reason, text in error.message)
    assert model.abort is not None


def test_a_coordinator_that_goes_away_frees_the_waiting_model_thread(
    stub: ModelWorkerServiceStub, session: str, model: StubModel
) -> None:
    over = threading.Event()

    def requests() -> Iterator[pb.ForwardRequest]:
        yield forward(session, sync=True)
        over.wait(DEADLINE_S)

    call = stub.Forward(requests())
    assert "boundaries" == next(call).WhichOneof("item")
    call.cancel()
    over.set()
    wait_until(lambda: model.abort is not None, "the step is aborted")
    assert isinstance(model.abort, PadiffError)
    # gRPC may tell the end of the requests before it tells that the call was cancelled.
    assert model.abort.reason in (Reason.WORKER_UNREACHABLE, Reason.DATA_LOSS)
    assert 1 == len(list(stub.DescribeModel(pb.DescribeModelRequest(session_id=session))))


def test_a_lease_that_runs_out_ends_a_synced_step_that_waits(model: StubModel) -> None:
    with serving(model, lease_s=0.3) as worker, raw_stub(worker.address) as stub:
        session = stub.OpenSession(pb.OpenSessionRequest(protocol_version=1, client="sleepy")).session_id
        over = threading.Event()

        def requests() -> Iterator[pb.ForwardRequest]:
            yield forward(session, sync=True)
            over.wait(DEADLINE_S)

        error = failure(lambda: stub.Forward(requests()))
        over.set()
        assert Reason.SESSION_EXPIRED is error.reason
        wait_until(lambda: model.resets == 1, "the session's records are dropped")
        second = stub.OpenSession(pb.OpenSessionRequest(protocol_version=1, client="next")).session_id
        assert 1 == len(list(stub.DescribeModel(pb.DescribeModelRequest(session_id=second))))


def test_a_slow_reader_slows_the_model_and_its_going_frees_it(
    stub: ModelWorkerServiceStub, session: str, model: StubModel
) -> None:
    model.boundaries = 100_000
    model.tensors = {"n" * 100_000: X}  # fills gRPC's own buffers soon
    call = stub.Forward(iter([forward(session)]))
    next(call)
    settled: list[int] = []

    def stands_still() -> bool:
        settled.append(model.sent)
        return len(settled) > 20 and settled[-1] == settled[-20] > 0

    wait_until(stands_still, "the model waits for its reader")
    assert model.sent < model.boundaries
    call.cancel()
    wait_until(lambda: model.abort is not None, "the step is aborted")


def test_closing_the_session_aborts_its_step_and_drops_its_records(
    stub: ModelWorkerServiceStub, session: str, model: StubModel
) -> None:
    call = stub.Forward(synced(session, *[substitution(0)]))
    assert model.started.wait(DEADLINE_S)
    stub.CloseSession(pb.CloseSessionRequest(session_id=session))
    assert failure(lambda: call).reason in (Reason.SESSION_EXPIRED, Reason.DATA_LOSS)
    wait_until(lambda: model.resets == 1, "the session's records are dropped")


def test_work_that_waits_when_its_session_ends_does_not_run(
    stub: ModelWorkerServiceStub, session: str, model: StubModel
) -> None:
    model.proceed = threading.Event()
    running = stub.Forward(iter([forward(session)]))
    assert model.started.wait(DEADLINE_S)
    header = pb.BackwardHeader(session_id=session, observed=True)
    waiting = stub.Backward(iter([pb.BackwardRequest(header=header)]))
    writing = stub.OptimizerStep.future(pb.OptimizerStepRequest(session_id=session))
    wait_until(lambda: stub.KeepAlive(pb.KeepAliveRequest(session_id=session)) is not None, "the worker answers")
    stub.CloseSession(pb.CloseSessionRequest(session_id=session))
    model.proceed.set()
    assert Reason.SESSION_EXPIRED is failure(lambda: waiting).reason
    assert Reason.SESSION_EXPIRED is failure(writing.result).reason
    assert Reason.SESSION_EXPIRED is failure(lambda: running).reason
    assert model.loss is None


def test_our_own_bug_is_internal_and_its_trace_is_in_the_log(
    stub: ModelWorkerServiceStub, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        error = failure(lambda: stub.OptimizerStep(pb.OptimizerStepRequest(session_id=session)))
    assert Reason.INTERNAL is error.reason
    assert "RuntimeError: a bug of ours" in error.message
    assert "Traceback" not in str(error)
    assert "optimizer_step" in caplog.text


def test_an_error_far_over_4_kib_arrives_with_its_status(
    stub: ModelWorkerServiceStub, session: str, model: StubModel
) -> None:
    trace = "\n".join(f"frame {index} ü" for index in range(20_000))
    model.failure = PadiffError(
        "broke ü" + "x" * 5000, reason=Reason.MODEL_FAILED, hint="cure", metadata={"traceback": trace, "layer": "fc"}
    )
    error = failure(lambda: stub.Forward(iter([forward(session)])))
    assert (Reason.MODEL_FAILED, "fc") == (error.reason, error.metadata["layer"])
    assert error.metadata["traceback"].endswith("frame 19999 ü")
    assert error.message.startswith("broke ü")
    assert len(str(error)) + len(error.metadata["traceback"]) > DETAIL_LIMIT_BYTES / 2


def _first_boundaries(call: Any, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found += [boundary.seq for boundary in next(call).boundaries.boundaries]
    return found


def test_what_was_observed_before_a_failure_still_arrives(
    stub: ModelWorkerServiceStub, session: str, model: StubModel
) -> None:
    model.failure = PadiffError("broke", reason=Reason.MODEL_FAILED)
    call = stub.Forward(iter([forward(session)]))
    assert [0, 1, 2] == _first_boundaries(call, 3)
    assert Reason.MODEL_FAILED is failure(lambda: call).reason


def test_a_parameter_whose_bytes_did_not_all_come_is_data_loss(
    stub: ModelWorkerServiceStub, session: str, model: StubModel
) -> None:
    big = Tensor.from_array(np.zeros(3 << 20, np.float32))
    model.tensors["big"] = big
    values = {"big": Tensor.from_array(np.ones(3 << 20, np.float32)), "x": X}
    messages = [
        pb.WriteParametersRequest.FromString(encode(pb.WriteParametersRequest(), batch))
        for batch in pack_tensors(values)
    ]
    messages[0].session_id = session
    del messages[-2]
    assert Reason.DATA_LOSS is failure(lambda: stub.WriteParameters(iter(messages))).reason
    assert big == model.tensors["big"]


def test_a_message_over_the_limit_is_refused(stub: ModelWorkerServiceStub, session: str) -> None:
    query = pb.ParametersQuery(names=["x" * (5 << 20)], what=pb.WHAT_VALUE)
    request = pb.ReadParametersRequest(session_id=session, query=query)
    with pytest.raises(grpc.RpcError, match="RESOURCE_EXHAUSTED"):
        list(stub.ReadParameters(iter([request])))


def test_the_health_service_says_serving(worker: Serving) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(worker.address.removeprefix("grpc://")) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "padiff_rpc.v1.ModelWorkerService"):
            response = stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert health_pb2.HealthCheckResponse.SERVING == response.status
