"""What doctor says of Pythons that can, cannot, or crash."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from padiff_clients.doctor import Diagnosis, diagnose


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give lines room for the paths of test folders, which pytest-xdist makes longer."""
    monkeypatch.setenv("COLUMNS", "500")


def fake(tmp_path: Path, body: str) -> str:
    """A program in the place of a Python; $3 is what it is asked."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


ALL = '"padiff-rpc": "1", "grpcio": "1", "protobuf": "1", "numpy": "1", "tenacity": "1", "xxhash": "1"'
PACKAGES = f'{{"python": "3.11.0", "packages": {{{ALL}}}, "installed": {{"torch": true, "paddle": false}}}}'


@pytest.mark.processes
def test_this_python_hosts_numpy_models_and_names_the_pip_lines(cli):
    result = cli("doctor", sys.executable)

    assert result.exit_code == 0
    assert "  hosts   numpy\n" in result.stdout
    assert f"  torch   missing: {sys.executable} -m pip install 'padiff-rpc[torch]'\n" in result.stdout
    assert f"  paddle  missing: {sys.executable} -m pip install 'padiff-rpc[paddle]'\n" in result.stdout


@pytest.mark.processes
def test_a_python_that_is_none_fails_beside_one_that_works(cli, tmp_path: Path):
    result = cli("doctor", sys.executable, tmp_path / "none")

    assert result.exit_code == 2
    assert "cannot be run: No such file or directory" in result.stdout
    assert "  hosts   numpy\n" in result.stdout


@pytest.mark.processes
def test_a_python_without_our_packages_is_told_what_it_lacks(cli, tmp_path: Path):
    python = fake(tmp_path, "echo '" + PACKAGES.replace('"padiff-rpc": "1"', '"padiff-rpc": null') + "'")

    result = cli("doctor", python)

    assert result.exit_code == 2
    assert f"  lacks   padiff-rpc: {python} -m pip install padiff-rpc\n" in result.stdout


@pytest.mark.processes
def test_a_framework_that_crashes_when_imported_is_said_and_not_counted(tmp_path: Path):
    python = fake(tmp_path, f"test \"$3\" = torch && kill -SEGV $$; echo 'noise'; echo '{PACKAGES}'")

    found = diagnose(python)

    assert found.hosts == ["numpy"]
    assert found.frameworks["torch"] == {"error": "crashed with signal 11"}


@pytest.mark.processes
def test_a_framework_that_raises_when_imported_shows_its_last_line(tmp_path: Path):
    python = fake(tmp_path, f"test \"$3\" = torch && echo 'ImportError: libgomp' >&2 && exit 1; echo '{PACKAGES}'")

    assert diagnose(python).frameworks["torch"] == {"error": "failed with exit status 1: ImportError: libgomp"}


@pytest.mark.processes
def test_a_framework_that_works_is_hosted(tmp_path: Path):
    python = fake(
        tmp_path, f'test "$3" = torch && echo \'{{"version": "2.13.0", "devices": ["cpu"]}}\' || echo \'{PACKAGES}\''
    )

    assert diagnose(python).hosts == ["torch", "numpy"]


@pytest.mark.parametrize(("missing", "expected"), [([], ["numpy"]), (["grpcio"], [])])
def test_what_a_worker_needs_decides(missing: list[str], expected: list[str]):
    packages: dict[str, str | None] = {"padiff-rpc": "1", "grpcio": "1", **dict.fromkeys(missing)}

    assert Diagnosis("p", "", "3.11", packages, {"torch": {}, "paddle": {}}).hosts == expected
