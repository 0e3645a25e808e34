"""The gRPC service in front of one Model: takes calls, queues work for the model thread, streams what comes back."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Any, Protocol, TypeVar

import grpc

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Model, Observer
from padiff_rpc.model.store import StoreFigures
from padiff_rpc.skeleton import inputs_from_json
from padiff_rpc.tensor import Tensor
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.v1 import worker_service_pb2_grpc
from padiff_rpc.wire import serde
from padiff_rpc.wire.chunks import stream_to_proto, streams_from_proto
from padiff_rpc.wire.handover import Handover
from padiff_rpc.wire.status import error_to_status
from padiff_rpc.wire.versions import PROTOCOL_VERSIONS
from padiff_servers.model_thread import ModelThread, worker_ends
from padiff_servers.releases import Releases
from padiff_servers.session import Session, Sessions
from padiff_servers.step import SUBSTITUTION_DEPTH, StepObserver, ending_with, pump, receive, receive_tensors

log = logging.getLogger(__name__)
T = TypeVar("T")
Context = grpc.ServicerContext

CHUNK_DEPTH = 4
"""Chunks of about 1 MiB that may wait for a slow reader."""
BOUNDARY_DEPTH = 64
"""Boundaries that may wait for a slow reader before the model does."""
WRITE_BATCH_BYTES = 8 << 20
"""Parameters are written in batches of about this size: a hop to the model thread for each would cost more than the copy."""


def _unary(method: Callable[..., Any]) -> Callable[..., Any]:
    """Turn what a handler raises into a status."""

    @functools.wraps(method)
    def handler(self: WorkerService, request: Any, context: Context) -> Any:
        try:
            return method(self, request, context)
        except grpc.RpcError:
            raise  # the call itself ended; gRPC knows
        except Exception as err:  # noqa: BLE001 - the peer hears of every failure
            _abort(context, err)

    return handler


def _streaming(method: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Turn what a handler with a response stream raises into a status."""

    @functools.wraps(method)
    def handler(self: WorkerService, request: Any, context: Context) -> Iterator[Any]:
        try:
            yield from method(self, request, context)
        except grpc.RpcError:
            raise
        except Exception as err:  # noqa: BLE001 - the peer hears of every failure
            _abort(context, err)

    return handler


class ServedModel(Model, Protocol):
    """A Model whose records wait in a store of this process."""

    def store_figures(self) -> StoreFigures: ...


class WorkerService(worker_service_pb2_grpc.ModelWorkerServiceServicer):
    """Made in the model thread."""

    def __init__(self, model: ServedModel, model_thread: ModelThread, sessions: Sessions) -> None:
        self._model = model
        self._model_thread = model_thread
        self._sessions = sessions
        self._info = serde.model_info_to_proto(model.info())

    # -- sessions -------------------------------------------------------------------------------------------------
    @_unary
    def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Context) -> pb.GetServerInfoResponse:
        return pb.GetServerInfoResponse(protocol_versions=PROTOCOL_VERSIONS, info=self._info)

    @_unary
    def OpenSession(self, request: pb.OpenSessionRequest, context: Context) -> pb.OpenSessionResponse:
        if request.protocol_version not in PROTOCOL_VERSIONS:
            raise PadiffError(
                f"the worker does not speak protocol version {request.protocol_version}, only "
                f"{', '.join(map(str, PROTOCOL_VERSIONS))}",
                reason=Reason.VERSION_MISMATCH,
            )
        session = self._sessions.open(request.client, request.lease_s)
        session.on_end(lambda _: self._clean_up_after(session))
        log.info("session of %s opened, lease %g s", session.client, session.lease_s)
        return pb.OpenSessionResponse(session_id=session.id, lease_s=session.lease_s)

    @_unary
    def KeepAlive(self, request: pb.KeepAliveRequest, context: Context) -> pb.KeepAliveResponse:
        self._sessions.get(request.session_id)
        return pb.KeepAliveResponse()

    @_unary
    def CloseSession(self, request: pb.CloseSessionRequest, context: Context) -> pb.CloseSessionResponse:
        self._sessions.close(request.session_id)
        return pb.CloseSessionResponse()

    # -- the model ------------------------------------------------------------------------------------------------
    @_streaming
    def DescribeModel(self, request: pb.DescribeModelRequest, context: Context) -> Iterator[pb.DescribeModelResponse]:
        session = self._sessions.get(request.session_id)
        description = self._run(session, self._model.describe)
        for part in serde.description_to_proto(description):
            yield pb.DescribeModelResponse(part=part)

    @_streaming
    def ReadParameters(
        self, request: pb.ReadParametersRequest, context: Context
    ) -> Iterator[pb.ReadParametersResponse]:
        session = self._sessions.get(request.session_id)
        names, what = list(request.names), serde.what_from_proto(request.what)

        def produce(responses: Handover[pb.ReadParametersResponse]) -> None:
            if request.digests_only:
                for name, digest in self._model.digest_parameters(names, what).items():
                    named = pb.NamedDigest(name=name, digest=serde.digest_to_proto(digest))
                    responses.put(pb.ReadParametersResponse(digest=named))
                return
            for stream in self._model.read_parameters(names, what):
                for chunk in stream_to_proto(stream):
                    responses.put(pb.ReadParametersResponse(chunk=chunk))

        responses: Handover[pb.ReadParametersResponse] = Handover(CHUNK_DEPTH)
        with ending_with(context, session, responses):
            self._produce(responses, produce)
            yield from responses

    @_unary
    def WriteParameters(
        self, request_iterator: Iterator[pb.WriteParametersRequest], context: Context
    ) -> pb.WriteParametersResponse:
        first = next(request_iterator, None)
        session = self._sessions.get(first.session_id if first is not None else "")
        messages = chain([] if first is None else [first], request_iterator)
        batch: list[tuple[str, Tensor]] = []
        size_bytes = written = 0

        def flush() -> None:
            nonlocal batch, size_bytes, written
            tensors, batch, size_bytes = batch, [], 0
            self._run(session, lambda: self._model.write_parameters(tensors))
            written += len(tensors)

        for stream in streams_from_proto(message.chunk for message in messages if message.HasField("chunk")):
            batch.append((stream.name, stream.collect()))
            size_bytes += stream.spec.size_bytes
            if size_bytes >= WRITE_BATCH_BYTES:
                flush()
        flush()
        return pb.WriteParametersResponse(written=written)

    # -- steps ----------------------------------------------------------------------------------------------------
    @_streaming
    def Forward(self, request_iterator: Iterator[pb.ForwardRequest], context: Context) -> Iterator[pb.ForwardResponse]:
        header = receive(request_iterator, "header").header
        session = self._sessions.get(header.session_id)
        tensors = receive_tensors(request_iterator, header.tensor_count)
        request = serde.forward_header_from_proto(header, inputs_from_json(header.inputs_json, tensors))
        session.sync = request.record is not None and request.record.sync

        def run(observer: Observer | None) -> pb.ForwardResponse:
            result = self._model.forward(request, observer)
            return pb.ForwardResponse(result=serde.forward_result_to_proto(result))

        yield from self._step(session, context, request_iterator, pb.ForwardResponse, run, header.observed)

    @_streaming
    def Backward(
        self, request_iterator: Iterator[pb.BackwardRequest], context: Context
    ) -> Iterator[pb.BackwardResponse]:
        header = receive(request_iterator, "header").header
        session = self._sessions.get(header.session_id)
        targets = receive_tensors(request_iterator, header.tensor_count)
        loss = replace(serde.loss_spec_from_proto(header.loss), targets=targets)

        def run(observer: Observer | None) -> pb.BackwardResponse:
            result = self._model.backward(loss, observer)
            return pb.BackwardResponse(result=serde.backward_result_to_proto(result))

        yield from self._step(session, context, request_iterator, pb.BackwardResponse, run, header.observed)

    @_unary
    def OptimizerStep(self, request: pb.OptimizerStepRequest, context: Context) -> pb.OptimizerStepResponse:
        session = self._sessions.get(request.session_id)
        optimizer = serde.optimizer_spec_from_proto(request.optimizer)
        self._run(session, lambda: self._model.optimizer_step(optimizer))
        return pb.OptimizerStepResponse()

    @_unary
    def ResetModel(self, request: pb.ResetModelRequest, context: Context) -> pb.ResetModelResponse:
        session = self._sessions.get(request.session_id)
        self._run(session, self._model.reset)
        return pb.ResetModelResponse()

    # -- records: served by gRPC's own threads, also while the model runs -------------------------------------------
    @_streaming
    def ReadActivations(
        self, request: pb.ReadActivationsRequest, context: Context
    ) -> Iterator[pb.ReadActivationsResponse]:
        self._sessions.get(request.session_id)
        for stream in self._model.read_records(list(request.ids)):
            for chunk in stream_to_proto(stream):
                yield pb.ReadActivationsResponse(chunk=chunk)

    @_unary
    def ReleaseActivations(
        self, request: pb.ReleaseActivationsRequest, context: Context
    ) -> pb.ReleaseActivationsResponse:
        session = self._sessions.get(request.session_id)
        self._model.release_records(list(request.ids))
        session.releases.add()
        return pb.ReleaseActivationsResponse()

    @_unary
    def GetStoreFigures(self, request: pb.GetStoreFiguresRequest, context: Context) -> pb.GetStoreFiguresResponse:
        self._sessions.get(request.session_id)
        return serde.store_figures_to_proto(self._model.store_figures())

    # -- work for the model thread ----------------------------------------------------------------------------------
    def _run(self, session: Session, job: Callable[[], T]) -> T:
        """Run a job of this session in the model thread and wait for its result."""

        def checked() -> T:
            session.check()
            return job()

        return self._model_thread.submit(checked).result()

    def _step(
        self,
        session: Session,
        context: Context,
        messages: Iterator[Any],
        respond: Callable[..., Any],
        run: Callable[[Observer | None], Any],
        observed: bool,
    ) -> Iterator[Any]:
        responses: Handover[Any] = Handover(BOUNDARY_DEPTH)
        substitutions: Handover[Any] | None = Handover(SUBSTITUTION_DEPTH) if session.sync and observed else None
        releases = session.releases = Releases()
        observer = StepObserver(responses, respond, substitutions, releases) if observed else None
        with ending_with(context, session, responses, releases, *([] if substitutions is None else [substitutions])):
            if substitutions is not None:
                pump(messages, substitutions)
            self._produce(responses, lambda out: out.put(run(observer)))
            yield from responses

    def _produce(self, responses: Handover[T], produce: Callable[[Handover[T]], None]) -> None:
        """Queue work that puts its responses one by one; it does not start once the call or its session has ended."""

        def job() -> None:
            try:
                responses.check()
                produce(responses)
            except Exception as err:  # noqa: BLE001 - the handler passes it on
                responses.close(err)
            except BaseException:
                responses.abort(worker_ends())
                raise
            else:
                responses.close()

        future = self._model_thread.submit(job)
        future.add_done_callback(lambda done: _abort_if_never_run(done, responses))

    def _clean_up_after(self, session: Session) -> None:
        def job() -> None:
            try:
                self._model.reset()
            except Exception:
                log.exception("cleaning up after the session of %s failed", session.client)

        log.info("session of %s ended", session.client)
        self._model_thread.submit(job)


def _abort_if_never_run(future: Any, responses: Handover[Any]) -> None:
    error = future.exception()
    if isinstance(error, PadiffError):
        responses.abort(error)


def _abort(context: Context, error: Exception) -> None:
    """End the call with the status of an error; one of ours that is none of the catalogue goes into the log."""
    if not isinstance(error, PadiffError):
        log.error("an unexpected failure", exc_info=error)
        error = PadiffError(
            f"the worker failed: {type(error).__name__}: {error}",
            reason=Reason.INTERNAL,
            hint="the trace is in the worker's log; please report it",
        )
    code, text, trailing = error_to_status(error)
    context.set_trailing_metadata(trailing)
    context.abort(code, text)
