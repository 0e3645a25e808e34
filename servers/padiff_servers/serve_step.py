"""One running step of a worker: boundaries go out to the coordinator, substitutions come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Boundary
from padiff_rpc.tensors.tensor import CHUNK_BYTES, Tensor
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.wire.handover import Handover
from padiff_rpc.wire.payload import Frame
from padiff_rpc.wire.serde import boundary_to_proto, place_from_proto, tensor_spec_from_proto
from padiff_servers.requests import TensorsIn, receive
from padiff_servers.session import Session

Message = Any
"""A ForwardResponse or BackwardResponse, which are alike but for the class."""


def together(responses: Handover[Any], respond: Callable[..., Message], linger_s: float) -> Iterator[Message]:
    """Yield responses as they come, with boundaries that follow each other within about `linger_s` seconds in one message.

    Args:
        responses: Boundaries, and responses that are ready to be sent.
        respond: Class of the call's response message.
        linger_s: How long a boundary waits for others. A message ends at about CHUNK_BYTES.
    """
    for items in responses.batches(linger_s):
        response, size_bytes = respond(), 0
        for item in items:
            if size_bytes and (not isinstance(item, Boundary) or size_bytes >= CHUNK_BYTES):
                yield response
                response, size_bytes = respond(), 0
            if isinstance(item, Boundary):
                size_bytes += boundary_to_proto(item, response.boundaries.boundaries.add()).ByteSize()
            else:
                yield item
        if size_bytes:
            yield response


class StepObserver:
    """The model's observer in a worker: it puts each boundary among the responses, to be sent.

    In a synced step it then waits for a Substitution after each layer's boundary, whether or not substitute() is
    called.

    Args:
        responses: The queue of what is to be sent.
        respond: Class of the call's response message.
        requests: The call's messages.
        tensors: Receives the tensors of substitutions.
        session: The call's session.
    """

    def __init__(
        self,
        responses: Handover[Message],
        respond: Callable[..., Message],
        requests: Iterator[Frame],
        tensors: TensorsIn,
        session: Session,
    ) -> None:
        self._responses = responses
        self._respond = respond
        self._requests = requests
        self._tensors = tensors
        self._session = session
        self._sync = session.sync
        self._shares = session.shares
        self._releases = session.releases
        self._seen_releases = 0
        self._latest: Mapping[str, Tensor] = {}

    def observe(self, boundary: Boundary) -> None:
        """Queue the boundary to be sent. In a synced step, and at a draw that is shared, wait for the layer's Substitution."""
        self._responses.put(boundary)
        if self._shares if boundary.draw else self._sync and not boundary.api:
            self._latest = self._receive(boundary.seq)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Return the tensors that came for this boundary. Their memory is used again at the next one."""
        return self._latest

    def await_room(self, releases: int) -> bool:
        """Return True when the model may try again, after a release. If none came since it last tried, send Waiting and wait.

        The coordinator knows whether there will be a release, and ends the call if not. `releases` is not used: it
        counts calls at the store, where one that crossed the beginning of the phase counts otherwise than here.
        """
        if self._releases.count == self._seen_releases:
            self._responses.put(self._respond(waiting=pb.Waiting(releases=self._seen_releases)))
        self._seen_releases = self._releases.wait(self._seen_releases)
        return True

    def _receive(self, seq: int) -> dict[str, Tensor]:
        """Read the Substitution of boundary `seq` and its tensors; DATA_LOSS if anything else comes."""
        substitution = receive(self._requests, "substitution")
        if substitution.seq != seq:
            raise PadiffError(
                f"the substitution of boundary {substitution.seq} came where that of {seq} was due",
                reason=Reason.DATA_LOSS,
            )
        tensors = self._tensors.receive(substitution.tensor_count, reuse=True)
        return tensors | {placed.name: self._reach(placed) for placed in substitution.placed}

    def _reach(self, placed: pb.PlacedTensor) -> Tensor:
        store = self._session.reached
        if store is None:
            raise PadiffError("a tensor lies in a store that this worker has not reached", reason=Reason.DATA_LOSS)
        spec, place = tensor_spec_from_proto(placed.spec), place_from_proto(placed.place)
        if not store.holds(place):
            raise PadiffError(
                "a tensor's place in the store that was reached is another's now", reason=Reason.DATA_LOSS
            )
        store.was_read(spec.size_bytes)  # before this is read: pages that were read before may go, these may stay
        return Tensor(spec, store.view(place.offset, spec.size_bytes))
