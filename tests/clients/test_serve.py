"""serve: the process becomes the worker, with every option passed on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

WORKER = [sys.executable, "-m", "padiff_servers"]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: calls.append((program, arguments)))
    return calls


def test_every_option_reaches_the_worker(cli, executed):
    result = cli("serve", "torch@m.py:build", "--listen", "127.0.0.1:0", "--token-file=t", "--insecure")

    assert result.exit_code == 0
    assert executed == [
        (
            sys.executable,
            [*WORKER, "torch@m.py:build", "--listen", "127.0.0.1:0", "--token-file=t", "--insecure"],
        )
    ]


def test_python_chooses_the_environment(cli, executed, tmp_path: Path):
    python = tmp_path / "python"
    python.symlink_to(sys.executable)

    cli("serve", "--python", python, "torch@m.py:build")

    assert executed == [(str(python), [str(python), "-m", "padiff_servers", "torch@m.py:build"])]


def test_a_python_that_is_none_is_bad_usage(cli, executed):
    result = cli("serve", "--python", "/none/python", "torch@m.py:build")

    assert result.exit_code == 2
    assert "there is no program '/none/python'" in result.stderr
    assert executed == []


def test_a_spec_is_needed(cli, executed):
    assert cli("serve").exit_code == 2
    assert executed == []
