"""The gRPC service in front of one Model: it takes calls, queues work for the model thread, and streams the results.

proto/padiff_rpc/v1/worker_service.proto says what each call does, and which errors it has.
"""

from __future__ import annotations

import functools
import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, Protocol, TypeVar

import grpc

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.inputs_as_json import inputs_from_json
from padiff_rpc.model.model import (
    DescribingOptimizers,
    Flooring,
    Lending,
    Model,
    Observer,
    Stating,
    StoreFigures,
    TakingGradients,
)
from padiff_rpc.model.replaying import Replaying
from padiff_rpc.model.store.arena import Offer
from padiff_rpc.system.malloc import give_back_freed_memory
from padiff_rpc.tensors.tensor import Tensor, TensorStream
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.v1 import worker_service_pb2_grpc
from padiff_rpc.wire import serde
from padiff_rpc.wire.chunks import PieceReader, unpack
from padiff_rpc.wire.handover import Handover
from padiff_rpc.wire.methods import TARGET_PREFIX
from padiff_rpc.wire.payload import Batch, Frame
from padiff_rpc.wire.ring import OfferedRing
from padiff_rpc.wire.shared_store import shared_store
from padiff_rpc.wire.status import error_to_status
from padiff_rpc.wire.versions import PROTOCOL_VERSIONS
from padiff_servers.model_thread import ModelThread, worker_ends
from padiff_servers.releases import ReleaseCounter
from padiff_servers.requests import Requests, TensorsIn, ending_with, incoming_of, receive
from padiff_servers.serve_read import OpenRead
from padiff_servers.serve_step import StepObserver, together
from padiff_servers.session import Session, Sessions

log: logging.Logger = logging.getLogger(__name__)
T = TypeVar("T")
Context = grpc.ServicerContext

CHUNK_DEPTH = 4
"""How many chunks of about 1 MiB may wait for a slow reader."""
BOUNDARY_DEPTH = 128
"""How many boundaries may wait for a slow reader before the model does."""
LINGER_S = 0.004
"""How long a boundary waits for others to go in its message.

A message costs both sides a third of a millisecond.
"""


def _unary(method: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a handler with one response: an error that it raises ends the call with that error's status."""

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
    """Wrap a handler with a response stream: an error that it raises ends the call with that error's status."""

    @functools.wraps(method)
    def handler(self: WorkerService, request: Any, context: Context) -> Iterator[Any]:
        try:
            yield from method(self, request, context)
        except grpc.RpcError:
            raise
        except Exception as err:  # noqa: BLE001 - the peer hears of every failure
            _abort(context, err)

    return handler


class ServedModel(Model, Stating, TakingGradients, DescribingOptimizers, Replaying, Protocol):
    """A Model whose records wait in a store of this process."""

    def store_figures(self) -> StoreFigures:
        """Return how many bytes the store holds, and has held at most since reset()."""
        ...

    def offer_store(self) -> Offer | None:
        """Return the pid, descriptor and size of the records' memory, for a process of this host to map it.

        None if the system does not let processes share memory, or if the records lie in private memory already.
        """
        ...


class WorkerService(worker_service_pb2_grpc.ModelWorkerServiceServicer):
    """The worker's calls, which run in gRPC's threads. To be made in the model thread.

    Args:
        model: The model, which only the model thread runs.
        model_thread: Runs the calls' work on the model.
        sessions: Knows which session holds the worker.
    """

    def __init__(self, model: ServedModel, model_thread: ModelThread, sessions: Sessions) -> None:
        self._model = model
        self._model_thread = model_thread
        self._sessions = sessions
        self._info = serde.model_info_to_proto(model.info())

    # -- sessions -------------------------------------------------------------------------------------------------
    @_unary
    def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Context) -> pb.GetServerInfoResponse:
        """Return the protocol versions, and where the model runs."""
        return pb.GetServerInfoResponse(protocol_versions=PROTOCOL_VERSIONS, info=self._info)

    @_unary
    def OpenSession(self, request: pb.OpenSessionRequest, context: Context) -> pb.OpenSessionResponse:
        """Open a session, and offer it a ring if it asks for one. When it ends the model is reset."""
        if request.protocol_version not in PROTOCOL_VERSIONS:
            raise PadiffError(
                f"the worker does not speak protocol version {request.protocol_version}, only "
                f"{', '.join(map(str, PROTOCOL_VERSIONS))}",
                reason=Reason.VERSION_MISMATCH,
            )
        session = self._sessions.open(request.client, request.lease_s)
        session.on_end(lambda _: self._clean_up_after(session))
        log.info("session of %s opened, lease %g s", session.client, session.lease_s)
        if request.shared_memory:
            session.offered = _offered_ring()
        ring = None if session.offered is None else session.offered.to_proto()
        return pb.OpenSessionResponse(session_id=session.id, lease_s=session.lease_s, ring=ring)

    @_unary
    def ShareMemory(self, request: pb.ShareMemoryRequest, context: Context) -> pb.ShareMemoryResponse:
        """Complete the ring that the session was offered, once, and say where the store lies."""
        session = self._sessions.get(request.session_id)
        offered, session.offered = session.offered, None
        if offered is None:
            return pb.ShareMemoryResponse()
        made = offered.complete(request.nonce)
        offered.close()
        if made is None:
            return pb.ShareMemoryResponse()
        session.ring, layout = made
        offer = self._model.offer_store()
        store = None if offer is None else serde.store_offer_to_proto(offer)
        return pb.ShareMemoryResponse(layout=layout, store=store)

    @_unary
    def ReachStore(self, request: pb.ReachStoreRequest, context: Context) -> pb.ReachStoreResponse:
        """Map another worker's store, which replaces the store that was reached before."""
        session = self._sessions.get(request.session_id)
        session.reached = shared_store(serde.store_offer_from_proto(request.store))
        return pb.ReachStoreResponse(reached=session.reached is not None)

    @_unary
    def KeepAlive(self, request: pb.KeepAliveRequest, context: Context) -> pb.KeepAliveResponse:
        """Renew the session's lease, as any of its calls does."""
        self._sessions.get(request.session_id)
        return pb.KeepAliveResponse()

    @_unary
    def CloseSession(self, request: pb.CloseSessionRequest, context: Context) -> pb.CloseSessionResponse:
        """End the session; a session that is gone is no error."""
        self._sessions.close(request.session_id)
        return pb.CloseSessionResponse()

    # -- the model ------------------------------------------------------------------------------------------------
    @_streaming
    def DescribeModel(self, request: pb.DescribeModelRequest, context: Context) -> Iterator[pb.DescribeModelResponse]:
        """Describe the model in the model thread, and stream the description in parts, or its class's statements."""
        session = self._sessions.get(request.session_id)
        if request.statements:
            yield from serde.statements_to_proto(self._run(session, self._model.checkpoint_statements))
            return
        description = self._run(session, self._model.describe)
        for part in serde.description_to_proto(description):
            yield pb.DescribeModelResponse(part=part)

    @_streaming
    def ReadParameters(self, request_iterator: Iterator[pb.ReadParametersRequest], context: Context) -> Iterator[bytes]:
        """Answer queries one after the other; the model thread reads and packs the tensors."""
        with OpenRead(request_iterator, self._sessions, context) as read:
            for query in read.queries():
                responses: Handover[bytes] = Handover(CHUNK_DEPTH)
                read.ends(responses)
                self._produce(responses, functools.partial(self._read_parameters, read, query))
                yield from responses

    def _read_parameters(self, read: OpenRead, query: pb.ParametersQuery, responses: Handover[bytes]) -> None:
        names, what = list(query.names), serde.what_from_proto(query.what)
        streams = self._model.read_parameters(names, what, list(query.transposed))
        for message in read.answer(pb.ReadParametersResponse, streams, query.offset, len(names)):
            responses.put(message)

    @_streaming
    def DigestParameters(
        self, request: pb.DigestParametersRequest, context: Context
    ) -> Iterator[pb.DigestParametersResponse]:
        """Summarise tensors in the model thread, and stream one response per digest."""
        session = self._sessions.get(request.session_id)
        names, what = list(request.names), serde.what_from_proto(request.what)
        statistics = serde.statistics_from_proto(request.statistics)
        digests = self._run(
            session, lambda: self._model.digest_parameters(names, what, list(request.transposed), statistics)
        )
        for name, digest in digests.items():
            yield pb.DigestParametersResponse(name=name, digest=serde.digest_to_proto(digest))

    @_streaming
    def WriteParameters(
        self, request_iterator: Iterator[Frame], context: Context
    ) -> Iterator[pb.WriteParametersResponse]:
        """Write tensors in the model thread as they come, and return each slot when it was read."""

        def write(streams: Iterator[TensorStream]) -> pb.WriteParametersResponse:
            written = 0

            def counted() -> Iterator[TensorStream]:
                nonlocal written
                for stream in streams:
                    yield stream
                    written += 1

            self._model.write_parameters(counted())
            return pb.WriteParametersResponse(written=written)

        yield from self._write(request_iterator, context, pb.WriteParametersResponse, write)

    @_streaming
    def WriteGradients(
        self, request_iterator: Iterator[Frame], context: Context
    ) -> Iterator[pb.WriteGradientsResponse]:
        """Write gradients in the model thread as they come, and return each slot when it was read."""

        def write(streams: Iterator[TensorStream]) -> pb.WriteGradientsResponse:
            return pb.WriteGradientsResponse(written=self._model.write_gradients(streams))

        yield from self._write(request_iterator, context, pb.WriteGradientsResponse, write)

    def _write(
        self,
        messages: Iterator[Frame],
        context: Context,
        respond: Callable[..., Any],
        write: Callable[[Iterator[TensorStream]], Any],
    ) -> Iterator[Any]:
        """Have `write` take the tensors of a call in the model thread; what it returns is the last response."""
        first = next(messages, None)
        session = self._sessions.get(first.message.session_id if first is not None else "")
        requests = Requests(messages)
        responses: Handover[Any] = Handover(BOUNDARY_DEPTH)

        def produce(responses: Handover[Any]) -> None:
            def give_back(ticket: int) -> None:
                responses.put(respond(returned_tickets=[ticket]))

            streams = unpack(PieceReader(_batches(first, requests), incoming_of(session, give_back)))
            responses.put(write(streams))

        with ending_with(context, session, requests, responses):
            self._produce(responses, produce)
            yield from responses

    # -- steps ----------------------------------------------------------------------------------------------------
    @_streaming
    def Forward(self, request_iterator: Iterator[Frame], context: Context) -> Iterator[pb.ForwardResponse]:
        """Run forward in the model thread, and stream boundaries meanwhile."""
        header: pb.ForwardHeader = receive(request_iterator, "header")
        session = self._sessions.get(header.session_id)
        session.sync, session.shares = header.record.sync, header.record.share_draws

        def run(tensors: Mapping[str, Tensor], observer: Observer | None) -> pb.ForwardResponse:
            request = serde.forward_header_from_proto(header, inputs_from_json(header.inputs_json, tensors))
            result = self._model.forward(request, observer)
            return pb.ForwardResponse(result=serde.forward_result_to_proto(result))

        yield from self._step(
            session, context, request_iterator, pb.ForwardResponse, run, header.tensor_count, header.observed
        )

    @_streaming
    def Backward(self, request_iterator: Iterator[Frame], context: Context) -> Iterator[pb.BackwardResponse]:
        """Run the loss and backward in the model thread, and stream boundaries meanwhile."""
        header: pb.BackwardHeader = receive(request_iterator, "header")
        session = self._sessions.get(header.session_id)

        def run(targets: Mapping[str, Tensor], observer: Observer | None) -> pb.BackwardResponse:
            loss = replace(serde.loss_spec_from_proto(header.loss), targets=targets)
            result = self._model.backward(loss, observer)
            return pb.BackwardResponse(result=serde.backward_result_to_proto(result))

        yield from self._step(
            session, context, request_iterator, pb.BackwardResponse, run, header.tensor_count, header.observed
        )

    @_streaming
    def ReplayLayer(self, request_iterator: Iterator[Frame], context: Context) -> Iterator[pb.ReplayLayerResponse]:
        """Run one layer alone in the model thread, then stream its boundaries and the result."""
        header: pb.ReplayLayerHeader = receive(request_iterator, "header")
        session = self._sessions.get(header.session_id)
        session.sync = False  # the step that may have been synced has lost its graph

        def run(tensors: Mapping[str, Tensor], observer: Observer | None) -> pb.ReplayLayerResponse:
            named, given, parameters = serde.given_from_wire(tensors)
            inputs = inputs_from_json(header.forward.inputs_json, named)
            result = self._model.replay(serde.replay_header_from_proto(header, inputs, given, parameters))
            assert observer is not None, "a replay is observed"
            for boundary in result.boundaries:
                observer.observe(boundary)
            return pb.ReplayLayerResponse(result=serde.replay_result_to_proto(result))

        yield from self._step(session, context, request_iterator, pb.ReplayLayerResponse, run, header.tensor_count)

    @_streaming
    def MeasureFloor(self, request_iterator: Iterator[Frame], context: Context) -> Iterator[pb.MeasureFloorResponse]:
        """Measure the next step's floor in the model thread."""
        header: pb.MeasureFloorHeader = receive(request_iterator, "header")
        session = self._sessions.get(header.forward.session_id)
        session.sync = False
        if not isinstance(self._model, Flooring):
            raise PadiffError("this worker's model cannot measure a floor", reason=Reason.NOT_SUPPORTED)
        model = self._model

        def run(tensors: Mapping[str, Tensor], _: Observer | None) -> pb.MeasureFloorResponse:
            begun = time.perf_counter()
            given = {name: one for name, one in tensors.items() if not name.startswith(TARGET_PREFIX)}
            targets = {name.removeprefix(TARGET_PREFIX): one for name, one in tensors.items() if name not in given}
            request = serde.forward_header_from_proto(
                header.forward, inputs_from_json(header.forward.inputs_json, given)
            )
            loss = (
                replace(serde.loss_spec_from_proto(header.loss), targets=targets) if header.HasField("loss") else None
            )
            model.measure_floor(request, loss)
            return pb.MeasureFloorResponse(result=pb.MeasureFloorResult(wall_s=time.perf_counter() - begun))

        yield from self._step(
            session, context, request_iterator, pb.MeasureFloorResponse, run, header.forward.tensor_count
        )

    @_unary
    def WorkOnCopies(self, request: pb.WorkOnCopiesRequest, context: Context) -> pb.WorkOnCopiesResponse:
        """Go over to copies, or back, in the model thread."""
        session, model = self._sessions.get(request.session_id), self._model
        if not isinstance(model, Lending):
            raise PadiffError("this worker's model cannot compute with copies", reason=Reason.NOT_SUPPORTED)
        copies = serde.copies_from_proto(request.copies)
        self._run(session, lambda: model.work_on(copies))
        return pb.WorkOnCopiesResponse()

    @_unary
    def OptimizerStep(self, request: pb.OptimizerStepRequest, context: Context) -> pb.OptimizerStepResponse:
        """Apply one optimiser step in the model thread."""
        session = self._sessions.get(request.session_id)
        optimizer = serde.optimizer_spec_from_proto(request.optimizer)
        self._run(session, lambda: self._model.optimizer_step(optimizer))
        return pb.OptimizerStepResponse()

    @_streaming
    def DescribeOptimizer(
        self, request: pb.DescribeOptimizerRequest, context: Context
    ) -> Iterator[pb.DescribeOptimizerResponse]:
        """Look into an optimiser in the model thread, and stream one response per group."""
        session = self._sessions.get(request.session_id)
        optimizer = serde.optimizer_spec_from_proto(request.optimizer)
        for group in self._run(session, lambda: self._model.describe_optimizer(optimizer)):
            yield pb.DescribeOptimizerResponse(group=serde.optimizer_group_to_proto(group))

    @_unary
    def ResetModel(self, request: pb.ResetModelRequest, context: Context) -> pb.ResetModelResponse:
        """Reset the model in the model thread."""
        session = self._sessions.get(request.session_id)
        self._run(session, self._model.reset)
        return pb.ResetModelResponse()

    # -- records: served by gRPC's own threads, also while the model runs -------------------------------------------
    @_streaming
    def ReadActivations(
        self, request_iterator: Iterator[pb.ReadActivationsRequest], context: Context
    ) -> Iterator[bytes]:
        """Answer queries one after the other, in this call's thread, also while the model runs."""
        with OpenRead(request_iterator, self._sessions, context) as read:
            for query in read.queries():
                streams = self._model.read_activations(list(query.ids))
                yield from read.answer(pb.ReadActivationsResponse, streams, query.offset, len(query.ids))

    @_unary
    def ReleaseActivations(
        self, request: pb.ReleaseActivationsRequest, context: Context
    ) -> pb.ReleaseActivationsResponse:
        """Release records, also while the model runs, which may be waiting for room."""
        session = self._sessions.get(request.session_id)
        self._model.release_activations(list(request.ids))
        session.releases.add()
        return pb.ReleaseActivationsResponse()

    @_unary
    def GetStoreFigures(self, request: pb.GetStoreFiguresRequest, context: Context) -> pb.GetStoreFiguresResponse:
        """Return how many bytes the store holds, also while the model runs."""
        self._sessions.get(request.session_id)
        return serde.store_figures_to_proto(self._model.store_figures())

    # -- work for the model thread ----------------------------------------------------------------------------------
    def _run(self, session: Session, job: Callable[[], T]) -> T:
        """Run a job of this session in the model thread, and return its result."""

        def checked() -> T:
            session.check()
            return job()

        return self._model_thread.submit(checked).result()

    def _step(
        self,
        session: Session,
        context: Context,
        messages: Iterator[Frame],
        respond: Callable[..., Any],
        run: Callable[[Mapping[str, Tensor], Observer | None], Any],
        tensor_count: int,
        observed: bool = True,
    ) -> Iterator[Any]:
        """Have the model thread receive the tensors of a step and run it; yield the responses meanwhile.

        Args:
            session: The call's session.
            context: The call.
            messages: Its requests after the header.
            respond: Class of its response message.
            run: Runs the step on the tensors, and returns the response with the result.
            tensor_count: How many tensors follow the header.
            observed: Whether boundaries are to be sent.
        """
        requests = Requests(messages)
        responses: Handover[Any] = Handover(BOUNDARY_DEPTH)
        releases = session.releases = ReleaseCounter()

        def give_back(ticket: int) -> None:
            responses.put(respond(returned=pb.ReturnedSlots(tickets=[ticket])))

        def produce(responses: Handover[Any]) -> None:
            incoming = TensorsIn(requests, incoming_of(session, give_back))
            observer = StepObserver(responses, respond, requests, incoming, session)
            tensors = incoming.receive(tensor_count)
            responses.put(run(tensors, observer if observed else None))

        with ending_with(context, session, requests, responses, releases):
            self._produce(responses, produce)
            yield from together(responses, respond, 0.0 if session.sync or session.shares else LINGER_S)

    def _produce(self, responses: Handover[T], produce: Callable[[Handover[T]], None]) -> None:
        """Have the model thread run `produce`, which puts responses into the queue.

        It does not start if the call or its session has ended by then.
        """

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
        """Have the model thread drop all that a session left: records, graph, optimisers, freed memory."""
        offered, session.offered, session.ring, session.reached = session.offered, None, None, None
        if offered is not None:
            offered.close()

        def job() -> None:
            try:
                self._model.reset()
            except Exception:
                log.exception("cleaning up after the session of %s failed", session.client)
            gc.collect()  # a call that was broken off leaves its error, which holds what it was reading, in a cycle
            give_back_freed_memory()

        log.info("session of %s ended", session.client)
        self._model_thread.submit(job)


def _offered_ring() -> OfferedRing | None:
    try:
        return OfferedRing()
    except OSError as err:
        log.debug("no memory to share: %s; tensors go through messages", err)
        return None


def _batches(first: Frame | None, requests: Iterator[Frame]) -> Iterator[Batch]:
    """Yield the batches of a write; the first message may have one too."""
    for frame in chain([] if first is None else [first], requests):
        if frame.batch is not None:
            yield frame.batch


def _abort_if_never_run(future: Any, responses: Handover[Any]) -> None:
    """Abort the queue of a job that the model thread did not run, because the worker ends."""
    error = future.exception()
    if isinstance(error, PadiffError):
        responses.abort(error)


def _abort(context: Context, error: Exception) -> None:
    """End the call with the status of an error.

    An error that is no PadiffError is a bug of ours: it goes into the log with its trace, and the peer gets INTERNAL.
    """
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
