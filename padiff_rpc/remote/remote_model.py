"""RemoteModel: the Model protocol over gRPC, for a model in a worker process."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from sys import intern
from types import TracebackType
from typing import Any, Literal

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.inputs_as_json import inputs_to_json
from padiff_rpc.model.model import (
    BackwardResult,
    Boundary,
    Copies,
    ForwardRequest,
    ForwardResult,
    LossSpec,
    ModelDescription,
    ModelInfo,
    Observer,
    OptimizerGroup,
    OptimizerSpec,
    Releasing,
    StoreFigures,
    What,
)
from padiff_rpc.model.replaying import ReplayRequest, ReplayResult
from padiff_rpc.model.store.store import store_full
from padiff_rpc.remote.connection import CALL_TIMEOUT_S, Connection
from padiff_rpc.remote.placed import PlacedRecords
from padiff_rpc.remote.read_tensors import Readers, stream_numbers
from padiff_rpc.remote.send_tensors import SendingCall, no_result, sending
from padiff_rpc.tensors.tensor import Digest, Statistics, Tensor, TensorStream
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.wire import serde
from padiff_rpc.wire.methods import TARGET_PREFIX
from padiff_rpc.wire.retry import RETRY_S, retry_idempotent
from padiff_rpc.wire.ring import Ring
from padiff_rpc.wire.shared_store import PlacedTensor, SharedStore
from padiff_rpc.wire.slots import Slots

log: logging.Logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 5.0


class RemoteModel:
    """A model in a worker, under a session that this object holds until close(). launch() and connect() make it.

    It is a context manager. A thread of its own renews the session's lease. Calls that read, and release_activations(),
    are repeated for RETRY_S seconds while the worker cannot be reached; others are made once. Any method raises the
    PadiffError that the worker reports, and WORKER_UNREACHABLE, WORKER_DIED (of a launched worker) or SESSION_EXPIRED.

    Args:
        connection: The connection to the worker, which close() closes.
        info: Where the model runs, as the worker told it.
        session_id: The session that was opened.
        lease_s: For how many seconds the worker keeps the session without hearing of it.
        after_close: Runs once at the end; launch() ends its worker there.
        ring: Memory shared with the worker, through which tensors then move; None moves them in messages.
        store: The worker's store, if its records can be read in place.
    """

    def __init__(
        self,
        connection: Connection,
        info: ModelInfo,
        session_id: str,
        lease_s: float,
        after_close: Callable[[], None] = lambda: None,
        ring: Ring | None = None,
        store: SharedStore | None = None,
    ) -> None:
        self._connection = connection
        self._stub = connection.stub
        self._info = info
        self._session_id = session_id
        self._after_close = after_close
        self._transport: Literal["shared memory", "streams"] = "streams" if ring is None else "shared memory"
        self._slots = None if ring is None else Slots(ring.to_worker)
        self._numbers = stream_numbers()
        region = None if ring is None else ring.to_coordinator
        stub, numbers = self._stub, self._numbers
        self._records = Readers(
            connection, stub.ReadActivations, session_id, pb.ReadActivationsRequest, region, numbers
        )
        self._parameters = Readers(
            connection, stub.ReadParameters, session_id, pb.ReadParametersRequest, region, numbers
        )
        self._placed = PlacedRecords(store, self._have_released)
        self._asked_for: SharedStore | None = None  # the store that the worker was last asked to reach
        self._reaches = False  # and whether it can
        self._sync = False  # whether the last forward was synced, which its backward follows
        self._shares = False  # whether it took draws
        self._closing = threading.Event()
        self._close_lock = threading.Lock()
        self._renewing = threading.Thread(target=self._renew, args=(lease_s / 3,), name="lease", daemon=True)
        self._renewing.start()
        # A script that ends without close() must not leave the worker taken until the lease runs out.
        atexit.register(self.close)

    @property
    def address(self) -> str:
        """The worker's address: `grpc://host:port` or `unix:path`."""
        return self._connection.address

    @property
    def transport(self) -> Literal["shared memory", "streams"]:
        """How tensors move between this process and the worker's."""
        return self._transport

    def info(self) -> ModelInfo:
        """Return where the model runs, as the worker told it when the session was opened. Makes no call."""
        return self._info

    def describe(self) -> ModelDescription:
        """Ask the worker for the layer tree, the parameters and the buffers."""

        def call() -> ModelDescription:
            request = pb.DescribeModelRequest(session_id=self._session_id)
            with self._connection.streaming(self._stub.DescribeModel, request) as responses:
                return serde.description_from_proto(response.part for response in responses)

        return retry_idempotent(call, RETRY_S)

    def checkpoint_statements(self) -> tuple[str, ...]:
        """Ask the worker for the AOA statements of the model's class; an older worker has none."""

        def call() -> tuple[str, ...]:
            request = pb.DescribeModelRequest(session_id=self._session_id, statements=True)
            with self._connection.streaming(self._stub.DescribeModel, request) as responses:
                return serde.statements_from_proto(responses)

        return retry_idempotent(call, RETRY_S)

    # -- parameters ---------------------------------------------------------------------------------------------------
    def read_parameters(
        self, names: Sequence[str], what: What = "value", transposed: Collection[str] = ()
    ) -> Iterator[TensorStream]:
        """Stream tensors from the worker, as Model does; the read resumes where a connection broke."""

        def query(first: int, offset: int) -> pb.ParametersQuery:
            left = names[first:]
            turned = [name for name in dict.fromkeys(left) if name in transposed]
            return pb.ParametersQuery(names=left, what=serde.what_to_proto(what), transposed=turned, offset=offset)

        return self._parameters.read(names, query)

    def digest_parameters(
        self,
        names: Sequence[str],
        what: What = "value",
        transposed: Collection[str] = (),
        statistics: Statistics = Statistics.ALL,
    ) -> dict[str, Digest]:
        """Have the worker summarise tensors, as Model does; only the digests travel."""
        request = pb.DigestParametersRequest(
            session_id=self._session_id,
            names=names,
            what=serde.what_to_proto(what),
            transposed=transposed,
            statistics=serde.statistics_to_proto(statistics),
        )

        def call() -> dict[str, Digest]:
            with self._connection.streaming(self._stub.DigestParameters, request) as responses:
                return {intern(response.name): serde.digest_from_proto(response.digest) for response in responses}

        return retry_idempotent(call, RETRY_S)

    def write_parameters(self, tensors: Iterable[TensorStream]) -> None:
        """Send tensors to the worker, as Model does. Never repeated.

        `tensors` is iterated in the calling thread, as fast as the worker takes them.
        """
        number = next(self._numbers)
        method = self._stub.WriteParameters
        with sending(self._connection, method, self._slots, number, lambda item: item.returned_tickets) as call:
            call.feed(self._write_requests(call, pb.WriteParametersRequest, tensors), last=True)
            for _ in call:
                pass

    def write_gradients(self, tensors: Iterable[TensorStream]) -> tuple[str, ...]:
        """Send gradients to the worker, as TakingGradients does. Never repeated."""
        number = next(self._numbers)
        method = self._stub.WriteGradients
        written: tuple[str, ...] = ()
        try:
            with sending(self._connection, method, self._slots, number, lambda item: item.returned_tickets) as call:
                call.feed(self._write_requests(call, pb.WriteGradientsRequest, tensors), last=True)
                for response in call:
                    written = tuple(map(intern, response.written)) or written
        except PadiffError as err:
            if err.reason is not Reason.VERSION_MISMATCH:
                raise
        return written

    def _write_requests(self, call: SendingCall, kind: Any, tensors: Iterable[TensorStream]) -> Iterator[bytes]:
        yield kind(session_id=self._session_id).SerializeToString()
        yield from call.batches(kind, tensors)

    # -- a step -------------------------------------------------------------------------------------------------------
    def forward(self, request: ForwardRequest, observer: Observer | None = None) -> ForwardResult:
        """Run forward in the worker, as Model does. The observer is called in this thread, while the worker runs.

        Raises:
            PadiffError: BAD_CONFIG if the run is synced and has no observer.
            PadiffError: STORE_FULL if the worker's store is full and the observer says that no record will be released.
        """
        self._sync = request.record is not None and request.record.sync
        self._shares = request.record is not None and request.record.share_draws
        answers = self._sync or self._shares
        if answers and observer is None:
            raise PadiffError("a synced run needs an observer", reason=Reason.BAD_CONFIG)
        text, tensors = inputs_to_json(request.inputs)
        header = serde.forward_header_to_proto(self._session_id, request, text, len(tensors), observer is not None)
        self._placed.forget()
        response = self._step(self._stub.Forward, pb.ForwardRequest, header, tensors, observer, answers)
        result = serde.forward_result_from_proto(response)
        if observer is None:  # one was told of them, and may have released them
            self._placed.note(result.outputs)
        return result

    def backward(self, loss: LossSpec, observer: Observer | None = None) -> BackwardResult:
        """Run the loss and backward in the worker, as Model does. The observer is called in this thread, while the worker runs.

        Raises:
            PadiffError: BAD_CONFIG if the forward was synced and there is no observer.
            PadiffError: STORE_FULL if the worker's store is full and the observer says that no record will be released.
        """
        if self._sync and observer is None:
            raise PadiffError("the backward of a synced forward needs an observer", reason=Reason.BAD_CONFIG)
        header = pb.BackwardHeader(
            session_id=self._session_id,
            loss=serde.loss_spec_to_proto(loss),
            tensor_count=len(loss.targets),
            observed=observer is not None,
        )
        result = self._step(self._stub.Backward, pb.BackwardRequest, header, loss.targets, observer, self._sync)
        return serde.backward_result_from_proto(result)

    def replay(self, request: ReplayRequest) -> ReplayResult:
        """Have the worker run one layer alone, as Replaying says. Never repeated.

        Raises:
            PadiffError: VERSION_MISMATCH from a worker that is too old for it.
        """
        self._sync = False  # the step that may have been synced loses its graph
        text, tensors = inputs_to_json(request.forward.inputs)
        tensors |= serde.given_to_wire(request)
        header = serde.replay_header_to_proto(self._session_id, request, text, len(tensors))
        heard = _Heard()
        try:
            response = self._step(self._stub.ReplayLayer, pb.ReplayLayerRequest, header, tensors, heard)
        except PadiffError as err:
            if err.reason is not Reason.VERSION_MISMATCH:
                raise
            raise PadiffError(
                f"the worker at {self.address} runs padiff-rpc {self._info.padiff_version}, which cannot replay a layer",
                reason=Reason.VERSION_MISMATCH,
                hint=err.hint,
                metadata=err.metadata,
            ) from err
        result = serde.replay_result_from_proto(response, heard.boundaries)
        self._placed.note(result.parameters)
        return result

    def measure_floor(self, request: ForwardRequest, loss: LossSpec | None) -> None:
        """Have the worker measure the next step's floor, as Flooring says.

        Raises:
            PadiffError: VERSION_MISMATCH if the worker is older than this call.
        """
        self._sync = False
        text, tensors = inputs_to_json(request.inputs)
        tensors |= {f"{TARGET_PREFIX}{name}": tensor for name, tensor in (loss.targets if loss else {}).items()}
        header = serde.measure_floor_header_to_proto(self._session_id, request, text, len(tensors), loss)
        self._placed.forget()
        self._step(self._stub.MeasureFloor, pb.MeasureFloorRequest, header, tensors, None)

    def work_on(self, copies: Copies | None) -> None:
        """Have the worker go over to copies, or back, as Lending says."""
        self._placed.forget()
        request = pb.WorkOnCopiesRequest(session_id=self._session_id, copies=copies or "")
        self._connection.unary(self._stub.WorkOnCopies, request)

    def _step(
        self,
        method: Any,
        make: Callable[..., Any],
        header: Any,
        tensors: Mapping[str, Tensor],
        observer: Observer | None,
        answers: bool = False,
    ) -> Any:
        """Send header and tensors, serve the observer in this thread, and return the result message."""
        number = next(self._numbers)
        with sending(self._connection, method, self._slots, number, lambda item: item.returned.tickets) as call:
            call.feed(_messages(call, make, make(header=header), tensors), last=not answers)
            for response in call:
                item = response.WhichOneof("item")
                if item == "result":
                    return response.result
                if item == "waiting":
                    self._await_room(observer, response.waiting.releases)
                if item != "boundaries" or observer is None:
                    continue
                for boundary in map(serde.boundary_from_proto, response.boundaries.boundaries):
                    self._placed.note(boundary.records)
                    observer.observe(boundary)
                    if self._shares if boundary.draw else self._sync and not boundary.api:
                        substitution, sent = self._substitution(boundary.seq, observer.substitute(boundary))
                        call.feed(_messages(call, make, make(substitution=substitution), sent), last=False)
        raise no_result(self.address, "a step")

    def _substitution(self, seq: int, values: Mapping[str, Tensor]) -> tuple[pb.Substitution, dict[str, Tensor]]:
        """Make the answer to a boundary, and return it with the tensors that have to be sent after it."""
        sent: dict[str, Tensor] = {}
        placed: list[pb.PlacedTensor] = []
        stores = {value.store for value in values.values() if isinstance(value, PlacedTensor)}
        reaches = len(stores) == 1 and self._can_reach(*stores)  # a worker reaches one at a time
        for name, value in values.items():
            if isinstance(value, PlacedTensor) and reaches:
                spec = serde.tensor_spec_to_proto(value.spec)
                placed.append(pb.PlacedTensor(name=name, spec=spec, place=serde.place_to_proto(value.place)))
            else:
                sent[name] = value
        return pb.Substitution(seq=seq, tensor_count=len(sent), placed=placed), sent

    def _can_reach(self, store: SharedStore) -> bool:
        """Tell whether the worker, too, can read that store in place. It is asked once per store."""
        if self._slots is None:
            return False  # tensors are to go through messages
        if self._asked_for is not store:
            offer = serde.store_offer_to_proto(store.offer)
            request = pb.ReachStoreRequest(session_id=self._session_id, store=offer)
            try:
                self._reaches = retry_idempotent(
                    lambda: self._connection.unary(self._stub.ReachStore, request, CALL_TIMEOUT_S).reached, RETRY_S
                )
            except PadiffError as err:
                if err.reason is not Reason.VERSION_MISMATCH:
                    raise
                self._reaches = False  # an older worker does not know the call
            self._asked_for = store
        return self._reaches

    def _await_room(self, observer: Observer | None, releases: int) -> None:
        """Wait until the worker, whose store is full, can go on.

        Raises STORE_FULL, which ends the call, if it never will.
        """
        if not isinstance(observer, Releasing) or not observer.await_room(releases):
            memory, disk = self._info.store_memory_bytes, self._info.store_disk_bytes
            raise store_full(
                f"the worker at {self.address} has no room for what it records: {memory} bytes of memory and {disk} bytes "
                "of disk are taken by records, and none of them will be released",
                memory,
                disk,
            )

    def optimizer_step(self, optimizer: OptimizerSpec) -> None:
        """Have the worker apply one optimiser step, as Model does."""
        request = pb.OptimizerStepRequest(
            session_id=self._session_id, optimizer=serde.optimizer_spec_to_proto(optimizer)
        )
        self._connection.unary(self._stub.OptimizerStep, request)

    def describe_optimizer(self, optimizer: OptimizerSpec) -> tuple[OptimizerGroup, ...]:
        """Ask the worker for an optimiser's hyper-parameters, as DescribingOptimizers does."""
        request = pb.DescribeOptimizerRequest(
            session_id=self._session_id, optimizer=serde.optimizer_spec_to_proto(optimizer)
        )

        def call() -> tuple[OptimizerGroup, ...]:
            with self._connection.streaming(self._stub.DescribeOptimizer, request) as responses:
                return tuple(serde.optimizer_group_from_proto(response.group) for response in responses)

        try:
            return retry_idempotent(call, RETRY_S)
        except PadiffError as err:
            if err.reason is not Reason.VERSION_MISMATCH:
                raise
            return ()

    def reset(self) -> None:
        """Have the worker drop records, graph, gradients and optimisers, as Model does."""
        self._placed.forget()
        self._connection.unary(self._stub.ResetModel, pb.ResetModelRequest(session_id=self._session_id))

    # -- records ------------------------------------------------------------------------------------------------------
    def read_activations(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        """Stream records, as Model does: in place if their memory is shared, otherwise from the worker."""
        placed = self._placed  # close() may put another in its place
        if placed.has(ids):
            return placed.read(ids)

        def query(first: int, offset: int) -> pb.RecordsQuery:
            return pb.RecordsQuery(ids=ids[first:], offset=offset)

        return self._records.read([str(identifier) for identifier in ids], query)

    def release_activations(self, ids: Sequence[int]) -> None:
        """Have the worker forget records, as Model does; a record that is being read goes after its last read."""
        self._placed.release(ids)

    def _have_released(self, ids: Sequence[int]) -> None:
        request = pb.ReleaseActivationsRequest(session_id=self._session_id, ids=ids)
        retry_idempotent(
            lambda: self._connection.unary(self._stub.ReleaseActivations, request, CALL_TIMEOUT_S), RETRY_S
        )

    def store_figures(self) -> StoreFigures:
        """Return how many bytes the worker's store holds, and has held at most since reset()."""
        request = pb.GetStoreFiguresRequest(session_id=self._session_id)
        return retry_idempotent(
            lambda: serde.store_figures_from_proto(
                self._connection.unary(self._stub.GetStoreFigures, request, CALL_TIMEOUT_S)
            ),
            RETRY_S,
        )

    # -- the session --------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """End the session and, if it was launched, the worker. Idempotent.

        A worker that is gone already is no error. Records and parameters cannot be read afterwards.
        """
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
            for readers in (self._records, self._parameters):
                readers.close()
            self._slots = self._asked_for = None
            self._placed = PlacedRecords(None, self._have_released)
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


class _Heard:
    """Keeps the boundaries of a replay, as an observer."""

    def __init__(self) -> None:
        self.boundaries: list[Boundary] = []

    def observe(self, boundary: Boundary) -> None:
        """Keep a boundary."""
        self.boundaries.append(boundary)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Replace nothing."""
        return {}


def _messages(
    call: SendingCall, make: Callable[..., Any], first: Any, tensors: Mapping[str, Tensor]
) -> Iterator[bytes]:
    yield first.SerializeToString()
    yield from call.batches(make, (tensor.stream(name) for name, tensor in tensors.items()))
