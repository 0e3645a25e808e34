"""Waiting for room: it ends with a release, and is given up exactly when none can come."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from padiff_rpc.align.run.stall import Stall
from tests.servers.harness import DEADLINE_S, wait_until


def begin(stall: Stall, side: Any, releases: int, flush: Callable[[], None] = lambda: None) -> Future[bool]:
    """Let a side wait in a thread of its own, until it is known to wait or has its answer."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(stall.wait, side, releases, flush)
    pool.shutdown(wait=False)
    wait_until(lambda: future.done() or side in stall._waiting, "the side waits")
    return future


@pytest.fixture
def stall() -> Stall:
    return Stall()


def test_a_release_ends_the_wait_of_its_side_alone(stall: Stall) -> None:
    base = begin(stall, "base", 0)
    stall.released("raw")
    assert not base.done()
    stall.released("base")
    assert base.result(DEADLINE_S)


def test_a_release_that_the_store_had_not_seen_yet_counts(stall: Stall) -> None:
    stall.released("base")
    assert stall.wait("base", 0, lambda: None)


def test_what_is_held_back_is_sent_first(stall: Stall) -> None:
    stall.ended("raw")
    assert stall.wait("base", 0, lambda: stall.released("base"))


def test_nothing_is_held_back_while_a_side_waits(stall: Stall) -> None:
    base = begin(stall, "base", 0)
    assert (stall.is_asking("base"), stall.is_asking("raw")) == (True, False)
    stall.released("base")
    assert base.result(DEADLINE_S)
    assert not stall.is_asking("base")


@pytest.mark.parametrize("hold", [lambda stall: stall.ended("raw"), lambda stall: stall.starves("raw")])
def test_waiting_for_a_side_that_has_ended_or_starves_is_given_up(stall: Stall, hold: Callable[[Stall], None]) -> None:
    hold(stall)
    assert not stall.wait("base", 0, lambda: None)


@pytest.mark.parametrize("hold", [lambda stall: stall.ended("raw"), lambda stall: stall.starves("raw")])
def test_a_side_that_ends_or_starves_later_ends_the_wait(stall: Stall, hold: Callable[[Stall], None]) -> None:
    base = begin(stall, "base", 0)
    assert not base.done()
    hold(stall)
    assert not base.result(DEADLINE_S)


def test_two_sides_that_wait_give_up(stall: Stall) -> None:
    base = begin(stall, "base", 0)
    assert not stall.wait("raw", 0, lambda: None)
    assert not base.result(DEADLINE_S)


def test_a_side_whose_release_is_on_its_way_is_no_reason_to_give_up(stall: Stall) -> None:
    stall.released("base")
    raw = begin(stall, "raw", 0)
    assert stall.wait("base", 0, lambda: None)
    assert not raw.done()
    stall.released("raw")
    assert raw.result(DEADLINE_S)


def test_what_is_still_to_be_judged_may_bring_room(stall: Stall) -> None:
    stall.told()
    stall.told()
    base, raw = begin(stall, "base", 0), begin(stall, "raw", 0)
    stall.judged(1)
    assert not base.done()
    stall.released("base")
    stall.judged(1)
    assert base.result(DEADLINE_S)
    assert not raw.done()
    assert not begin(stall, "base", 1).result(DEADLINE_S)
    assert not raw.result(DEADLINE_S)


def test_a_side_that_was_fed_goes_on(stall: Stall) -> None:
    stall.starves("raw")
    stall.fed("raw")
    base = begin(stall, "base", 0)
    assert not base.done()
    stall.give_up()
    assert not base.result(DEADLINE_S)


def test_in_turn_only_what_was_held_back_brings_room() -> None:
    stall = Stall(in_turn=True)
    assert not stall.wait("base", 0, lambda: None)
    assert stall.wait("base", 0, lambda: stall.released("base"))
