"""Small models of transformers and diffusers, with random weights."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import torch


def build(library: str, model: str, config: str, values: Mapping[str, Any]) -> Any:
    """Return a model in eval mode; `Twin` explains the arguments."""
    torch.manual_seed(0)
    package = importlib.import_module(library)
    if not config:
        return getattr(package, model)(**values).eval()
    configuration = getattr(package, config)(**values)
    # Written out in the layers' own code, as the paddle libraries have it on a CPU.
    configuration._attn_implementation = "eager"
    return getattr(package, model)(configuration).eval()
