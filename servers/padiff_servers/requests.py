"""The messages that a coordinator sends within one call, read by whichever thread needs the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import Tensor, TensorStream, collect_all
from padiff_rpc.wire.chunks import Incoming, PieceReader, unpack
from padiff_rpc.wire.handover import Handover
from padiff_rpc.wire.payload import Batch, Frame
from padiff_servers.releases import ReleaseCounter
from padiff_servers.session import Session


class Requests:
    """Iterates over a call's messages, in a gRPC thread or in the model thread.

    ending_with() wakes the thread that iterates when the call or its session ends.

    Attributes:
        ended: Why the call or its session ended, which is raised at the end of the messages; None until then. If it is
            None when the call breaks off, WORKER_UNREACHABLE is raised.
    """

    def __init__(self, messages: Iterator[Frame]) -> None:
        self._messages = messages
        self.ended: PadiffError | None = None

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        try:
            return next(self._messages)
        except StopIteration:
            if self.ended is not None:
                raise self.ended from None
            raise
        except grpc.RpcError as err:
            raise (self.ended or gone()) from err


def receive(messages: Iterator[Frame], kind: str) -> Any:
    """Return the content of the next message of a step: its batch as a Batch, any other item as its protobuf message.

    Args:
        messages: The call's messages.
        kind: Name of the item that the message must have: "header", "substitution" or "batch".

    Raises:
        PadiffError: DATA_LOSS if another item comes, or none.
    """
    frame = next(messages, None)
    found = "the end of the stream" if frame is None else _kind_of(frame)
    if frame is None or found != kind:
        raise PadiffError(f"{found} came where a {kind} was due", reason=Reason.DATA_LOSS)
    return frame.batch if frame.batch is not None else getattr(frame.message, kind)


class TensorsIn:
    """Receives the tensors of a step.

    Args:
        messages: The call's messages.
        incoming: Access to the session's ring; None if it has none.
    """

    def __init__(self, messages: Iterator[Frame], incoming: Incoming | None) -> None:
        self._messages = messages
        self._incoming = incoming
        self._buffers: list[bytearray] = []

    def receive(self, count: int, *, reuse: bool = False) -> dict[str, Tensor]:
        """Read the next `count` tensors, and return them by name, in the order they came.

        With `reuse` they lie in memory that the next call of this method uses again. Otherwise they have memory of
        their own.

        Raises:
            PadiffError: DATA_LOSS if anything else comes, or a tensor is short or long; BAD_TENSOR if one is above the
                limit.
        """
        streams = unpack(PieceReader(self._batches(), self._incoming), count)
        if not reuse:
            return collect_all(streams)
        # Touching fresh memory costs ten times the copy, and a run's substitutes have the same few sizes.
        return {stream.name: self._collect(number, stream) for number, stream in enumerate(streams)}

    def _collect(self, number: int, stream: TensorStream) -> Tensor:
        size_bytes = stream.spec.size_bytes
        if number == len(self._buffers):
            self._buffers.append(bytearray())
        if len(self._buffers[number]) < size_bytes:
            self._buffers[number] = bytearray(size_bytes)
        return stream.collect(memoryview(self._buffers[number])[:size_bytes])

    def _batches(self) -> Iterator[Batch]:
        while True:
            yield receive(self._messages, "batch")


@contextmanager
def ending_with(
    context: grpc.ServicerContext, session: Session, requests: Requests, *places: Handover[Any] | ReleaseCounter
) -> Iterator[None]:
    """Abort all that waits on behalf of a call, when the call, its session or the `with` ends.

    Args:
        context: The call.
        session: Its session.
        requests: The call's messages, whose `ended` is set to the error.
        *places: Queues and counters at which the model thread or a thread of the call may wait.
    """

    def abort(error: PadiffError) -> None:
        requests.ended = requests.ended or error
        for place in places:
            place.abort(error)

    if not context.add_callback(lambda: abort(gone())):
        abort(gone())
    forget = session.on_end(abort)
    try:
        yield
    finally:
        forget()
        abort(gone())


def incoming_of(session: Session, give_back: Callable[[int], None]) -> Incoming | None:
    """Return the access to a session's ring that unpacking needs; None if the session has no ring.

    Args:
        session: The session.
        give_back: Tells the coordinator that the slot of this ticket was read.
    """
    return None if session.ring is None else Incoming(session.ring.incoming, give_back)


def _kind_of(frame: Frame) -> str:
    return "batch" if frame.batch is not None else frame.message.WhichOneof("item")


def gone() -> PadiffError:
    """Make the error for a call whose client, the coordinator, has ended it or is gone; the reason is WORKER_UNREACHABLE.

    It ends the model's step in this worker, and nobody receives it.
    """
    return PadiffError("the coordinator ended the call, or its connection broke", reason=Reason.WORKER_UNREACHABLE)
