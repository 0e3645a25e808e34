"""Freed memory that a process keeps for what comes next."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from padiff_rpc.system.malloc import keep_freed_memory
keep, block = sys.argv[1], int(sys.argv[2])
if keep == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(20):
    [bytearray(b"x") * block for _ in range(4)]
print(faults() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def faults_and_peak(choice: str, block_bytes: int) -> tuple[int, int]:
    command = [sys.executable, "-c", PROGRAM, choice, str(block_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    faults, peak_kib = map(int, done.stdout.split())
    return faults, peak_kib


@pytest.mark.processes
@pytest.mark.parametrize("block_bytes", [1 << 20, 12 << 20])
def test_freed_blocks_are_used_again(block_bytes: int) -> None:
    kept, kept_peak = faults_and_peak("keep", block_bytes)
    given, given_peak = faults_and_peak("leave", block_bytes)
    pages = block_bytes >> 12
    assert kept < 8 * pages  # four are in use, and a fifth while each is made
    if platform.libc_ver()[0] == "glibc":
        assert kept < given / 4
    assert kept_peak < given_peak + 4096


@pytest.mark.processes
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the variables are glibc's")
@pytest.mark.parametrize(
    ("variable", "value"),
    [("MALLOC_MMAP_THRESHOLD_", "1048576"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=1048576")],
)
def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    # Each block of a MiB is mapped then, and unmapped when it is freed.
    monkeypatch.setenv(variable, value)
    mapped, _ = faults_and_peak("keep", 1 << 20)
    assert mapped > 20 * 4 * 256
