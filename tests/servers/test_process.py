"""What a worker asks of its process: memory that a step frees stays for the next, and goes when it is told so."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other malloc is told what to keep"),
]

PROGRAM = """
import os, sys
from padiff_rpc.system.malloc import give_back_freed_memory, keep_freed_memory
from padiff_servers.process import prepare_process
{"worker": prepare_process, "command": keep_freed_memory}[sys.argv[1]]()
statm = os.open("/proc/self/statm", os.O_RDONLY)
def resident():  # without a buffer, which malloc might put above the blocks, where it would hold them
    return int(os.pread(statm, 64, 0).split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
step = [bytearray(b"x") * (4 << 20) for _ in range(40)]
held = resident()
step = None
kept = resident()
give_back_freed_memory()
print(held - kept, kept - resident(), os.environ.get("OMP_WAIT_POLICY"))
"""


def given_back(process: str) -> list[str]:
    """Return how many MiB of 160 went when they were freed, how many when that was asked for, and how OpenMP's threads wait."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, process], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_a_worker_keeps_what_a_step_frees_until_its_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    at_once, when_asked, waits = given_back("worker")
    assert int(at_once) < 16
    assert int(when_asked) > 128
    assert waits == "PASSIVE"


def test_another_process_keeps_less() -> None:
    at_once, when_asked, _ = given_back("command")
    assert int(at_once) > 96
    assert int(when_asked) < 64


def test_how_threads_wait_is_left_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert given_back("worker")[2] == "ACTIVE"
