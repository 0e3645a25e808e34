"""Freed memory that a process keeps for what comes next."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from padiff_rpc.freed_memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(20):
    [bytearray(b"x") * (1 << 20) for _ in range(4)]
print(faults() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def faults_and_peak(choice: str) -> tuple[int, int]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, choice], capture_output=True, text=True, check=True)
    faults, peak_kib = map(int, done.stdout.split())
    return faults, peak_kib


@pytest.mark.processes
def test_blocks_of_a_mib_are_used_again() -> None:
    kept, kept_peak = faults_and_peak("keep")
    given, given_peak = faults_and_peak("leave")
    assert kept < 3000  # a block has 256 pages, four are in use
    if platform.libc_ver()[0] == "glibc":
        assert kept < given / 4
    assert kept_peak < given_peak + 4096  # the block that it learns from is not touched
