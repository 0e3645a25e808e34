"""One channel to one worker: its calls, and their failures as PadiffErrors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.wire.methods import Stub
from padiff_rpc.wire.status import error_from_rpc

CALL_TIMEOUT_S = 30.0
"""For calls that a worker answers without its model thread. Calls that wait for the model have no deadline."""


class Connection:
    """A channel to one worker: makes calls, and turns their failures into PadiffErrors.

    `explain` may replace an error, knowing more: that a launched worker's process ended, and how.
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
        with self.failures():
            return method(request, timeout=timeout_s, metadata=self._metadata)

    @contextmanager
    def streaming(self, method: Any, request: Any) -> Iterator[Any]:
        """Yield the call; it is cancelled at the end of the `with`, also when its responses were not all read."""
        with self.failures():
            call = self.start(method, request)
            try:
                yield call
            finally:
                call.cancel()

    def start(self, method: Any, request: Any) -> Any:
        """Start a call that its caller ends."""
        return method(request, metadata=self._metadata)

    @contextmanager
    def failures(self) -> Iterator[None]:
        if self._closed:
            raise PadiffError(f"the model at {self.address} was closed", reason=Reason.OUT_OF_ORDER)
        try:
            yield
        except grpc.RpcError as err:
            raise self._explain(error_from_rpc(err, self.address)) from err

    def close(self) -> None:
        self._closed = True
        self._channel.close()
