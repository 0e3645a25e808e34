"""NumPy models in this process, and their inputs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import LayerInfo, ModelDescription, ModelInfo
from padiff_rpc.result import Result

MODELS = Path(__file__).resolve().parents[1] / "models" / "numpy_models.py"
INPUTS = {
    "mlp": "vectors",
    "mlp_wrong_scale": "vectors",
    "deep": "vectors",
    "shared": "vectors",
    "calls": "vectors",
    "tuple_outputs": "vectors",
    "random": "vectors",
    "bert_like": "tokens",
    "conv_net": "images",
    "tied": "ids",
}
AlignPair = Callable[..., Result]


class Claimed:
    """A NumPy model that says that it is of another framework; classes: NumPy class -> the path that it goes by."""

    def __init__(self, framework: str, model: Any, classes: Mapping[str, str]) -> None:
        self._framework = framework
        self._model = HostedModel(model)
        self._classes = classes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def describe(self) -> ModelDescription:
        described = self._model.describe()
        return replace(
            described, framework=self._framework, layers=tuple(self._claimed(layer) for layer in described.layers)
        )

    def _claimed(self, layer: LayerInfo) -> LayerInfo:
        path = self._classes.get(layer.class_name, layer.class_path)
        return replace(layer, class_name=path.rpartition(".")[2], class_path=path)


def hosted(factory: str, **model_args: Any) -> HostedModel:
    return HostedModel.from_spec(f"numpy@{MODELS}:{factory}", model_args=model_args)


def inputs_of(factory: str) -> Any:
    return as_inputs(getattr(models(), INPUTS[factory])())


@cache
def models() -> ModuleType:
    """Load the models' file under a name of its own: a worker's class paths must not depend on who imported it before."""
    spec = importlib.util.spec_from_file_location("numpy_models_inputs", MODELS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Elsewhere:
    """A model that says that it lives in another process, so that both sides run at once."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def info(self) -> ModelInfo:
        return replace(self._model.info(), pid=0)
