"""Comparisons, boundaries, descriptions and models made by hand, for tests of one module of align alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from padiff_rpc.align.run.judged_boundary import BoundaryPlace, Judged
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import (
    BoundarySide,
    LayerCall,
    LayerInfo,
    ModelDescription,
    ModelInfo,
    ParameterInfo,
    ParameterKind,
    What,
)
from padiff_rpc.result import Failure, Metrics, Pair, Stage, Status
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import Digest, Statistics, Tensor, TensorStream

METRICS = Metrics(
    max_abs=0.0,
    max_rel=0.0,
    mean_abs=0.0,
    rel_l2=0.0,
    cosine=1.0,
    mismatched=0,
    total=1,
    nan=0,
    inf=0,
    index=(0,),
    allowed=1.0,
    measured=0.0,
    measure="rel_l2",
)


def pair(
    stage: Stage = "forward",
    route: str = "fc",
    tensor: str = "output.0",
    status: Status = "pass",
    why: str = "",
    failure: Failure = "",
    metrics: Metrics | None = METRICS,
    step: int = 0,
) -> Pair:
    """Return a comparison; raw's route is base's."""
    return Pair(step, stage, route, route, 0, tensor, status, why, failure, metrics)


def failing(stage: Stage = "forward", route: str = "fc", tensor: str = "output.0", failure: Failure = "values") -> Pair:
    return pair(stage, route, tensor, "fail", f"they differ in {failure}", failure)


def judged(
    seq: int,
    route: str,
    side: BoundarySide,
    *pairs: Pair,
    caller: LayerCall | None = ("", 0),
    call: int = 0,
    has_nan: bool = False,
    square: float = 0.0,
    l1: float = 0.0,
    api: bool = False,
) -> Judged:
    """Return a judged boundary, which both sides reached at the same place."""
    place = BoundaryPlace(seq, route, call, side, caller, api)
    return Judged(place, place, pairs, None, has_nan, False, square, l1, None)


def layer(route: str, class_name: str = "Linear", training: bool = False, **hyperparameters: Any) -> LayerInfo:
    return LayerInfo(route, class_name, f"nn.{class_name}", (), (), hyperparameters, training)


def described(
    *layers: LayerInfo, parameters: Sequence[ParameterInfo] = (), framework: str = "numpy"
) -> ModelDescription:
    return ModelDescription(framework, "Net", layers, tuple(parameters))


def link(base: str, raw: str = "", rule: str = "identity", kind: ParameterKind = "parameter") -> ParameterLink:
    """Return the link of one tensor with one, of the same name where no other is given."""
    raw = raw or base
    return ParameterLink(base.rpartition(".")[0], raw.rpartition(".")[0], (base,), (raw,), rule, kind)


class HeldModel:
    """A model that holds tensors by name and cannot run: the part of a Model that the stages after the backward need.

    Attributes:
        values: the tensors' values.
        gradients: the gradients of some of them.
        written: the names that were written, in order.
        asked: the names that each call of digest_parameters or read_parameters asked for.
    """

    def __init__(
        self, values: Mapping[str, Any], gradients: Mapping[str, Any] | None = None, recorded: bool = False
    ) -> None:
        self.values = {name: _tensor(value) for name, value in values.items()}
        self.gradients = {name: _tensor(value) for name, value in (gradients or {}).items()}
        self.written: list[str] = []
        self.asked: list[list[str]] = []
        self._recorded = recorded

    def info(self) -> ModelInfo:
        return ModelInfo("numpy", "0", "cpu", "3.11", {}, "0", "here", 1, recorded=self._recorded)

    def describe(self) -> ModelDescription:
        return described(parameters=[ParameterInfo(name, "parameter", t.spec, True) for name, t in self.values.items()])

    def set(self, name: str, value: Any) -> None:
        self.values[name] = _tensor(value)

    def array(self, name: str) -> np.ndarray:
        return self.values[name].to_array()

    def read_parameters(
        self, names: Sequence[str], what: What = "value", transposed: Collection[str] = ()
    ) -> Iterator[TensorStream]:
        self.asked.append(list(names))
        for name, tensor in self._held(names, what):
            yield (Tensor.from_array(tensor.to_array().T) if name in transposed else tensor).stream(name)

    def digest_parameters(
        self,
        names: Sequence[str],
        what: What = "value",
        transposed: Collection[str] = (),
        statistics: Statistics = Statistics.ALL,
    ) -> dict[str, Digest]:
        self.asked.append(list(names))
        found = {}
        for name, tensor in self._held(names, what):
            turned = Tensor.from_array(tensor.to_array().T) if name in transposed else tensor
            found[name] = digest(np.frombuffer(turned.data, np.uint8), turned.spec, statistics)
        return found

    def write_parameters(self, tensors: Iterable[TensorStream]) -> None:
        for stream in tensors:
            self.values[stream.name] = stream.collect()
            self.written.append(stream.name)

    def _held(self, names: Sequence[str], what: What) -> list[tuple[str, Tensor]]:
        held = {"value": self.values, "gradient": self.gradients}[what]
        return [(name, held[name]) for name in names if name in held]


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else Tensor.from_array(np.asarray(value, np.float32))


def measured(**figures: Any) -> Metrics:
    return replace(METRICS, **figures)
