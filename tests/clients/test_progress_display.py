"""Progress: on a terminal's stderr only."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from padiff_clients.progress_display import live_progress

from padiff_rpc.align.progress import Progress

FILE = Path(__file__).parents[1] / "models" / "numpy_models.py"
MODEL = f"numpy@{FILE}:mlp"


def run_on_terminal(*options: str) -> tuple[str, str, int]:
    """Run a diff with stderr on a terminal; return stdout, what the terminal saw, and the exit status."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "padiff_clients", "diff", "--base", MODEL, "--raw", MODEL]
    environment = {**os.environ, "TERM": "xterm", "GRPC_VERBOSITY": "NONE"}  # gRPC's own log is not ours
    with subprocess.Popen(
        [*command, "--inputs", f"{FILE}:vectors", *options], stdout=subprocess.PIPE, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(ours, 4096):
                seen += piece
        except OSError:  # Linux answers a read with EIO once the other end is closed
            pass
        assert process.stdout is not None
        printed = process.stdout.read().decode()
    os.close(ours)
    return printed, seen.decode(), process.returncode


@pytest.mark.processes
def test_a_terminal_shows_progress_and_stdout_the_verdict_alone():
    printed, seen, status = run_on_terminal()

    assert status == 0
    assert printed.startswith("ALIGNED")
    assert "starting workers" in seen
    assert "starting workers" not in printed
    assert "\x1b" not in printed


@pytest.mark.processes
def test_quiet_shows_none():
    assert run_on_terminal("--quiet")[1:] == ("", 0)


def test_a_pipe_gets_nothing(capsys):
    with live_progress(quiet=False) as tell:
        tell(Progress(0, "forward", 1, 2, "encoder.0"))

    assert capsys.readouterr() == ("", "")
