"""The architectures in which bugs are planted, and how a pair of one is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import Inputs
from padiff_rpc.tensors.tensor import DType, Tensor

ROOT = Path(__file__).resolve().parents[2]
MODELS = "benchmarks/models/ported"
Framework = Literal["torch", "paddle"]
FRAMEWORKS: tuple[Framework, ...] = ("paddle", "torch")
Precision = Literal["float64", "float32", "bfloat16", "float16"]
Arrays = Mapping[str, np.ndarray]


def _tokens(rng: np.random.Generator) -> Arrays:
    return {"ids": rng.integers(0, 50, (2, 32))}


def _short_tokens(rng: np.random.Generator) -> Arrays:
    return {"ids": rng.integers(0, 50, (2, 7))}


def _images(rng: np.random.Generator) -> Arrays:
    return {"image": rng.standard_normal((4, 3, 16, 16)).astype(np.float32)}


def _noisy_images(rng: np.random.Generator) -> Arrays:
    return {
        "image": rng.standard_normal((2, 3, 16, 16)).astype(np.float32),
        "t": np.array([7.0, 333.0], np.float32),
    }


def _padded_tokens(rng: np.random.Generator) -> Arrays:
    ids, mask = rng.integers(1, 50, (3, 10)), np.ones((3, 10), np.int64)
    for row, length in enumerate((10, 7, 5)):
        ids[row, length:] = 0
        mask[row, length:] = 0
    return {"ids": ids, "mask": mask}


def _padded_sequences(rng: np.random.Generator) -> Arrays:
    ids = rng.integers(1, 40, (3, 8))
    lengths = np.array([7, 5, 3])
    for row, length in enumerate(lengths):
        ids[row, length:] = 0
    return {"ids": ids, "lengths": lengths}


def _translated(rng: np.random.Generator) -> Arrays:
    return {**_padded_tokens(rng), "labels": rng.integers(1, 50, (3, 6))}


INPUTS: Mapping[str, Callable[[np.random.Generator], Arrays]] = {
    "cnn": _images,
    "vit": _images,
    "encoder": _padded_tokens,
    "decoder": _tokens,
    "moe": _short_tokens,
    "lstm": _padded_sequences,
    "unet": _noisy_images,
    "t5": _translated,
}
"""Architecture -> what draws its inputs."""


@dataclass(frozen=True)
class Run:
    """A pair, and how it is run.

    Attributes:
        architecture: A name in INPUTS.
        raw: Raw's framework; base's is always torch.
        base_args: Arguments of base's factory.
        raw_args: Arguments of raw's factory.
        dtype: What both models are cast to.
        training: The models' mode.
        loss: Base's loss: a function of torch_training.py; "" for a projection.
        raw_loss: Raw's loss, in the training file of its framework.
        optimizer: Base's optimiser, "" for none; raw_optimizer: raw's.
        steps: How many steps.
    """

    architecture: str
    raw: Framework = "paddle"
    base_args: Mapping[str, Any] = field(default_factory=dict)
    raw_args: Mapping[str, Any] = field(default_factory=dict)
    dtype: Precision = "float32"
    training: bool = True
    loss: str = ""
    raw_loss: str = ""
    optimizer: str = ""
    raw_optimizer: str = ""
    steps: int = 1

    @property
    def name(self) -> str:
        """The architecture, and what is not as usual."""
        parts = [self.architecture, "torch" * (self.raw == "torch"), "eval" * (not self.training)]
        return "-".join(part for part in (*parts, self.dtype * (self.dtype != "float32")) if part)

    def spec(self, framework: Framework) -> str:
        """The SPEC of this architecture in a framework, from the repository's root."""
        return f"{framework}@{MODELS}/{framework}_{self.architecture}.py:build"

    @property
    def full_args(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Base's and raw's arguments, with the mode; raw's seed is another, so that its weights are base's by assignment."""
        return (
            {"training": self.training, **self.base_args},
            {"training": self.training, "seed": 1, **self.raw_args},
        )

    def inputs(self, seed: int) -> Inputs:
        """Draw the inputs, floating ones in the run's dtype."""
        arrays = INPUTS[self.architecture](np.random.default_rng(100 + seed))
        return as_inputs({name: _cast(array, self.dtype) for name, array in arrays.items()})


def _cast(array: np.ndarray, dtype: Precision) -> Tensor:
    if array.dtype.kind != "f":
        return Tensor.from_array(array)
    if dtype == "bfloat16":
        halves = array.astype("<f4").view("<u4") + 0x8000 >> 16
        return Tensor.from_array(halves.astype("<u2"), DType.BF16)
    return Tensor.from_array(array.astype(dtype))


def environment(framework: Framework) -> Path:
    """The Python of a framework's environment."""
    return ROOT / ".venvs" / framework / "bin" / "python"


def training_file(framework: Framework) -> str:
    """Where the losses and optimisers of a framework are."""
    return f"{MODELS}/{framework}_training.py"
