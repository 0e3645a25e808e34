"""Evidence made by hand, for the tests of the rules."""

from __future__ import annotations

from typing import Any

import numpy as np

from padiff_rpc.explain.causes.evidence import Evidence, SeenLayer
from padiff_rpc.explain.causes.find_causes import find_causes
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Cause


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Return normal numbers as float32 holds them."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(np.float64)


def rounded(array: Any, seed: int = 9) -> np.ndarray:
    """Return an array as float32 would have computed it."""
    noise = 1 + 6e-8 * np.random.default_rng(seed).standard_normal(np.shape(array))
    return (np.asarray(array) * noise).astype(np.float32).astype(np.float64)


def layers(class_name: str = "Net", raw_training: bool = False, **hyperparameters: Any) -> PerSide[SeenLayer]:
    """Return a layer of torch and the same of paddle."""
    return PerSide(
        SeenLayer("a", class_name, hyperparameters, "torch", "2.13.0"),
        SeenLayer("a", class_name, hyperparameters, "paddle", "3.3.1", training=raw_training),
    )


def evidence(base: Any = None, raw: Any = None, stage: Any = "forward", **changes: Any) -> Evidence:
    """Return evidence of two float32 tensors."""
    values: dict[str, Any] = {
        "stage": stage,
        "step": 0,
        "tensor": "output.0",
        "layers": layers(),
        "dtypes": PerSide("F32", "F32"),
        "base": None if base is None else np.asarray(base, np.float64),
        "raw": None if raw is None else np.asarray(raw, np.float64),
    }
    return Evidence(**{**values, **changes})


def first(given: Evidence) -> Cause:
    """Return the cause that comes first of all rules' causes."""
    return find_causes(given)[0]
