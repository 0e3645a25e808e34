"""The worker program as a process: what it prints, how it ends, and whose address it leaves alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from padiff_rpc.remote.connect import connect
from tests.servers.harness import DEADLINE_S, ROOT, numpy_spec

FACTORY = """
import padiff_rpc.numpy_framework.nn as nn

def build():
    print("chatter of the user's code")
    return nn.Linear(2, 2)
"""

pytestmark = pytest.mark.processes


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_one_line_serves_and_ends_with_0_on_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "chatty.py").write_text(FACTORY)
    with program(f"numpy@{tmp_path}/chatty.py:build") as process:
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


def test_a_refusal_is_the_processs_exit_status() -> None:
    status, err = refused("numpy@no_such_file.py:build")
    assert 2 == status
    assert "no_such_file.py" in err
    assert "Traceback" not in err


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


def test_without_lifeline_a_closed_stdin_is_nothing(tmp_path: Path) -> None:
    with program(numpy_spec("mlp")) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[4]
        with connect(address) as model:
            assert os.getpid() != model.info().pid
            assert process.pid == model.info().pid


SWALLOWED = """
import os, signal
from padiff_servers.__main__ import _stop_on_signal

class Ends:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        [None for _ in range(1000)]

_stop_on_signal(lambda: print("stopping", flush=True))
del_me = Ends()
del del_me
print("swallowed", flush=True)
"""


def test_a_signal_that_a_finaliser_swallows_still_stops_the_worker() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "servers")])}
    done = subprocess.run([sys.executable, "-c", SWALLOWED], env=env, capture_output=True, text=True, check=True)
    assert "stopping\nswallowed\n" == done.stdout
