"""One running step of a worker: its boundaries out to the coordinator, its substitutions in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Boundary
from padiff_rpc.tensor import Tensor, collect_all
from padiff_rpc.v1 import tensor_pb2
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.wire.chunks import streams_from_proto
from padiff_rpc.wire.handover import Handover
from padiff_rpc.wire.serde import boundary_to_proto
from padiff_servers.releases import Releases
from padiff_servers.session import Session

Message = Any  # ForwardRequest and BackwardRequest, ForwardResponse and BackwardResponse: alike but for the class

SUBSTITUTION_DEPTH = 8


class StepObserver:
    """Sends each boundary; in a synced step waits for the Substitution of each layer's, whether the model asks for it or not."""

    def __init__(
        self,
        responses: Handover[Message],
        respond: Callable[..., Message],
        substitutions: Handover[Message] | None,
        releases: Releases,
    ) -> None:
        self._responses = responses
        self._respond = respond
        self._substitutions = substitutions
        self._releases = releases
        self._seen_releases = 0
        self._latest: Mapping[str, Tensor] = {}

    def observe(self, boundary: Boundary) -> None:
        self._responses.put(self._respond(boundary=boundary_to_proto(boundary)))
        if self._substitutions is not None and not boundary.api:
            self._latest = receive_substitution(self._substitutions, boundary.seq)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        return self._latest

    def await_room(self, releases: int) -> bool:
        """Let the model try again after each release. Where none came since it last tried, say so and wait for one.

        Who drives knows whether there will be one, and ends the call if not. `releases` is not sent: it counts in the
        store, where one that crossed the beginning of the phase counts otherwise than here.
        """
        if self._releases.count == self._seen_releases:
            self._responses.put(self._respond(waiting=pb.Waiting(releases=self._seen_releases)))
        self._seen_releases = self._releases.wait(self._seen_releases)
        return True


def receive_substitution(messages: Iterator[Message], seq: int) -> dict[str, Tensor]:
    """Read the Substitution of boundary `seq` and its tensors; DATA_LOSS when something else comes."""
    substitution = receive(messages, "substitution").substitution
    if substitution.seq != seq:
        raise PadiffError(
            f"the substitution of boundary {substitution.seq} came where that of {seq} was due",
            reason=Reason.DATA_LOSS,
        )
    return receive_tensors(messages, substitution.tensor_count)


def receive(messages: Iterator[Message], kind: str) -> Message:
    """Take the next message of a step, which must be of this kind; DATA_LOSS otherwise."""
    message = next(messages, None)
    found = "the end of the stream" if message is None else message.WhichOneof("item")
    if message is None or found != kind:
        raise PadiffError(f"{found} came where a {kind} was due", reason=Reason.DATA_LOSS)
    return message


def receive_tensors(messages: Iterator[Message], count: int) -> dict[str, Tensor]:
    return collect_all(streams_from_proto(_chunks(messages), count))


@contextmanager
def ending_with(context: grpc.ServicerContext, session: Session, *places: Handover[Any] | Releases) -> Iterator[None]:
    """Abort what the model or a thread of the call may wait at when the call or the session ends."""

    def abort(error: PadiffError) -> None:
        for place in places:
            place.abort(error)

    gone = PadiffError("the coordinator ended the call, or its connection broke", reason=Reason.WORKER_UNREACHABLE)
    if not context.add_callback(lambda: abort(gone)):
        abort(gone)
    forget = session.on_end(abort)
    try:
        yield
    finally:
        forget()
        abort(gone)


def pump(messages: Iterator[Message], into: Handover[Message]) -> None:
    """Hand what the coordinator sends to the model thread, from a thread of its own."""
    threading.Thread(target=_pump, args=(messages, into), name="substitutions", daemon=True).start()


def _pump(messages: Iterator[Message], into: Handover[Message]) -> None:
    try:
        for message in messages:
            into.put(message)
    except (grpc.RpcError, PadiffError) as err:
        # The call was cancelled, or the step is over; ending_with() may have said so already.
        into.abort(err)
    else:
        into.close()


def _chunks(messages: Iterator[Message]) -> Iterator[tensor_pb2.TensorChunk]:
    while True:
        yield receive(messages, "chunk").chunk
