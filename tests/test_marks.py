"""The mark `processes` cannot be forgotten."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHES = """
import os, subprocess, sys, threading
import pytest

def start():
    subprocess.run([sys.executable, "-c", ""])

@pytest.fixture(scope="session")
def shared():
    start()

def test_plain():
    start()

def test_in_a_thread():
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()

def test_swallowed():
    try:
        os.system("true")
    except BaseException:
        pass

def test_by_a_shared_fixture(shared):
    pass

@pytest.mark.processes
def test_marked():
    start()

def test_none():
    pass
"""


@pytest.mark.processes
def test_an_unmarked_test_that_starts_a_process_fails(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).with_name("conftest.py")).read_text())
    (tmp_path / "test_launches.py").write_text(LAUNCHES)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    processes: starts processes\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rE", "-p", "no:cacheprovider", "test_launches.py"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    refused = [line.split("::")[1].split(" ")[0] for line in done.stdout.splitlines() if line.startswith("ERROR ")]
    assert ["test_plain", "test_in_a_thread", "test_swallowed", "test_by_a_shared_fixture"] == refused, done.stdout
    assert "6 passed, 4 errors" in done.stdout
