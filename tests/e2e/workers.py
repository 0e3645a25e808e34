"""Start workers in the environments that the Makefile makes; one that is missing fails the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from padiff_rpc.remote.launch import launch
from padiff_rpc.remote.remote_model import RemoteModel

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests" / "models"


def python_of(environment: str) -> Path:
    python = ROOT / ".venvs" / environment / "bin" / "python"
    assert python.exists(), f"{python} is missing: run `make env`"
    return python


def start(file: Path, environment: str, factory: str = "build", **options: Any) -> RemoteModel:
    """Launch `file:factory` in an environment, whose name begins with the framework's."""
    framework = environment.partition("-")[0]
    return launch(f"{framework}@{file}:{factory}", python=python_of(environment), **options)
