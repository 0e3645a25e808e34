"""One open read of a worker: queries and returned slots come in, batches go out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc

from padiff_rpc.errors import PadiffError
from padiff_rpc.tensors.tensor import TensorStream
from padiff_rpc.wire.chunks import pack
from padiff_rpc.wire.handover import Handover
from padiff_rpc.wire.payload import encode
from padiff_rpc.wire.slots import Slot
from padiff_servers.requests import gone
from padiff_servers.session import Session, Sessions


class OpenRead:
    """A call of ReadParameters or ReadActivations. Its requests are read by whichever thread makes its answers.

    Nobody else has a use for them. It is a SlotSource for packing, and a context manager: within the `with` the call
    ends with its session.

    Args:
        requests: The call's requests.
        sessions: Finds the session that a request names.
        context: The call.
    """

    def __init__(self, requests: Iterator[Any], sessions: Sessions, context: grpc.ServicerContext) -> None:
        self._requests = requests
        self._sessions = sessions
        self._context = context
        self._queries: deque[Any] = deque()
        self._session: Session | None = None
        self._stream = 0
        self._ended: PadiffError | None = None
        self._idle = False
        self._handover: Handover[Any] | None = None
        self._forget: Callable[[], None] = lambda: None

    def __enter__(self) -> OpenRead:
        return self

    def __exit__(self, *_: object) -> None:
        self._idle = False
        self._forget()
        self._abort(gone())

    @property
    def session(self) -> Session:
        """The session that the first request named. There must have been one."""
        assert self._session is not None
        return self._session

    def queries(self) -> Iterator[Any]:
        """Yield one query after the other, until the coordinator ends the call or the session ends."""
        while True:
            self._idle = not self._queries
            while not self._queries:
                if not self._hear():
                    return
            self._idle = False
            yield self._queries.popleft()

    def answer(self, respond: Any, streams: Iterable[TensorStream], offset: int, count: int) -> Iterator[bytes]:
        """Yield the serialised messages of one answer. The last of them has `last` set.

        Args:
            respond: Class of the call's response message.
            streams: The tensors to send.
            offset: How many bytes to leave out at the front of the first tensor.
            count: How many tensors there are, at most.

        Raises:
            PadiffError: The error with which the call or its session ended, if it did.
        """
        slots = None if self._stream == 0 or self.session.ring is None else self
        last = False
        for batch in pack(streams, slots, offset, count):
            self.check()
            last = batch.last
            yield encode(respond(last=last), batch)
        if not last:
            yield respond(last=True).SerializeToString()

    def take(self) -> Slot | None:
        """Return a free slot of the ring, as SlotSource does.

        If none is free and this stream holds some, wait until its reader returns one. Return None if it holds none
        either, or if the session has no ring.

        Raises:
            PadiffError: The error with which the call or its session ended meanwhile.
        """
        ring = self.session.ring
        while ring is not None:
            slot = ring.slots.take(self._stream)
            if slot is not None:
                return slot
            if not ring.slots.held_by(self._stream):
                return None
            if not self._hear():
                raise self._ended or gone()
        return None

    def ends(self, handover: Handover[Any]) -> None:
        """Abort this queue, and so whichever thread waits at it, when the call or its session ends."""
        self._handover = handover
        if self._ended is not None:
            handover.abort(self._ended)

    def check(self) -> None:
        """Raise the error with which the call or its session ended, if it did."""
        if self._ended is not None:
            raise self._ended

    def _hear(self) -> bool:
        """Read the next request, and take back the slots that it returns; False if there is none."""
        request = next(self._requests, None)
        if request is None:
            return False
        session = self._sessions.get(request.session_id)
        if self._session is None:
            self._begin(session, request.ring.stream)
        if session.ring is not None:
            session.ring.slots.give_back(request.ring.returned_tickets)
            for stream in request.ring.ended_streams:
                session.ring.slots.end(stream)
        if request.HasField("query"):
            self._queries.append(request.query)
        return True

    def _begin(self, session: Session, stream: int) -> None:
        self._session, self._stream = session, stream
        self._forget = session.on_end(self._abort)
        if not self._context.add_callback(lambda: self._abort(gone())):
            self._abort(gone())

    def _abort(self, error: PadiffError) -> None:
        self._ended = self._ended or error
        if self._handover is not None:
            self._handover.abort(error)
        if self._idle:
            self._context.cancel()  # nobody else wakes the thread that waits for the next query
