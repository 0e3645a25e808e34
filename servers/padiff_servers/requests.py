"""What a coordinator sends within one call: its messages, heard by whichever thread needs the next."""

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
    """An iterator of a call's Frames. The model thread may take them too: it is woken when the call or its session ends."""

    def __init__(self, messages: Iterator[Frame]) -> None:
        self._messages = messages
        self.ended: PadiffError | None = None  # why nothing more is to be had

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
    """Take the next message of a step, which must be of this kind; DATA_LOSS otherwise. A batch comes as a Batch."""
    frame = next(messages, None)
    found = "the end of the stream" if frame is None else _kind_of(frame)
    if frame is None or found != kind:
        raise PadiffError(f"{found} came where a {kind} was due", reason=Reason.DATA_LOSS)
    return frame.batch if frame.batch is not None else getattr(frame.message, kind)


class TensorsIn:
    """Receives the tensors of a step, into buffers that each receive() uses anew where `reuse` is asked for."""

    def __init__(self, messages: Iterator[Frame], incoming: Incoming | None) -> None:
        self._messages = messages
        self._incoming = incoming
        self._buffers: list[bytearray] = []

    def receive(self, count: int, *, reuse: bool = False) -> dict[str, Tensor]:
        """Collect so many tensors. With `reuse` they hold only until the next receive()."""
        streams = unpack(PieceReader(self._batches(), self._incoming), count)
        if not reuse:
            return collect_all(streams)
        # Touching fresh memory costs ten times the copy, and what a run substitutes is of the same few sizes.
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
    """Abort what the model or a thread of the call may wait at when the call or the session ends; requests then say why."""

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
    """Return what unpacking needs of a session's ring; None where it has none."""
    return None if session.ring is None else Incoming(session.ring.incoming, give_back)


def _kind_of(frame: Frame) -> str:
    return "batch" if frame.batch is not None else frame.message.WhichOneof("item")


def gone() -> PadiffError:
    return PadiffError("the coordinator ended the call, or its connection broke", reason=Reason.WORKER_UNREACHABLE)
