"""Send tensors to a worker within a call.

The calling thread feeds the call; tensors go through slots of the shared ring if there is one.
"""

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
"""How many messages, of up to 1 MiB, may wait for a slow worker."""


class CallEnded(Exception):
    """The call ended before all requests were sent; its response side says why."""


class SendingCall:
    """A bidirectional gRPC call that sends tensors. Iterating it gives the responses.

    Sending waits while too many requests are pending, and while no slot of the ring (memory that worker and coordinator share)
    is free; responses that come meanwhile are kept for whoever iterates.

    Args:
        call: gRPC's call, an iterator of responses.
        requests: The queue from which gRPC takes the call's requests.
        slots: The ring's slots that this side fills; None sends all bytes in messages.
        stream: The number that the caller gives the call; slots in use are booked under it.
        returned: Reads from a response the numbers of the slots that the worker has read and returns.
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
        """Hand messages to gRPC's thread, waiting while REQUEST_DEPTH of them are pending.

        If the call has ended already, this returns without an error: the responses say why.

        Args:
            messages: Serialised requests, taken one by one.
            last: Whether no further request follows.
        """
        try:
            for message in messages:
                self._requests.put(message)
        except CallEnded:
            log.debug("a call ended while requests were still being sent")
        if last:
            self._requests.close()

    def batches(self, kind: Any, streams: Iterable[TensorStream]) -> Iterator[bytes]:
        """Pack tensors into serialised messages.

        Args:
            kind: Class of the protobuf message, which has a field `batch`.
            streams: The tensors, in order.
        """
        for batch in pack(streams, None if self._slots is None else self):
            yield encode(kind(), batch)

    def take(self) -> Slot | None:
        """Give packing a slot, as SlotSource does.

        While the worker has all slots of this call, its responses are read, to be given to the caller later.

        Raises:
            CallEnded: If the call ended meanwhile.
        """
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
        """Yield the responses in the order they came, after taking back the slots that each returns."""
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
    """Make a call with streams both ways. At the end of the `with` it is over, and its slots are free.

    Args:
        connection: The connection to the worker.
        method: The stub's method.
        slots: The ring's slots that this side fills; None sends all bytes in messages.
        stream: The call's number in the session.
        returned: Reads from a response the tickets of the slots that the worker returns with it.
    """
    requests: Handover[Any] = Handover(REQUEST_DEPTH)
    try:
        with connection.streaming(method, _until_ended(requests)) as call, _ending_with(call, requests):
            yield SendingCall(call, requests, slots, stream, returned)
    finally:
        if slots is not None:
            slots.end(stream)


def no_result(address: str, what: str) -> PadiffError:
    """Make the DATA_LOSS error for a call that ended without its result. `what` names the call, such as `a step`."""
    return PadiffError(f"the worker at {address} ended {what} without a result", reason=Reason.DATA_LOSS)


def _until_ended(requests: Handover[Any]) -> Iterator[Any]:
    """Yield the requests to gRPC's sending thread, which must not see an exception: it would log it."""
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
