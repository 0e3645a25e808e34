"""The built wheel, installed into a clean environment, does the main job: not only the editable tree does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from padiff_rpc.version import __version__
from tests.e2e.workers import MODELS, ROOT

pytestmark = pytest.mark.e2e

PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")


def run(*command: object, status: int = 0, path: Path | None = None) -> str:
    """Run a command away from the tree, with `path` first on PATH, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, cwd="/", env=environment
    )
    assert status == done.returncode, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment that holds the wheel, the command line's needs, and nothing of the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", folder, ROOT)
    (wheel,) = folder.glob("padiff_rpc-*.whl")
    run(sys.executable, "-m", "venv", folder / "clean")
    programs = folder / "clean" / "bin"
    run(programs / "python", *PIP, "install", f"{wheel}[cli]")
    return programs


def test_the_wheel_aligns_a_pair_and_finds_a_planted_bug(binaries: Path) -> None:
    models = f"numpy@{MODELS / 'numpy_models.py'}"
    common = ("--base", f"{models}:mlp", "--inputs", f"{MODELS / 'numpy_models.py'}:vectors")
    assert "ALIGNED" in run(binaries / "padiff-rpc", "diff", *common, "--raw", f"{models}:mlp")
    assert "DIFFERS" in run(binaries / "padiff-rpc", "diff", *common, "--raw", f"{models}:mlp_wrong_scale", status=1)


def test_the_wheel_and_its_command_line_bear_the_version_of_the_tree(binaries: Path) -> None:
    installed = "from importlib import metadata; print(metadata.version('padiff-rpc'))"
    assert f"{__version__}\n" == run(binaries / "python", "-c", installed)
    assert f"padiff-rpc, version {__version__}\n" == run(binaries / "padiff-rpc", "--version")


@pytest.mark.parametrize("package", ["padiff_rpc", "padiff_servers", "padiff_clients"])
def test_all_public_types_of_the_wheel_are_known_to_a_type_checker(binaries: Path, package: str) -> None:
    # With --verifytypes pyright takes the first Python on PATH, and disregards --pythonpath.
    pyright = (sys.executable, "-m", "pyright", "--ignoreexternal", "--verifytypes", package)
    assert "Type completeness score: 100%" in run(*pyright, path=binaries)
