"""One running step of a worker: its boundaries out to the coordinator, its substitutions in."""

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

Message = Any  # ForwardResponse and BackwardResponse: alike but for the class


def together(responses: Handover[Any], respond: Callable[..., Message], linger_s: float) -> Iterator[Message]:
    """Give responses as they come, boundaries that follow each other within about `linger_s` in one message."""
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
    """Puts each boundary among the responses; in a synced step waits for each layer's Substitution, asked for or not."""

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
        self._releases = session.releases
        self._seen_releases = 0
        self._latest: Mapping[str, Tensor] = {}

    def observe(self, boundary: Boundary) -> None:
        self._responses.put(boundary)
        if self._sync and not boundary.api:
            self._latest = self._receive(boundary.seq)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        """Return what came for this boundary; its memory is used anew at the next."""
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

    def _receive(self, seq: int) -> dict[str, Tensor]:
        """Read the Substitution of boundary `seq` and its tensors; DATA_LOSS when something else comes."""
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
        store.was_read(spec.size_bytes)  # before it is read: what was read before may go, this may stay
        return Tensor(spec, store.view(place.offset, spec.size_bytes))
