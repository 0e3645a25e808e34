"""The cases: pairs of one model in torch (base) and in paddle (raw), with the inputs of one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from padiff_rpc.errors import PadiffError, Reason

Framework = Literal["torch", "paddle"]
FRAMEWORKS: tuple[Framework, Framework] = ("torch", "paddle")
ROOT = Path(__file__).resolve().parents[1]
_MODELS = ROOT / "benchmarks" / "models"
_RESNET = ROOT / "examples" / "resnet50"


@dataclass(frozen=True)
class Case:
    """One pair. `files`: where each framework's factory is; both take `model_args` and a seed. All run in training mode."""

    name: str
    files: Mapping[Framework, Path]
    factory: str
    inputs: Callable[[], dict[str, np.ndarray]]
    model_args: Mapping[str, Any] = field(default_factory=dict)

    def place(self, framework: Framework) -> str:
        """Return `FILE.py:FACTORY`."""
        return f"{self.files[framework]}:{self.factory}"

    def arguments(self, framework: Framework) -> dict[str, Any]:
        """Return the factory's arguments; raw's seed is another, so that its weights are base's only by assignment."""
        return {**self.model_args, "seed": FRAMEWORKS.index(framework)}


def case_of(name: str) -> Case:
    """Return a case by name; `depth-N` is a narrow decoder of N layers. BAD_CONFIG for an unknown one."""
    kind, _, number = name.partition("-")
    if kind == "depth" and number.isdigit():
        return _decoder(name, layers=int(number), width=256, heads=4, vocabulary=1000, length=128)
    found = [case for case in (*CASES, *_TINY) if case.name == name]
    if not found:
        known = ", ".join(case.name for case in CASES)
        raise PadiffError(
            f"there is no case {name!r}", reason=Reason.BAD_CONFIG, hint=f"there are {known}, and depth-N"
        )
    return found[0]


def tensor_case(mib: int, zeros: bool = False) -> Case:
    """A pair that holds one tensor of that size as its parameter. Raw's is larger by a millionth part; or both are zero."""
    return Case(f"{mib} MiB", _files(_MODELS, "tensor"), "build", dict, {"mib": mib, "zeros": zeros})


def wide_case(parameters: int) -> Case:
    """A decoder of 12 layers with about so many parameters, and few tokens, so that these are what takes memory."""
    layers, head = 12, 64
    width = max(head, round((parameters / (12 * layers)) ** 0.5 / head) * head)
    return _decoder(f"width {width}", layers=layers, width=width, heads=width // head, vocabulary=1000, length=64)


def _files(folder: Path, stem: str) -> dict[Framework, Path]:
    return {framework: folder / f"{framework}_{stem}.py" for framework in FRAMEWORKS}


def _images() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((4, 3, 224, 224), np.float32)}


def _ids(batch: int, length: int, vocabulary: int) -> Callable[[], dict[str, np.ndarray]]:
    return lambda: {"ids": np.random.default_rng(0).integers(0, vocabulary, (batch, length))}


def _transformer(name: str, factory: str, batch: int, tokens: int, sizes: dict[str, int]) -> Case:
    return Case(name, _files(_MODELS, "transformers"), factory, _ids(batch, tokens, sizes["vocabulary"]), sizes)


def _bert(name: str, batch: int, tokens: int, **sizes: int) -> Case:
    return _transformer(name, "bert", batch, tokens, sizes)


def _decoder(name: str, **sizes: int) -> Case:
    """One sequence as long as the model takes."""
    return _transformer(name, "decoder", 1, sizes["length"], sizes)


CASES = (
    Case("resnet50", _files(_RESNET, "model"), "build", _images),
    _bert("bert", 2, 128, layers=12, width=768, heads=12, vocabulary=30522, length=512),
    _decoder("decoder", layers=24, width=1024, heads=16, vocabulary=32000, length=128),
)
_TINY = (
    _bert("tiny_bert", 2, 8, layers=2, width=32, heads=4, vocabulary=50, length=16),
    _decoder("tiny_decoder", layers=2, width=32, heads=4, vocabulary=50, length=16),
)
"""For tests of the benchmark itself."""
