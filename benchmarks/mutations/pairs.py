"""Healthy pairs whose raw side is mutated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Side:
    """One model of a pair.

    Attributes:
        framework: Its framework.
        place: `file.py:factory`; the file lies below the repository's root.
        model_args: The factory's keyword arguments.
        environment: The environment below `.venvs` in which it runs.
    """

    framework: str
    place: str
    model_args: Mapping[str, Any] = field(default_factory=dict)
    environment: str = ""

    @property
    def spec(self) -> str:
        """The SPEC of the model as it is."""
        return f"{self.framework}@{self.place}"

    @property
    def python(self) -> Path:
        """The Python of its environment."""
        return ROOT / ".venvs" / (self.environment or self.framework) / "bin" / "python"


@dataclass(frozen=True)
class MutatedPair:
    """A pair that is aligned as it is; `inputs` are forward's keyword arguments, `allow_extra` accepts what raw alone has."""

    name: str
    base: Side
    raw: Side
    inputs: Arrays
    allow_extra: tuple[str, ...] = ()


def tokens(below: int) -> Arrays:
    """Make random token ids [3, 8]."""
    return {"ids": np.random.default_rng(5).integers(0, below, (3, 8))}


def images() -> Arrays:
    """Make random images [4, 3, 16, 16]."""
    return {"image": np.random.default_rng(6).standard_normal((4, 3, 16, 16)).astype(np.float32)}


def _both(name: str, torch: str, paddle: str, inputs: Arrays, **model_args: Any) -> list[MutatedPair]:
    """Make two pairs of two models: each is raw once."""
    here, there = Side("torch", torch, model_args), Side("paddle", paddle, model_args)
    return [MutatedPair(name, here, there, inputs), MutatedPair(f"{name}_torch", there, here, inputs)]


def _small(name: str, factory: str, inputs: Arrays, **model_args: Any) -> list[MutatedPair]:
    models = "benchmarks/models"
    return _both(
        name, f"{models}/torch_small.py:{factory}", f"{models}/paddle_small.py:{factory}", inputs, **model_args
    )


def _transformers(name: str, **model_args: Any) -> list[MutatedPair]:
    torch, paddle = (f"benchmarks/models/{framework}_transformers.py:{name}" for framework in ("torch", "paddle"))
    sizes = {"layers": 2, "width": 32, "heads": 4, "vocabulary": 50, "length": 16}
    return _both(name, torch, paddle, tokens(50), **sizes, **model_args)


SMALL_PAIRS: tuple[MutatedPair, ...] = (
    *_both("gpt", "tests/models/gpt_torch.py:build", "tests/models/gpt_paddle.py:build", tokens(50), depth=2),
    *_transformers("bert"),
    *_transformers("decoder"),
    *_small("llama", "llama", tokens(60)),
    *_small("experts", "llama", tokens(60), experts=4),
    *_small("cnn_training", "cnn", images(), training=True),
    *_small("cnn_evaluation", "cnn", images(), training=False),
    *_small("gru", "gru", tokens(40)),
)
