"""Start workers in the environments that the Makefile makes; one that is missing fails the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from padiff_rpc.remote.launch import launch
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.tensors.tensor import Tensor, collect_all

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


class SharedWorkers:
    """Workers that several tests use one after the other; each test finds the parameters as they were built."""

    def __init__(self) -> None:
        self._free: dict[str, tuple[RemoteModel, dict[str, Tensor]]] = {}

    @contextmanager
    def lend(self, file: Path, environment: str, **options: Any) -> Iterator[RemoteModel]:
        """Launch a worker as start() does, or take one that was launched so; one whose test fails is not lent again."""
        key = repr((file, environment, sorted(options.items())))
        if key in self._free:
            model, built = self._free.pop(key)
        else:
            model = start(file, environment, **options)
            built = collect_all(model.read_parameters([info.name for info in model.describe().parameters]))
        try:
            model.write_parameters(tensor.stream(name) for name, tensor in built.items())
            yield model
        except BaseException:
            model.close()
            raise
        if key in self._free:  # a test that takes two of a kind
            model.close()
        else:
            self._free[key] = model, built

    def close(self) -> None:
        for model, _ in self._free.values():
            model.close()
