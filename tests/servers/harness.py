"""A worker in this process, for tests: real gRPC over loopback, any Model behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
from padiff_servers.access import Access
from padiff_servers.model_thread import ModelThread, worker_ends
from padiff_servers.service import WorkerService
from padiff_servers.serving import start_server
from padiff_servers.session import Sessions

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import (
    BackwardResult,
    Boundary,
    ForwardRequest,
    ForwardResult,
    LossSpec,
    ModelDescription,
    ModelInfo,
    Observer,
    OptimizerSpec,
    ParameterInfo,
    Record,
    StoreFigures,
    What,
)
from padiff_rpc.model.replaying import ReplayRequest, ReplayResult
from padiff_rpc.tensors.tensor import CHUNK_BYTES, Digest, DType, Statistics, Tensor, TensorSpec, TensorStream
from padiff_rpc.v1.worker_service_pb2_grpc import ModelWorkerServiceStub
from padiff_rpc.wire import ring
from padiff_rpc.wire.channel import open_channel, parse_address

DEADLINE_S = 20.0
ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests" / "models" / "numpy_models.py"
OPEN = Access()
SLOT_BYTES = CHUNK_BYTES
"""A slot of the ring that a worker here offers. A real ring has 40 MiB, and making it takes 50 ms of each session."""
DIGEST = Digest(1, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, bytes(16))


def numpy_spec(factory: str) -> str:
    return f"numpy@{MODELS}:{factory}"


def numpy_model(factory: str = "mlp", **model_args: Any) -> HostedModel:
    """Build a model whose store's budgets do not hang on what the machine has free at the moment."""
    spec = numpy_spec(factory)
    return HostedModel.from_spec(spec, model_args=model_args, store_memory_bytes=1 << 28, store_disk_bytes=1 << 28)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return once the condition holds; fail after the deadline."""
    tick = threading.Event()
    for _ in range(int(DEADLINE_S / 0.01)):
        if condition():
            return
        tick.wait(0.01)
    raise AssertionError(f"not within {DEADLINE_S} s: {what}")


@dataclass
class StubModel:
    """A Model without a framework, for what no framework does on demand.

    It holds any tensors as parameters and counts resets. forward sends `boundaries` boundaries, waits for `proceed` if
    there is one, and raises `failure` if there is one; `substituted` keeps what came in a synced run.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    boundaries: int = 3
    failure: Exception | None = None
    proceed: threading.Event | None = None
    started: threading.Event = field(default_factory=threading.Event)
    sent: int = 0
    resets: int = 0
    abort: BaseException | None = None
    thread: int = 0
    request: ForwardRequest | None = None
    loss: LossSpec | None = None
    replayed: ReplayRequest | None = None
    substituted: dict[int, Mapping[str, Tensor]] = field(default_factory=dict)

    def info(self) -> ModelInfo:
        return ModelInfo("stub", "1", "cpu", "3", {}, "0", "host", 1)

    def describe(self) -> ModelDescription:
        parameters = (ParameterInfo(name, "parameter", value.spec, True) for name, value in self.tensors.items())
        return ModelDescription("stub", "Stub", (), tuple(parameters))

    def checkpoint_statements(self) -> tuple[str, ...]:
        return tuple(f"model.{name} -> {name}" for name in self.tensors)

    def read_parameters(
        self, names: Sequence[str], what: What = "value", transposed: Collection[str] = ()
    ) -> Iterator[TensorStream]:
        self._check(names)
        return (self.tensors[name].stream(name) for name in names)

    def digest_parameters(
        self,
        names: Sequence[str],
        what: What = "value",
        transposed: Collection[str] = (),
        statistics: Statistics = Statistics.ALL,
    ) -> dict[str, Digest]:
        self._check(names)
        return dict.fromkeys(names, DIGEST)

    def write_parameters(self, tensors: Iterable[TensorStream]) -> None:
        for stream in tensors:
            self._check([stream.name])
            self.tensors[stream.name] = stream.collect()

    def forward(self, request: ForwardRequest, observer: Observer | None = None) -> ForwardResult:
        self.request = request
        self.thread = threading.get_ident()
        self.started.set()
        try:
            for seq in range(self.boundaries):
                self._boundary(seq, request, observer)
            if self.proceed is not None:
                assert self.proceed.wait(DEADLINE_S)
        except BaseException as err:
            self.abort = err
            raise
        if self.failure is not None:
            raise self.failure
        return ForwardResult((), 0.0)

    def backward(self, loss: LossSpec, observer: Observer | None = None) -> BackwardResult:
        self.loss = loss
        return BackwardResult(0.5, (("fc", 1, "input", "0"),), 0.0)

    def replay(self, request: ReplayRequest) -> ReplayResult:
        self.replayed = request
        taken = Boundary(0, "forward", request.route, 0, "input", None, ())
        return ReplayResult((taken,), (Record(1, "fc.weight", TensorSpec(DType.F32, ()), DIGEST),), 0.5)

    def read_activations(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        return (self.tensors[str(number)].stream(str(number)) for number in ids)

    def release_activations(self, ids: Sequence[int]) -> None:
        for number in ids:
            self.tensors.pop(str(number), None)

    def optimizer_step(self, optimizer: OptimizerSpec) -> None:
        raise RuntimeError("a bug of ours")

    def store_figures(self) -> StoreFigures:
        return StoreFigures(1, 2, 3, 4, 5)

    def offer_store(self) -> None:
        return None

    def reset(self) -> None:
        self.resets += 1

    def close(self) -> None:
        return

    def _boundary(self, seq: int, request: ForwardRequest, observer: Observer | None) -> None:
        if observer is None:
            return
        records = tuple(Record(seq, name, tensor.spec, DIGEST) for name, tensor in self.tensors.items())
        boundary = Boundary(seq, "forward", "fc", seq, "output", None, records)
        observer.observe(boundary)
        self.sent += 1
        if request.record is not None and request.record.sync:
            values = observer.substitute(boundary)
            self.substituted[seq] = {name: value.stream(name).collect() for name, value in values.items()}

    def _check(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.tensors:
                raise PadiffError(f"no parameter {name!r}", reason=Reason.UNKNOWN_NAME)


@dataclass(frozen=True)
class Serving:
    """A running worker: its address, and its parts for tests that reach inside."""

    address: str
    sessions: Sessions
    model_thread: ModelThread
    server: grpc.Server


@contextmanager
def serving(
    model: Any,
    *,
    lease_s: float = 60.0,
    access: Access = OPEN,
    listen: str = "127.0.0.1:0",
    slot_bytes: int = SLOT_BYTES,
) -> Iterator[Serving]:
    """Serve a model; its model thread is a thread of the test, which must end with it."""
    model_thread, sessions = ModelThread(), Sessions(lease_s)
    service = WorkerService(model, model_thread, sessions)
    thread = threading.Thread(target=model_thread.run, name="model thread")
    thread.start()
    server, address = start_server(service, parse_address(listen), access)
    try:
        with patch.object(ring, "SLOT_BYTES", slot_bytes):
            yield Serving(str(address), sessions, model_thread, server)
    finally:
        sessions.stop(worker_ends())
        model_thread.stop()
        thread.join(DEADLINE_S)
        server.stop(None).wait(DEADLINE_S)
        assert not thread.is_alive()


@contextmanager
def raw_stub(address: str) -> Iterator[ModelWorkerServiceStub]:
    """A bare gRPC stub, for peers that break the rules."""
    with open_channel(parse_address(address)) as channel:
        yield ModelWorkerServiceStub(channel)
