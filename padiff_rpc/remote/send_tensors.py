"""Send tensors to a worker within a call: fed from the calling thread, through slots of the ring where there are any."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.remote.connection import Connection
from padiff_rpc.tensors.tensor import TensorStream
from padiff_rpc.wire.chunks import pack
from padiff_rpc.wire.handover import Handover
from padiff_rpc.wire.payload import encode
from padiff_rpc.wire.slots import Slot, Slots

log: logging.Logger = logging.getLogger(__name__)

REQUEST_DEPTH = 4
"""Messages of up to 1 MiB that may wait for a slow worker."""


class CallEnded(Exception):
    """The call ended before all requests were sent; its response side says why."""


class SendingCall:
    """A call with streams both ways: what is fed goes out as fast as the worker takes it. Iterating it gives the responses.

    `returned`: the tickets of slots in a response, by which the worker returns them.
    """

    def __init__(
        self,
        call: Any,
        requests: Handover[Any],
        slots: Slots | None,
        stream: int,
        returned: Callable[[Any], Iterable[int]],
    ) -> None:
        self._call = call
        self._requests = requests
        self._slots = slots
        self._stream = stream
        self._returned = returned
        self._early: deque[Any] = deque()  # responses that came while slots were waited for

    def feed(self, messages: Iterator[Any], *, last: bool) -> None:
        """Hand messages to gRPC's thread. When the call has ended already, its response side says why."""
        try:
            for message in messages:
                self._requests.put(message)
        except CallEnded:
            log.debug("a call ended while requests were still being sent")
        if last:
            self._requests.close()

    def batches(self, kind: Any, streams: Iterable[TensorStream]) -> Iterator[bytes]:
        """Pack tensors into messages of a kind."""
        for batch in pack(streams, None if self._slots is None else self):
            yield encode(kind(), batch)

    def take(self) -> Slot | None:
        """Give packing a slot; see SlotSource. While all of this call's own are with the worker, hear its responses."""
        assert self._slots is not None
        while True:
            slot = self._slots.take(self._stream)
            if slot is not None or not self._slots.held_by(self._stream):
                return slot
            response = next(self._call, None)
            if response is None:
                raise CallEnded
            self._take_back(response)
            self._early.append(response)

    def __iter__(self) -> Iterator[Any]:
        while self._early:
            yield self._early.popleft()
        for response in self._call:
            self._take_back(response)
            yield response

    def _take_back(self, response: Any) -> None:
        if self._slots is not None:
            self._slots.give_back(self._returned(response))


@contextmanager
def sending(
    connection: Connection, method: Any, slots: Slots | None, stream: int, returned: Callable[[Any], Iterable[int]]
) -> Iterator[SendingCall]:
    """Make a call; at the end of the `with` it is over, and its slots are free."""
    requests: Handover[Any] = Handover(REQUEST_DEPTH)
    try:
        with connection.streaming(method, _until_ended(requests)) as call, _ending_with(call, requests):
            yield SendingCall(call, requests, slots, stream, returned)
    finally:
        if slots is not None:
            slots.end(stream)


def no_result(address: str, what: str) -> PadiffError:
    return PadiffError(f"the worker at {address} ended {what} without a result", reason=Reason.DATA_LOSS)


def _until_ended(requests: Handover[Any]) -> Iterator[Any]:
    """Give gRPC's sending thread the requests; it must not see an exception, which it would log."""
    try:
        yield from requests
    except CallEnded:
        return


@contextmanager
def _ending_with(call: Any, requests: Handover[Any]) -> Iterator[None]:
    """Wake the sending and the feeding thread when the call ends, and end the call when the caller fails."""
    if not call.add_callback(lambda: requests.abort(CallEnded())):
        requests.abort(CallEnded())
    try:
        yield
    finally:
        requests.abort(CallEnded())
        call.cancel()
