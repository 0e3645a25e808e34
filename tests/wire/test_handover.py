"""The bounded queue between two threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.wire.handover import Handover

DEADLINE_S = 10.0


def test_items_come_in_order_and_then_the_end() -> None:
    queue: Handover[int] = Handover(3)
    for item in range(3):
        queue.put(item)
    queue.close()
    assert [0, 1, 2] == list(queue)


def test_a_full_queue_holds_the_giver() -> None:
    queue: Handover[int] = Handover(2)
    given: list[int] = []

    def give() -> None:
        for item in range(5):
            queue.put(item)
            given.append(item)
        queue.close()

    with ThreadPoolExecutor() as pool:
        giving = pool.submit(give)
        taken = []
        for item in queue:
            taken.append(item)
            assert len(given) <= len(taken) + 2 + 1
        giving.result(DEADLINE_S)
    assert [0, 1, 2, 3, 4] == taken


def test_an_error_at_the_end_comes_after_what_is_left() -> None:
    queue: Handover[int] = Handover(2)
    queue.put(1)
    queue.close(ValueError("broken"))
    assert 1 == next(queue)
    with pytest.raises(ValueError, match="broken"):
        next(queue)


@pytest.mark.parametrize("waiting", ["giver", "taker"])
def test_an_abort_wakes_whoever_waits(waiting: str) -> None:
    queue: Handover[int] = Handover(1)
    started = threading.Event()
    if waiting == "giver":
        queue.put(0)

    def wait() -> None:
        started.set()
        queue.put(1) if waiting == "giver" else next(queue)

    with ThreadPoolExecutor() as pool:
        waiter = pool.submit(wait)
        assert started.wait(DEADLINE_S)
        queue.abort(ValueError("gone"))
        assert "gone" == str(waiter.exception(DEADLINE_S))
    with pytest.raises(ValueError, match="gone"):
        queue.put(2)
    with pytest.raises(ValueError, match="gone"):
        next(queue)


def test_the_first_end_counts() -> None:
    queue: Handover[int] = Handover(2)
    queue.put(1)
    queue.close()
    queue.abort(ValueError("late"))
    assert [1] == list(queue)


def test_batches_bring_what_is_there_in_order_then_the_end() -> None:
    handover: Handover[int] = Handover(8)
    for item in range(3):
        handover.put(item)
    handover.close()
    assert [[0, 1, 2]] == list(handover.batches(0.0))


def test_batches_bring_what_is_there_before_the_error() -> None:
    handover: Handover[int] = Handover(8)
    handover.put(0)
    handover.close(PadiffError("broke", reason=Reason.MODEL_FAILED))
    batches = handover.batches(0.0)
    assert [0] == next(batches)
    with pytest.raises(PadiffError, match="broke"):
        next(batches)
