"""The budgets of a store are shares of what the machine has."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from padiff_rpc.model.store import budgets
from padiff_rpc.model.store.store import Store

GIB = 1 << 30


@pytest.mark.parametrize(
    ("machine", "expected"),
    [(1 * GIB, GIB // 4), (4 * GIB, GIB // 4), (16 * GIB, GIB), (64 * GIB, 4 * GIB), (1024 * GIB, 4 * GIB)],
)
def test_memory_is_a_sixteenth_within_bounds(machine: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "memory_bytes", lambda: machine)
    assert expected == budgets.default_memory_bytes()


@pytest.mark.parametrize(("free", "expected"), [(0, 0), (8 * GIB, 2 * GIB), (1024 * GIB, 64 * GIB)])
def test_disk_is_a_quarter_of_what_is_free_within_bounds(
    free: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=free))
    assert expected == budgets.default_disk_bytes()
    assert [str(tmp_path)] == asked


def test_without_a_folder_for_the_spill_file_there_is_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    assert 0 == budgets.default_disk_bytes()


@pytest.mark.parametrize(
    ("limits", "group", "expected"),
    [
        ({}, "0::/\n", None),
        ({"memory.max": "max"}, "0::/\n", None),
        ({"memory.max": "1000"}, "0::/\n", 1000),
        ({"outer/memory.max": "2000", "outer/inner/memory.max": "3000"}, "0::/outer/inner\n", 2000),
        ({"outer/memory.max": "2000", "outer/inner/memory.max": "max"}, "0::/outer/inner\n", 2000),
        ({"other/memory.max": "1"}, "0::/outer\n", None),
        ({"memory/memory.limit_in_bytes": "4000"}, "5:cpu,cpuacct:/x\n4:memory:/\n", 4000),
        ({"memory/memory.limit_in_bytes": str(1 << 63)}, "4:memory:/\n", None),
    ],
)
def test_a_containers_limit_counts_as_the_machines_memory(
    limits: dict[str, str], group: str, expected: int | None, tmp_path: Path
) -> None:
    for name, text in limits.items():
        path = tmp_path / "system" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (tmp_path / "process").write_text(group)
    machine = budgets.memory_bytes(tmp_path / "nothing", tmp_path / "nothing")
    assert (expected or machine) == budgets.memory_bytes(tmp_path / "system", tmp_path / "process")
    assert machine > 1 << 20


def test_a_store_takes_them_and_zero_is_a_budget() -> None:
    store = Store()
    assert budgets.default_memory_bytes() == store.memory_budget_bytes
    assert 0 < store.disk_budget_bytes <= budgets.DISK_MOST_BYTES
    assert (0, 0) == (Store(0, 0).memory_budget_bytes, Store(0, 0).disk_budget_bytes)
