"""Sessions and their leases."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from padiff_servers.session import Sessions

from padiff_rpc.errors import PadiffError, Reason
from tests.servers.harness import wait_until


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    sessions = Sessions(lease_s=60.0)
    yield sessions
    sessions.stop(PadiffError("the test ends", reason=Reason.SESSION_EXPIRED))


def test_a_second_session_is_told_who_holds_the_worker_and_for_how_long(sessions: Sessions) -> None:
    sessions.open("ada@host, process 7")
    with pytest.raises(PadiffError, match="ada@host, process 7 has held it for 0 s") as caught:
        sessions.open("bob")
    assert Reason.WORKER_BUSY is caught.value.reason
    assert 50 < float(caught.value.metadata["lease_left_s"]) <= 60


def test_a_closed_session_makes_room(sessions: Sessions) -> None:
    first = sessions.open("ada")
    sessions.close(first.id)
    sessions.close(first.id)
    second = sessions.open("bob")
    assert second is sessions.get(second.id)
    with pytest.raises(PadiffError) as caught:
        first.check()
    assert Reason.SESSION_EXPIRED is caught.value.reason


def test_an_unknown_session_is_expired(sessions: Sessions) -> None:
    sessions.open("ada")
    for session_id in ("", "ü", "0" * 32):
        with pytest.raises(PadiffError) as caught:
            sessions.get(session_id)
        assert Reason.SESSION_EXPIRED is caught.value.reason


def test_closing_with_a_wrong_id_changes_nothing(sessions: Sessions) -> None:
    session = sessions.open("ada")
    sessions.close("0" * 32)
    assert session is sessions.get(session.id)


def test_a_lease_that_is_not_renewed_runs_out_by_itself() -> None:
    sessions = Sessions(lease_s=0.05)
    session = sessions.open("ada")
    ends: list[PadiffError] = []
    session.on_end(ends.append)
    wait_until(lambda: bool(ends), "the session ends")
    assert [Reason.SESSION_EXPIRED] == [error.reason for error in ends]
    assert "0.05 s ran out" in ends[0].message
    sessions.open("bob")


def test_a_renewed_lease_does_not_run_out() -> None:
    sessions = Sessions(lease_s=0.5)
    session = sessions.open("ada")
    ends: list[PadiffError] = []
    session.on_end(ends.append)
    begun = time.monotonic()

    def renewed_long_enough() -> bool:
        sessions.get(session.id)
        return time.monotonic() - begun > 1.0

    wait_until(renewed_long_enough, "two leases pass")
    assert [] == ends


def test_a_shorter_lease_is_granted_and_a_longer_one_is_not(sessions: Sessions) -> None:
    first = sessions.open("ada", lease_s=5.0)
    assert 5.0 == first.lease_s
    sessions.close(first.id)
    assert 60.0 == sessions.open("ada", lease_s=1e9).lease_s


def test_whoever_asks_after_the_end_hears_of_it_at_once(sessions: Sessions) -> None:
    session = sessions.open("ada")
    sessions.close(session.id)
    ends: list[PadiffError] = []
    session.on_end(ends.append)
    assert 1 == len(ends)


def test_a_callback_that_was_taken_away_is_not_called(sessions: Sessions) -> None:
    session = sessions.open("ada")
    ends: list[PadiffError] = []
    session.on_end(ends.append)()
    sessions.close(session.id)
    assert [] == ends
