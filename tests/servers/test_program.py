"""The worker program as a process: what it prints, how it ends, what it refuses."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from padiff_rpc.remote.connect import connect

from .harness import DEADLINE_S, ROOT, numpy_spec

FACTORIES = """
import padiff_rpc.model.backends.numpy_nn as nn

def build():
    print("chatter of the user's code")
    return nn.Linear(2, 2)

def broken():
    return helper()

def helper():
    raise ValueError("no weights here")

def not_a_model():
    return 3
"""


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the program; it is killed at the end where it has not ended."""
    command = [sys.executable, "-m", "padiff_servers", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def refused(*arguments: str) -> tuple[int, str]:
    """Run the program, which must end by itself with nothing on stdout; return its exit status and stderr."""
    with program(*arguments) as process:
        out, err = process.communicate(timeout=DEADLINE_S)
        assert "" == out
        return process.returncode, err


@pytest.fixture
def factories(tmp_path: Path) -> str:
    path = tmp_path / "my_factories.py"
    path.write_text(FACTORIES)
    return f"numpy@{path}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_one_line_serves_and_ends_with_0_on_a_signal(factories: str, number: signal.Signals) -> None:
    with program(f"{factories}:build") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(
            r"padiff-rpc worker ready at (grpc://127\.0\.0\.1:\d+) \(numpy [\d.]+, cpu, Linear\)\n", line
        )
        assert match is not None, line
        with connect(match[1]) as model:
            assert "Linear" == model.describe().class_name
        process.send_signal(number)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert (0, "") == (process.returncode, out)
    assert "chatter of the user's code" in err


def test_a_signal_in_the_middle_of_a_session_ends_it_too(tmp_path: Path) -> None:
    path = tmp_path / "w.sock"
    with program(numpy_spec("mlp"), "--listen", f"unix:{path}") as process:
        assert process.stdout is not None
        assert f"unix:{path}" in process.stdout.readline()
        assert 0 == path.stat().st_mode & 0o077
        with connect(f"unix:{path}"):
            process.terminate()
            process.communicate(timeout=DEADLINE_S)
    assert 0 == process.returncode
    assert not path.exists()


@pytest.mark.parametrize(
    ("factory", "status", "texts"),
    [
        ("broken", 2, ["'broken' of", "ValueError: no weights here", "in helper", "my_factories.py"]),
        ("not_a_model", 2, ["builtins.int"]),
        ("absent", 2, ["has no function 'absent'", "build, broken, helper, not_a_model"]),
    ],
)
def test_a_users_error_shows_the_users_frames_and_none_of_ours(
    factories: str, factory: str, status: int, texts: list[str]
) -> None:
    found, err = refused(f"{factories}:{factory}")
    assert status == found
    for text in texts:
        assert text in err
    assert "padiff_rpc/" not in err
    assert "padiff_servers/" not in err


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--listen", "0.0.0.0:0"], 2, "TLS and a token is missing"),
        (["--listen", "nowhere"], 2, "is no address"),
        (["--listen", "192.0.2.1:0", "--insecure"], 3, "cannot listen at grpc://192.0.2.1:0"),
        (["--listen", "unix:/no/such/folder/w"], 3, "there is no folder '/no/such/folder'"),
        (["--model-arg", "bogus=1"], 2, "bogus"),
        (["--dtype", "int4"], 2, "int4"),
        (["--threads", "many"], 2, "--threads"),
        (["--token-file", "/no/such/file"], 2, "cannot read the token file"),
        (["--loss", "mine=tests/absent.py:loss"], 2, "tests/absent.py"),
    ],
)
def test_what_it_cannot_do_it_says(arguments: list[str], status: int, text: str) -> None:
    found, err = refused(numpy_spec("mlp"), *arguments)
    assert (status, True) == (found, text in err), err
    assert "Traceback" not in err


def test_a_missing_framework_names_the_pip_line() -> None:
    status, err = refused("torch@anything.py:build")
    assert 2 == status
    assert "-m pip install" in err


def test_a_tcp_address_in_use_is_said_before_the_model_is_loaded() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, err = refused("numpy@no_such_file.py:build", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert 3 == status
    assert "already in use" in err


def test_a_second_worker_cannot_take_the_port_or_socket_of_a_living_one(tmp_path: Path) -> None:
    for listen in ("127.0.0.1:0", f"unix:{tmp_path}/w.sock"):
        with program(numpy_spec("mlp"), "--listen", listen) as first:
            assert first.stdout is not None
            address = first.stdout.readline().split()[4]
            status, err = refused(numpy_spec("mlp"), "--listen", address)
            assert (3, True) == (status, f"cannot listen at {address}" in err)
            with connect(address):
                pass


def test_the_socket_of_a_dead_worker_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "w.sock"
    for _ in range(2):
        with program(numpy_spec("mlp"), "--listen", f"unix:{path}") as process:
            assert process.stdout is not None
            assert "ready" in process.stdout.readline()
            process.kill()
        assert path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    status, err = refused(numpy_spec("mlp"), "--listen", f"unix:{path}")
    assert (3, True) == (status, "no socket" in err)
    assert "precious" == path.read_text()


def test_without_lifeline_a_closed_stdin_is_nothing(tmp_path: Path) -> None:
    with program(numpy_spec("mlp")) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[4]
        with connect(address) as model:
            assert os.getpid() != model.info().pid
            assert process.pid == model.info().pid
