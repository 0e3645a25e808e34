"""Calls to one worker over a gRPC channel; their failures are raised as PadiffErrors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.wire.methods import Stub
from padiff_rpc.wire.status import error_from_rpc

CALL_TIMEOUT_S = 30.0
"""Deadline of calls that a worker answers without its model thread.

Calls that wait for the model have no deadline.
"""


class Connection:
    """A channel to one worker, through which its calls are made.

    Args:
        channel: The channel, which close() closes.
        address: The worker's address, for errors.
        token: Sent with each call as `authorization: Bearer TOKEN`; None sends none.
        explain: Replaces the error of a failed call by a better one: that a launched worker's process ended, and how.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        address: str,
        token: str | None = None,
        explain: Callable[[PadiffError], PadiffError] = lambda error: error,
    ) -> None:
        self.address = address
        self.stub: Stub = Stub(channel)
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._explain = explain
        self._closed = False

    def unary(self, method: Any, request: Any, timeout_s: float | None = None) -> Any:
        """Make a call with one request and one response, and return the response.

        Args:
            method: A unary method of `stub`.
            request: The request message.
            timeout_s: The call's deadline; None for none.

        Raises:
            PadiffError: As failures() does.
        """
        with self.failures():
            return method(request, timeout=timeout_s, metadata=self._metadata)

    @contextmanager
    def streaming(self, method: Any, request: Any) -> Iterator[Any]:
        """Make a call that streams responses, and yield it. It is cancelled at the end of the `with`, even if it goes on.

        Args:
            method: A method of `stub` with a response stream.
            request: The request message, or an iterator of them if the requests are a stream too.
        """
        with self.failures():
            call = self.start(method, request)
            try:
                yield call
            finally:
                call.cancel()

    def start(self, method: Any, request: Any) -> Any:
        """Start a call that streams responses, and return it. Its caller has to cancel it, and to read it within failures().

        Args:
            method: A method of `stub` with a response stream.
            request: The request message, or an iterator of them if the requests are a stream too.
        """
        return method(request, metadata=self._metadata)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Raise gRPC's errors within the `with` as PadiffErrors.

        Raises:
            PadiffError: OUT_OF_ORDER if the connection was closed before; otherwise the error that the worker reported,
                or that gRPC's status stands for (wire/status.py), as `explain` returns it.
        """
        if self._closed:
            raise PadiffError(f"the model at {self.address} was closed", reason=Reason.OUT_OF_ORDER)
        try:
            yield
        except grpc.RpcError as err:
            raise self._explain(error_from_rpc(err, self.address)) from err

    def close(self) -> None:
        """Close the channel. Later calls raise OUT_OF_ORDER."""
        self._closed = True
        self._channel.close()
