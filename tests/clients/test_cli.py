"""The entry point: started as a module, without its dependencies, and with its output cut off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from padiff_rpc.version import __version__

REPOSITORY = Path(__file__).parents[2]
MODELS = "numpy@tests/models/numpy_models.py"

pytestmark = pytest.mark.processes


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False
    )


def test_the_module_runs_the_command_line():
    done = python("-m", "padiff_clients", "--version")

    assert (done.returncode, done.stdout) == (0, f"padiff-rpc, version {__version__}\n")


@pytest.mark.parametrize("package", ["click", "rich", "pydantic"])
def test_a_missing_dependency_is_answered_with_the_pip_line(package: str):
    done = python(
        "-c",
        f"import sys; sys.modules[{package!r}] = None; from padiff_clients.cli import main; sys.exit(main())",
        "doctor",
    )

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        f"error: the command line needs {package}, which this Python lacks\n"
        f"hint: {sys.executable} -m pip install 'padiff-rpc[cli]'\n"
    )


def test_a_module_of_ours_that_cannot_be_imported_is_not_blamed_on_the_environment():
    done = python(
        "-c",
        "import sys; sys.modules['padiff_rpc.tensors.tensor'] = None; from padiff_clients.cli import main; sys.exit(main())",
    )

    assert done.returncode == 3
    assert "pip install" not in done.stderr
    assert "padiff_rpc.tensors.tensor" in done.stderr


def test_a_reader_that_goes_away_leaves_the_exit_status_as_it_is():
    script = f"{sys.executable} -m padiff_clients inspect {MODELS}:deep --model-arg depth=50"
    script += " | head -c 1 >/dev/null; echo ${PIPESTATUS[0]}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, cwd=REPOSITORY, check=False
    )

    assert (done.stdout, done.stderr) == ("0\n", "")
