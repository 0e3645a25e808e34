"""Sessions with workers of the benchmark, with and without shared memory."""

from __future__ import annotations

import inspect
from typing import Any

from padiff_rpc.remote.connect import connect
from padiff_rpc.remote.remote_model import RemoteModel


def session(address: str, shared_memory: bool) -> RemoteModel:
    """Connect; without shared memory tensors come in streams over TCP, as from another host."""
    known = "shared_memory" in inspect.signature(connect).parameters
    options: dict[str, Any] = {"shared_memory": shared_memory} if known else {}
    return connect(address, **options)
