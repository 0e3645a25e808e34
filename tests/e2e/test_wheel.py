"""The built wheel, installed into a clean environment, does the main job: not only the editable tree does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.workers import MODELS, ROOT

pytestmark = pytest.mark.e2e


def run(*command: object, status: int = 0) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, cwd="/")
    assert status == done.returncode, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_aligns_a_pair_and_finds_a_planted_bug(tmp_path: Path) -> None:
    pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
    run(sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("padiff_rpc-*.whl")
    run(sys.executable, "-m", "venv", tmp_path / "clean")
    binaries = tmp_path / "clean" / "bin"
    run(binaries / "python", *pip, "install", f"{wheel}[cli]")
    models = f"numpy@{MODELS / 'numpy_models.py'}"
    common = ("--base", f"{models}:mlp", "--inputs", f"{MODELS / 'numpy_models.py'}:vectors")
    assert "ALIGNED" in run(binaries / "padiff-rpc", "diff", *common, "--raw", f"{models}:mlp")
    assert "DIFFERS" in run(binaries / "padiff-rpc", "diff", *common, "--raw", f"{models}:mlp_wrong_scale", status=1)
