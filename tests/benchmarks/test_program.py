"""The benchmark's command line: what it refuses before it measures anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import processes
from benchmarks.__main__ import main


def test_an_unknown_case_is_bad_usage() -> None:
    done = CliRunner().invoke(main, ["--case", "gpt"])
    assert 2 == done.exit_code
    assert "there is no case 'gpt'" in done.output


def test_a_missing_environment_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "ROOT", tmp_path)
    done = CliRunner().invoke(main, ["--case", "bert"])
    assert 2 == done.exit_code
    assert f"there is no {tmp_path}/.venvs/torch/bin/python" in done.output
    assert "make env" in done.output
