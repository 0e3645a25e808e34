"""RemoteModel: the Model protocol over gRPC."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

import grpc

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import (
    BackwardResult,
    ForwardRequest,
    ForwardResult,
    LossSpec,
    ModelDescription,
    ModelInfo,
    Observer,
    OptimizerSpec,
    Releasing,
    What,
)
from padiff_rpc.model.store import StoreFigures, store_full
from padiff_rpc.skeleton import inputs_to_json
from padiff_rpc.tensor import Digest, Tensor, TensorStream
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.v1 import worker_service_pb2_grpc
from padiff_rpc.wire import serde
from padiff_rpc.wire.chunks import stream_to_proto, streams_from_proto, tensors_to_proto
from padiff_rpc.wire.handover import Handover
from padiff_rpc.wire.retry import retry_idempotent
from padiff_rpc.wire.status import error_from_rpc

log = logging.getLogger(__name__)
T = TypeVar("T")

CALL_TIMEOUT_S = 30.0
"""For calls that a worker answers without its model thread. Calls that wait for the model have no deadline."""
CLOSE_TIMEOUT_S = 5.0
RETRY_S = 3.0
REQUEST_DEPTH = 4
"""Messages of up to 1 MiB that may wait for a slow worker."""


class _CallEnded(Exception):
    """The call ended before all requests were sent; its response side says why."""


class Connection:
    """A channel to one worker: makes calls, and turns their failures into PadiffErrors.

    `explain` may replace an error, knowing more: that a launched worker's process ended, and how.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        address: str,
        token: str | None = None,
        explain: Callable[[PadiffError], PadiffError] = lambda error: error,
    ) -> None:
        self.address = address
        self.stub = worker_service_pb2_grpc.ModelWorkerServiceStub(channel)
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._explain = explain
        self._closed = False

    def unary(self, method: Any, request: Any, timeout_s: float | None = None) -> Any:
        with self.failures():
            return method(request, timeout=timeout_s, metadata=self._metadata)

    @contextmanager
    def streaming(self, method: Any, request: Any) -> Iterator[Any]:
        """Yield the call; it is cancelled at the end of the `with`, also when its responses were not all read."""
        with self.failures():
            call = method(request, metadata=self._metadata)
            try:
                yield call
            finally:
                call.cancel()

    @contextmanager
    def sending(self, method: Any, requests: Iterator[Any]) -> Iterator[Any]:
        """Yield a call with a request stream and one response, its result()."""
        with self.failures():
            yield method.future(requests, metadata=self._metadata)

    @contextmanager
    def failures(self) -> Iterator[None]:
        if self._closed:
            raise PadiffError(f"the model at {self.address} was closed", reason=Reason.OUT_OF_ORDER)
        try:
            yield
        except grpc.RpcError as err:
            raise self._explain(error_from_rpc(err, self.address)) from err

    def close(self) -> None:
        self._closed = True
        self._channel.close()


class RemoteModel:
    """A model in a worker, under a session that this object holds until close(). A context manager.

    Made by launch() and connect(). `after_close` runs once at the end: launch() ends its worker there.
    """

    def __init__(
        self,
        connection: Connection,
        info: ModelInfo,
        session_id: str,
        lease_s: float,
        after_close: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = connection
        self._stub = connection.stub
        self._info = info
        self._session_id = session_id
        self._after_close = after_close
        self._sync = False  # whether the last forward was synced, which its backward follows
        self._closing = threading.Event()
        self._close_lock = threading.Lock()
        self._renewing = threading.Thread(target=self._renew, args=(lease_s / 3,), name="lease", daemon=True)
        self._renewing.start()
        # A script that ends without close() must not leave the worker taken until the lease runs out.
        atexit.register(self.close)

    @property
    def address(self) -> str:
        return self._connection.address

    def info(self) -> ModelInfo:
        return self._info

    def describe(self) -> ModelDescription:
        def call() -> ModelDescription:
            request = pb.DescribeModelRequest(session_id=self._session_id)
            with self._connection.streaming(self._stub.DescribeModel, request) as responses:
                return serde.description_from_proto(response.part for response in responses)

        return retry_idempotent(call, RETRY_S)

    # -- parameters ---------------------------------------------------------------------------------------------------
    def read_parameters(self, names: Sequence[str], what: What = "value") -> Iterator[TensorStream]:
        request = pb.ReadParametersRequest(session_id=self._session_id, names=names, what=serde.what_to_proto(what))
        return self._read(self._stub.ReadParameters, request)

    def digest_parameters(self, names: Sequence[str], what: What = "value") -> dict[str, Digest]:
        request = pb.ReadParametersRequest(
            session_id=self._session_id, names=names, what=serde.what_to_proto(what), digests_only=True
        )

        def call() -> dict[str, Digest]:
            with self._connection.streaming(self._stub.ReadParameters, request) as responses:
                return {response.digest.name: serde.digest_from_proto(response.digest.digest) for response in responses}

        return retry_idempotent(call, RETRY_S)

    def write_parameters(self, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Write as Model says. `tensors` is iterated in the calling thread, as fast as the worker takes them."""
        requests: Handover[pb.WriteParametersRequest] = Handover(REQUEST_DEPTH)
        sending = self._connection.sending(self._stub.WriteParameters, _until_ended(requests))
        with sending as call, _ending_with(call, requests):
            _feed(requests, self._write_requests(tensors))
            call.result()

    def _write_requests(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[pb.WriteParametersRequest]:
        yield pb.WriteParametersRequest(session_id=self._session_id)
        for name, tensor in tensors:
            for chunk in stream_to_proto(tensor.stream(name)):
                yield pb.WriteParametersRequest(chunk=chunk)

    # -- a step -------------------------------------------------------------------------------------------------------
    def forward(self, request: ForwardRequest, observer: Observer | None = None) -> ForwardResult:
        self._sync = request.record is not None and request.record.sync
        if self._sync and observer is None:
            raise PadiffError("a synced run needs an observer", reason=Reason.BAD_CONFIG)
        text, tensors = inputs_to_json(request.inputs)
        header = serde.forward_header_to_proto(self._session_id, request, text, len(tensors), observer is not None)
        result = self._step(self._stub.Forward, pb.ForwardRequest, header, tensors, observer)
        return serde.forward_result_from_proto(result)

    def backward(self, loss: LossSpec, observer: Observer | None = None) -> BackwardResult:
        if self._sync and observer is None:
            raise PadiffError("the backward of a synced forward needs an observer", reason=Reason.BAD_CONFIG)
        header = pb.BackwardHeader(
            session_id=self._session_id,
            loss=serde.loss_spec_to_proto(loss),
            tensor_count=len(loss.targets),
            observed=observer is not None,
        )
        result = self._step(self._stub.Backward, pb.BackwardRequest, header, loss.targets, observer)
        return serde.backward_result_from_proto(result)

    def _step(
        self,
        method: Any,
        make: Callable[..., Any],
        header: Any,
        tensors: Mapping[str, Tensor],
        observer: Observer | None,
    ) -> Any:
        """Send header and tensors, serve the observer in this thread, and return the result message."""
        requests: Handover[Any] = Handover(REQUEST_DEPTH)
        with self._connection.streaming(method, _until_ended(requests)) as call, _ending_with(call, requests):
            _feed(requests, _messages(make, make(header=header), tensors), last=not self._sync)
            for response in call:
                if response.WhichOneof("item") == "result":
                    return response.result
                if response.WhichOneof("item") == "waiting":
                    self._await_room(observer, response.waiting.releases)
                    continue
                boundary = serde.boundary_from_proto(response.boundary)
                if observer is not None:
                    observer.observe(boundary)
                if self._sync and observer is not None and not boundary.api:
                    values = observer.substitute(boundary)
                    substitution = pb.Substitution(seq=boundary.seq, tensor_count=len(values))
                    _feed(requests, _messages(make, make(substitution=substitution), values), last=False)
        raise PadiffError(f"the worker at {self.address} ended a step without a result", reason=Reason.DATA_LOSS)

    def _await_room(self, observer: Observer | None, releases: int) -> None:
        """Hold back until the worker, whose store is full, can go on; STORE_FULL, which ends the call, where it never will."""
        if not isinstance(observer, Releasing) or not observer.await_room(releases):
            memory, disk = self._info.store_memory_bytes, self._info.store_disk_bytes
            raise store_full(
                f"the worker at {self.address} has no room for what it records: {memory} bytes of memory and {disk} bytes "
                "of disk are taken by records, and none of them will be released",
                memory,
                disk,
            )

    def optimizer_step(self, optimizer: OptimizerSpec) -> None:
        request = pb.OptimizerStepRequest(
            session_id=self._session_id, optimizer=serde.optimizer_spec_to_proto(optimizer)
        )
        self._connection.unary(self._stub.OptimizerStep, request)

    def reset(self) -> None:
        self._connection.unary(self._stub.ResetModel, pb.ResetModelRequest(session_id=self._session_id))

    # -- records ------------------------------------------------------------------------------------------------------
    def read_records(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        return self._read(self._stub.ReadActivations, pb.ReadActivationsRequest(session_id=self._session_id, ids=ids))

    def release_records(self, ids: Sequence[int]) -> None:
        request = pb.ReleaseActivationsRequest(session_id=self._session_id, ids=ids)
        retry_idempotent(
            lambda: self._connection.unary(self._stub.ReleaseActivations, request, CALL_TIMEOUT_S), RETRY_S
        )

    def store_figures(self) -> StoreFigures:
        """Return how much the worker's store has held since reset()."""
        request = pb.GetStoreFiguresRequest(session_id=self._session_id)
        return retry_idempotent(
            lambda: serde.store_figures_from_proto(
                self._connection.unary(self._stub.GetStoreFigures, request, CALL_TIMEOUT_S)
            ),
            RETRY_S,
        )

    def _read(self, method: Any, request: Any) -> Iterator[TensorStream]:
        with self._connection.streaming(method, request) as responses:
            yield from streams_from_proto(response.chunk for response in responses)

    # -- the session --------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """End the session and, where it was launched, the worker. A worker that is gone already is no error."""
        with self._close_lock:
            if self._closing.is_set():
                return
            self._closing.set()
        atexit.unregister(self.close)
        try:
            request = pb.CloseSessionRequest(session_id=self._session_id)
            self._connection.unary(self._stub.CloseSession, request, CLOSE_TIMEOUT_S)
        except PadiffError as err:
            log.debug("closing the session with %s: %s", self.address, err)
        finally:
            self._renewing.join(CLOSE_TIMEOUT_S)
            self._connection.close()
            self._after_close()

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _renew(self, every_s: float) -> None:
        while not self._closing.wait(every_s):
            try:
                request = pb.KeepAliveRequest(session_id=self._session_id)
                self._connection.unary(self._stub.KeepAlive, request, every_s)
            except PadiffError as err:
                if err.reason in (Reason.SESSION_EXPIRED, Reason.WORKER_DIED):
                    return  # the next call of the session says it
                log.debug("renewing the lease at %s: %s", self.address, err)


def _messages(make: Callable[..., Any], first: Any, tensors: Mapping[str, Tensor]) -> Iterator[Any]:
    yield first
    for chunk in tensors_to_proto(tensors):
        yield make(chunk=chunk)


def _feed(requests: Handover[Any], messages: Iterator[Any], *, last: bool = True) -> None:
    """Hand messages to the sending thread. When the call has ended already, its response side says why."""
    try:
        for message in messages:
            requests.put(message)
    except _CallEnded:
        log.debug("a call ended while requests were still being sent")
    if last:
        requests.close()


def _until_ended(requests: Handover[T]) -> Iterator[T]:
    """Give gRPC's sending thread the requests; it must not see an exception, which it would log."""
    try:
        yield from requests
    except _CallEnded:
        return


@contextmanager
def _ending_with(call: Any, requests: Handover[Any]) -> Iterator[None]:
    """Wake the sending and the feeding thread when the call ends, and end the call when the caller fails."""
    if not call.add_callback(lambda: requests.abort(_CallEnded())):
        requests.abort(_CallEnded())
    try:
        yield
    finally:
        requests.abort(_CallEnded())
        call.cancel()
