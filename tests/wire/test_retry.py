"""Only what cannot be reached is tried again, and not for ever."""

from __future__ import annotations

import time

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.wire.retry import retry_idempotent


class Failing:
    """Fails `times` times, then returns."""

    def __init__(self, times: int, reason: Reason) -> None:
        self.calls, self._times, self._reason = 0, times, reason

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._times:
            raise PadiffError("no", reason=self._reason)
        return "yes"


def test_an_unreachable_worker_is_tried_again() -> None:
    call = Failing(2, Reason.WORKER_UNREACHABLE)
    assert "yes" == retry_idempotent(call, 10)
    assert 3 == call.calls


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.WORKER_UNREACHABLE])
def test_nothing_else_is_tried_again(reason: Reason) -> None:
    call = Failing(2, reason)
    with pytest.raises(PadiffError):
        retry_idempotent(call, 10)
    assert 1 == call.calls


def test_it_ends_at_the_deadline_with_the_last_failure() -> None:
    call = Failing(10**9, Reason.WORKER_UNREACHABLE)
    started = time.monotonic()
    with pytest.raises(PadiffError) as caught:
        retry_idempotent(call, 0.3)
    assert Reason.WORKER_UNREACHABLE is caught.value.reason
    assert call.calls > 1
    assert time.monotonic() - started < 10
