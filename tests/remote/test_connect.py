"""Connecting to a worker that runs already, and all that may be wrong with it."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError  # the built-in one from Python 3.11 on
from contextlib import contextmanager
from pathlib import Path

import grpc
import padiff_servers.service
import pytest
from padiff_servers.access import Access, read_access

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.remote.connect import connect
from padiff_rpc.wire import versions
from padiff_rpc.wire.channel import parse_address
from tests.servers.harness import DEADLINE_S, StubModel, serving

TLS = Path(__file__).parent / "tls"


def refused(address: str, **options: object) -> PadiffError:
    with pytest.raises(PadiffError) as caught:
        connect(address, **options).close()  # type: ignore[arg-type]
    return caught.value


@contextmanager
def bound() -> Iterator[tuple[socket.socket, str]]:
    """A TCP port that nobody listens at yet."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        yield taken, f"grpc://127.0.0.1:{taken.getsockname()[1]}"


def test_an_address_nobody_listens_at_is_tried_until_the_deadline_and_named(tmp_path: Path) -> None:
    with bound() as (_, address):
        for place in (address, f"unix:{tmp_path}/w.sock"):
            started = time.monotonic()
            error = refused(place, connect_timeout_s=0.3)
            assert (Reason.WORKER_UNREACHABLE, place) == (error.reason, error.metadata["worker"])
            assert place in error.message
            assert "nobody listens" in error.message
            assert error.hint
            assert 0.2 < time.monotonic() - started < DEADLINE_S


def test_a_worker_that_comes_later_is_found() -> None:
    with bound() as (taken, address), ThreadPoolExecutor() as pool:
        connecting = pool.submit(connect, address, connect_timeout_s=DEADLINE_S)
        with pytest.raises(FutureTimeoutError):
            connecting.result(0.3)
        taken.close()
        with serving(StubModel(), listen=address):
            connecting.result(DEADLINE_S).close()


def test_what_listens_but_does_not_answer_times_out() -> None:
    with bound() as (taken, address):
        taken.listen()
        error = refused(address, connect_timeout_s=0.2)
    assert Reason.TIMED_OUT is error.reason
    assert address in error.message


def test_another_grpc_server_is_no_worker() -> None:
    from concurrent.futures import ThreadPoolExecutor as Pool

    server = grpc.server(Pool(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    error = refused(f"grpc://127.0.0.1:{port}")
    server.stop(None).wait()
    assert Reason.VERSION_MISMATCH is error.reason
    assert "no padiff-rpc worker" in error.message


@pytest.mark.parametrize("address", ["torch@a.py:f", "tape:dir", "127.0.0.1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    assert Reason.BAD_CONFIG is refused(address).reason


def test_a_second_coordinator_is_told_who_holds_the_worker() -> None:
    with serving(StubModel()) as worker, connect(worker.address):
        error = refused(worker.address)
        assert Reason.WORKER_BUSY is error.reason
        assert f"process {os.getpid()}" in error.message
        assert float(error.metadata["lease_left_s"]) > 30
    assert error.metadata["worker"] == worker.address


def test_a_coordinator_that_stopped_renewing_is_replaced() -> None:
    stub = StubModel()
    with serving(stub, lease_s=1.0) as worker:
        first = connect(worker.address)
        first._closing.set()  # its lease is no longer renewed, as if it were stopped
        expired = threading.Event()
        worker.sessions.get(first._session_id).on_end(lambda error: expired.set())
        assert Reason.WORKER_BUSY is refused(worker.address).reason
        assert expired.wait(DEADLINE_S)
        second = connect(worker.address)
        with second:
            with pytest.raises(PadiffError) as caught:
                first.describe()
            assert Reason.SESSION_EXPIRED is caught.value.reason
            second.describe()
        assert stub.resets >= 1
        first._closing.clear()
        first.close()


def test_the_token_must_be_right() -> None:
    with serving(StubModel(), access=Access(token="secret")) as worker:
        for token in (None, "wrong"):
            error = refused(worker.address, token=token)
            assert Reason.ACCESS_DENIED is error.reason
            assert "secret" not in str(error)
        with connect(worker.address, token="secret") as model:
            model.describe()


def tls_access() -> Access:
    return read_access(
        parse_address("127.0.0.1:0"),
        token_file=None,
        tls_cert=str(TLS / "cert.pem"),
        tls_key=str(TLS / "key.pem"),
        insecure=False,
    )


def test_tls_needs_a_certificate_that_is_trusted() -> None:
    with serving(StubModel(), access=tls_access()) as worker:
        with connect(worker.address, tls=TLS / "cert.pem") as model:
            model.describe()
        for tls in (False, True):
            error = refused(worker.address, tls=tls, connect_timeout_s=0.2)
            assert error.reason in (Reason.WORKER_UNREACHABLE, Reason.TIMED_OUT)


def test_a_certificate_that_cannot_be_read_is_refused() -> None:
    error = refused("grpc://127.0.0.1:1", tls="/no/such/cert.pem")
    assert (Reason.BAD_CONFIG, True) == (error.reason, "'/no/such/cert.pem'" in error.message)


@pytest.mark.parametrize(("worker_speaks", "older"), [((2, 3), "this coordinator"), ((0,), "the worker")])
def test_versions_without_overlap_name_both_and_who_should_upgrade(
    monkeypatch: pytest.MonkeyPatch, worker_speaks: tuple[int, ...], older: str
) -> None:
    monkeypatch.setattr(padiff_servers.service, "PROTOCOL_VERSIONS", worker_speaks)
    with serving(StubModel()) as worker:
        error = refused(worker.address)
        assert Reason.VERSION_MISMATCH is error.reason
        assert ", ".join(map(str, worker_speaks)) in error.message
        assert ", ".join(map(str, versions.PROTOCOL_VERSIONS)) in error.message
        assert older in error.hint
        monkeypatch.setattr(padiff_servers.service, "PROTOCOL_VERSIONS", (1, *worker_speaks))
        connect(worker.address).close()  # the refused one has left nothing behind
