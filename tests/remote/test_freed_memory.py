"""Freed memory that a process keeps for what comes next."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from padiff_rpc.freed_memory import keep_freed_memory
keep, block, kept = sys.argv[1], *map(int, sys.argv[2:])
if keep == "keep":
    keep_freed_memory(2 * block, kept)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
for _ in range(20):
    [bytearray(b"x") * block for _ in range(4)]
print(faults() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def faults_and_peak(choice: str, block_bytes: int) -> tuple[int, int]:
    command = [sys.executable, "-c", PROGRAM, choice, str(block_bytes), str(8 * block_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    faults, peak_kib = map(int, done.stdout.split())
    return faults, peak_kib


@pytest.mark.processes
@pytest.mark.parametrize("block_bytes", [1 << 20, 16 << 20])
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
def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "MALLOC_MMAP_THRESHOLD_", str(1 << 20)
    )  # each block of a MiB is mapped, and unmapped when it is freed
    mapped, _ = faults_and_peak("keep", 1 << 20)
    assert mapped > 20 * 4 * 256
