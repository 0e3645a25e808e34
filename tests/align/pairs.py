"""NumPy models in this process, and their inputs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from padiff_rpc.inputs import as_inputs
from padiff_rpc.model.hosted import HostedModel
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


def hosted(factory: str, **model_args: Any) -> HostedModel:
    return HostedModel.from_spec(f"numpy@{MODELS}:{factory}", model_args=model_args)


def inputs_of(factory: str) -> Any:
    return as_inputs(getattr(_models(), INPUTS[factory])())


@cache
def _models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("numpy_models_inputs", MODELS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
