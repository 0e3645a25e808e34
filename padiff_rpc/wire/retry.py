"""Repeat idempotent calls while a worker cannot be reached. A step is never repeated."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

from padiff_rpc.errors import PadiffError, Reason

T = TypeVar("T")

RETRY_S = 3.0
"""For how many seconds a session's idempotent calls are repeated."""


def retry_idempotent(call: Callable[[], T], deadline_s: float) -> T:
    """Call a function, and again after each WORKER_UNREACHABLE until `deadline_s` seconds after the first try.

    Waits a random time of at most 1 s between two tries. Raises the last failure, and any other error at once.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_unreachable),
        stop=tenacity.stop_after_delay(deadline_s),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.0),
        reraise=True,
    )
    return retrying(call)


def _is_unreachable(error: BaseException) -> bool:
    return isinstance(error, PadiffError) and error.reason is Reason.WORKER_UNREACHABLE
