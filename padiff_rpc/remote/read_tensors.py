"""Read tensors from a worker in gRPC streams that stay open for the next read, and resume if a connection broke."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.remote.connection import Connection
from padiff_rpc.tensors.tensor import TensorStream, data_loss
from padiff_rpc.v1 import tensor_pb2
from padiff_rpc.v1 import worker_service_pb2 as pb
from padiff_rpc.wire.chunks import Incoming, PieceReader, unpack
from padiff_rpc.wire.payload import Batch, Frame
from padiff_rpc.wire.retry import RETRY_S, retry_idempotent
from padiff_rpc.wire.serde import tensor_spec_from_proto
from padiff_rpc.wire.slots import Region

log: logging.Logger = logging.getLogger(__name__)

IDLE_STREAMS = 4
"""How many streams of one kind wait for the next read.

Two sides' reads, and a second thread's, want no more.
"""
RESUMES = 5
"""How often in a row a read is resumed without having got anything further."""

Query = Callable[[int, int], Any]
"""Makes the request for the tensors that are left.

Its arguments are the place of the first of them among all names, and how many of that tensor's bytes have come.
"""


class Readers:
    """The open streams of one kind of read. Several threads may read at once; each read has a stream to itself.

    Args:
        connection: The connection to the worker.
        method: The stub's method of this read, with streams both ways.
        session_id: The session that reads.
        request: Class of the method's request message.
        region: The ring's slots that the worker fills; None if tensors travel in messages.
        numbers: Gives numbers to streams, unique in the session.
    """

    def __init__(
        self,
        connection: Connection,
        method: Any,
        session_id: str,
        request: Any,
        region: Region | None,
        numbers: Iterator[int],
    ) -> None:
        self._connection = connection
        self._method = method
        self._session_id = session_id
        self._request = request
        self._region = region
        self._numbers = numbers
        self._lock = threading.Lock()
        self._idle: list[_OpenStream] = []
        self._ended: list[int] = []  # streams whose end the worker has not heard of

    def read(self, names: Sequence[str], query: Query) -> Iterator[TensorStream]:
        """Yield one stream per tensor, in order.

        The read is resumed from where it broke off if the connection did.

        Args:
            names: Names of the tensors that are asked for, in order. The worker may leave some out.
            query: Makes the request for those that are left.

        Raises:
            PadiffError: The worker's error; WORKER_UNREACHABLE if resuming fails; DATA_LOSS if other tensors come than
                were asked for, or other bytes than their specs say.
        """
        answer = _Answer(self, names, query)
        try:
            yield from answer.streams()
        finally:
            answer.end()

    def take(self, fresh: bool = False) -> _OpenStream:
        """Return an idle stream, or a new one. `fresh` demands a new one and ends the idle ones."""
        with self._lock:
            if fresh:
                idle, self._idle = self._idle, []
            elif self._idle:
                return self._idle.pop()
            else:
                idle = []
        for stream in idle:  # they share the connection that broke
            self.drop(stream)
        number = next(self._numbers) if self._region is not None else 0
        return _OpenStream(self._connection, self._method, number)

    def put_back(self, stream: _OpenStream) -> None:
        """Keep a stream for the next read; its answer must have been read to the end."""
        with self._lock:
            others = len(self._idle)
            if others < IDLE_STREAMS:
                self._idle.append(stream)
        if others == IDLE_STREAMS:
            self.drop(stream)
        elif others and stream.tickets:
            # Of several idle streams only the last is soon used again; the slots of the others are for all.
            stream.send(self.request(stream))

    def drop(self, stream: _OpenStream) -> None:
        """End a stream. The next query tells the worker that it may have the stream's slots back."""
        stream.cancel()
        if stream.number:
            with self._lock:
                self._ended.append(stream.number)

    def request(self, stream: _OpenStream, query: Any = None) -> Any:
        """Make a request message, which also returns slots and names streams that have ended.

        Args:
            stream: The stream that it is for.
            query: What to read; None makes a message that is only about the ring.
        """
        with self._lock:
            tickets, stream.tickets = stream.tickets, []
            ended, self._ended = self._ended, []
        use = None
        if stream.number:
            use = pb.RingUse(stream=stream.number, returned_tickets=tickets, ended_streams=ended)
        return self._request(session_id=self._session_id, query=query, ring=use)

    def close(self) -> None:
        """End the idle streams, and let go of the ring."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._region = None
        for stream in idle:
            stream.cancel()

    @property
    def region(self) -> Region | None:
        """The ring's slots that the worker fills; None if tensors travel in messages."""
        return self._region

    def failures(self) -> Any:
        """Return the context manager that raises gRPC's errors as PadiffErrors (Connection.failures)."""
        return self._connection.failures()


class _OpenStream:
    """One call, and the queue from which gRPC takes its requests."""

    def __init__(self, connection: Connection, method: Any, number: int) -> None:
        self.number = number
        self.tickets: list[int] = []  # of slots that it is through with and has not returned
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with connection.failures():
            self._call = connection.start(method, iter(self._requests.get, None))

    def send(self, request: Any) -> None:
        self._requests.put(request)

    def receive(self) -> Frame:
        frame = next(self._call, None)
        if frame is None:
            raise PadiffError("the worker ended a read in the middle", reason=Reason.DATA_LOSS)
        return frame

    def cancel(self) -> None:
        self._requests.put(None)  # gRPC's thread waits for it
        self._call.cancel()


class _Answer:
    """One read: the tensor that it has come to, and the stream that it uses at the moment."""

    def __init__(self, readers: Readers, names: Sequence[str], query: Query) -> None:
        self._readers = readers
        self._names = names
        self._query = query
        self._first = 0  # place of the first tensor that is not there whole
        self._got_bytes = 0  # of that one
        self._spec: tensor_pb2.TensorSpec | None = None  # of that one, once it has begun
        self._stream: _OpenStream | None = None
        self._done = False
        self._lost: PadiffError | None = None  # how the connection broke last

    def streams(self) -> Iterator[TensorStream]:
        region = self._readers.region
        incoming = None if region is None else Incoming(region, self._give_back)
        # Closed also where the last chunk was read and the end not: the stream is kept then, and would miss the slot.
        with closing(PieceReader(self._batches(), incoming)) as pieces:
            yield from unpack(pieces)

    def end(self) -> None:
        """Keep the stream for the next read, or end it if this read was left before its end."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if self._done:
            self._readers.put_back(stream)
        else:
            self._readers.drop(stream)

    def _batches(self) -> Iterator[Batch]:
        attempts = 0
        frame = self._ask(fresh=False)
        while True:
            if frame is None:
                attempts += 1
                frame = self._resume(attempts)
            if frame.batch is not None:
                attempts = 0
                self._advance(frame.batch)
                self._done = frame.message.last
                yield frame.batch
            if frame.message.last:
                self._done = True
                return
            frame = self._receive()

    def _ask(self, fresh: bool) -> Frame | None:
        """Ask for the tensors that are left and return the first response; None if the connection is lost."""
        self._stream = stream = self._readers.take(fresh)
        stream.send(self._readers.request(stream, self._query(self._first, self._got_bytes)))
        return self._receive()

    def _receive(self) -> Frame | None:
        assert self._stream is not None
        try:
            with self._readers.failures():
                return self._stream.receive()
        except PadiffError as err:
            self.end()
            if err.reason is not Reason.WORKER_UNREACHABLE:
                raise
            self._lost = err
            return None

    def _resume(self, attempt: int) -> Frame:
        """Ask again from where the answer broke off."""
        if attempt > RESUMES:
            raise self._why_lost()
        log.debug("a read broke off at tensor %d, byte %d; asking for the rest", self._first, self._got_bytes)

        def again() -> Frame:
            frame = self._ask(fresh=True)
            if frame is None:
                raise self._why_lost()
            return frame

        return self._continued(retry_idempotent(again, RETRY_S))

    def _why_lost(self) -> PadiffError:
        assert self._lost is not None
        return self._lost

    def _continued(self, frame: Frame) -> Frame:
        """Check that the first piece of a resumed answer goes on where the last one ended, and drop its spec."""
        if self._spec is not None and frame.batch is not None and frame.batch.pieces:
            chunk = frame.batch.pieces[0].chunk
            name = self._names[self._first]
            if chunk.name != name or chunk.spec != self._spec:
                expected = tensor_spec_from_proto(self._spec)
                raise PadiffError(
                    f"the rest of {name!r}, which is {expected}, was asked for, and that of {chunk.name!r} came",
                    reason=Reason.DATA_LOSS,
                )
            chunk.ClearField("spec")
        return frame

    def _advance(self, batch: Batch) -> None:
        """Note how far a batch goes."""
        for piece in batch.pieces:
            chunk = piece.chunk
            if chunk.HasField("spec"):
                self._spec = chunk.spec
                self._first = self._place_of(chunk.name)
                self._got_bytes = 0
            if self._spec is None:
                continue  # unpacking refuses it
            self._got_bytes += len(piece.payload) if batch.slot is None else chunk.size_bytes
            if self._got_bytes == self._spec.size_bytes:
                self._first, self._got_bytes, self._spec = self._first + 1, 0, None
            elif self._got_bytes > self._spec.size_bytes:
                raise data_loss(chunk.name, tensor_spec_from_proto(self._spec), self._got_bytes)

    def _place_of(self, name: str) -> int:
        for place in range(self._first, len(self._names)):
            if self._names[place] == name:
                return place
        raise PadiffError(f"tensor {name!r} came, which was not asked for there", reason=Reason.DATA_LOSS)

    def _give_back(self, ticket: int) -> None:
        """Return a slot at once while the worker may be waiting for it, otherwise with the next query."""
        if self._stream is not None:
            self._stream.tickets.append(ticket)
            if not self._done:
                self._stream.send(self._readers.request(self._stream))


def stream_numbers() -> Iterator[int]:
    """Number a session's streams from 1. Number 0 is for streams that do not use the ring."""
    return itertools.count(1)
