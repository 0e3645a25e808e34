"""The parts of the benchmark: none is left out, and what they read of processes is right."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from benchmarks import parts
from benchmarks.cases import CASES, ROOT, case_of, wide_case
from benchmarks.child import Child
from benchmarks.memory import peak_bytes, tree_bytes
from padiff_rpc.errors import PadiffError, Reason

HOLDS = "import sys; held = bytearray(64 << 20); print('{}', flush=True); sys.stdin.read()"


def test_a_part_that_fails_is_a_row_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(rounds: int, tell: object) -> list[parts.Figure]:
        raise PadiffError("no ring", reason=Reason.INTERNAL)

    monkeypatch.setitem(parts.OTHER_PARTS, "transfer", fail)
    (row,) = parts.measure_part("transfer", 1, str)
    assert "not taken" == row.verdict
    assert "no ring" in row.note


def test_a_case_whose_processes_do_not_start_is_a_row_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(case: object) -> object:
        raise PadiffError("no paddle", reason=Reason.BAD_CONFIG)

    monkeypatch.setattr(parts, "running", fail)
    (row,) = parts.measure_case(CASES[0], ["steps"], 1, str)
    assert ("not taken", "resnet50") == (row.verdict, row.case)
    assert "no paddle" in row.note


def test_an_unknown_case_is_refused() -> None:
    with pytest.raises(PadiffError, match="no case 'gpt'") as caught:
        case_of("gpt")
    assert Reason.BAD_CONFIG is caught.value.reason


def test_the_sides_of_a_case_start_from_other_weights() -> None:
    assert (0, 1) == tuple(CASES[1].arguments(framework)["seed"] for framework in ("torch", "paddle"))


def test_a_wide_case_has_about_the_parameters_asked_for() -> None:
    sizes = wide_case(1_600_000_000).model_args
    assert 12 * sizes["layers"] * sizes["width"] ** 2 == pytest.approx(1.6e9, rel=0.05)
    assert 0 == sizes["width"] % sizes["heads"]


def test_nothing_of_ours_runs_in_a_bare_process() -> None:
    tree = ast.parse((ROOT / "benchmarks" / "bare.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert set() == {name for name in names if name.partition(".")[0] in ("padiff_rpc", "benchmarks", "padiff_servers")}


@pytest.mark.processes
def test_the_memory_of_a_process_tree_counts_its_children() -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDS!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert peak_bytes(process.pid) < 64 << 20
        assert tree_bytes(process.pid) > 64 << 20
        process.communicate()


@pytest.mark.processes
def test_a_child_that_dies_says_how() -> None:
    with pytest.raises(PadiffError, match="the child ended with status 3:\nout of luck"):
        Child("the child", [sys.executable, "-c", "import sys; sys.stderr.write('out of luck'); sys.exit(3)"], cwd=ROOT)
