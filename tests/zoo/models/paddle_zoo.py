"""The same models as paddlenlp, ppdiffusers (both with paddle 2.6.2) and paddleformers (paddle 3.3.1) have them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import paddle
from planted import plant


def build(
    library: str,
    model: str,
    config: str,
    values: Mapping[str, Any],
    module: str = "",
    fault: Mapping[str, Any] | None = None,
) -> Any:
    """Return a model in eval mode; `Twin` explains the arguments.

    fault: is what is to be wrong with it, as `plant` takes it; None for the library's own model.
    """
    paddle.seed(1)
    package = _PACKAGES[library]()
    if not config:
        built = getattr(package, model)(**values)
    else:
        configuration = getattr(package, config)(**values)
        if library == "paddleformers":
            _for_one_cpu(configuration)
            package = importlib.import_module(f"{package.__name__}.{module}.modeling") if module else package
        built = getattr(package, model)(configuration)
    built.eval()
    if fault:
        plant(built, fault)
    return built


def _for_one_cpu(configuration: Any) -> None:
    """Choose code that a CPU runs: the fused RMSNorm has a kernel for GPUs alone."""
    configuration.fuse_rms_norm, configuration._attn_implementation = False, "eager"
    for name in ("tensor", "context", "pipeline", "expert"):
        for key in (f"{name}_model_parallel_size", f"{name}_parallel_size"):
            if hasattr(configuration, key):
                setattr(configuration, key, 1)


def _paddlenlp() -> ModuleType:
    _without_float8()
    hub = importlib.import_module("aistudio_sdk.hub")
    # paddlenlp 2.8.1 imports a function that aistudio_sdk 0.3.9 has no more. It would download a model.
    hub.__dict__.setdefault("download", None)
    return importlib.import_module("paddlenlp.transformers")


def _ppdiffusers() -> ModuleType:
    _paddlenlp()
    return importlib.import_module("ppdiffusers")


def _without_float8() -> None:
    """Give paddle 2.6 the names of float8 types that safetensors 0.8.0 asks it for."""
    for name in ("float8_e4m3fn", "float8_e5m2"):
        if not hasattr(paddle, name):
            setattr(paddle, name, None)


def _paddleformers() -> ModuleType:
    """Import it without paddlefleet and deep_ep, which have no builds for CPUs and of which nothing is used here."""
    provider = _stub("paddleformers.transformers.gpt_provider")
    provider.__dict__["GPTModelProvider"] = _Subclassed
    importlib.import_module("paddleformers")
    sys.modules[provider.__name__] = provider
    deep_ep = "paddle.distributed.communication.deep_ep"
    try:
        importlib.import_module(deep_ep)
    except ImportError:
        sys.modules[deep_ep] = _stub(deep_ep)
    return importlib.import_module("paddleformers.transformers")


class _Subclassed:
    """Stands for a base class whose subclasses are made with keywords."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        pass


def _stub(name: str) -> ModuleType:
    """Return a module that has an empty class of every name."""
    module = ModuleType(name)
    module.__dict__["__getattr__"] = lambda attribute: type(attribute, (), {})
    return module


_PACKAGES = {"paddlenlp": _paddlenlp, "ppdiffusers": _ppdiffusers, "paddleformers": _paddleformers}
