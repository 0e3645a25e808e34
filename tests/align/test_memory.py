"""What the coordinator holds of each comparison is small, and nothing besides grows with their number."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, cast

import numpy as np

from padiff_rpc.align.run.judge_boundaries import Judge
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.run.pairing import Pairing
from padiff_rpc.align.run.threads import SideThreads
from padiff_rpc.align.sides import Sides, Traffic
from padiff_rpc.align.stages.compare_parameters import Compared, ParameterComparer
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import (
    Boundary,
    BoundarySide,
    LayerInfo,
    Model,
    ModelDescription,
    ParameterInfo,
    Phase,
    Record,
)
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import Digest, Statistics, Tensor, TensorStream
from padiff_rpc.v1 import model_pb2
from padiff_rpc.wire import serde

_LAYERS = 500
_PAIR_BYTES = 1500
"""What a judged boundary of one tensor may take, its pair in the result included (measured: 1,370, with a route)."""
_GRADIENT_BYTES = 700
_LAYER_BYTES = 700


class Traced:
    """Call it for the bytes in use since it was made; `peak` is then the greatest that there were."""

    def __init__(self) -> None:
        gc.collect()
        tracemalloc.start()
        self._begun = tracemalloc.get_traced_memory()[0]
        self.peak = 0

    def __call__(self) -> int:
        gc.collect()
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        self.peak = peak - self._begun
        return now - self._begun


class Numbered:
    """A model whose n-th tensor is made of n; raw's is a little larger."""

    def __init__(self, more: float) -> None:
        self._more = more
        self.read: Counter[int] = Counter()

    def tensor(self, number: int) -> Tensor:
        return Tensor.from_array(np.arange(6, dtype=np.float32).reshape(2, 3) * (number + 1.5) + np.float32(self._more))

    def digest(self, number: int) -> Digest:
        tensor = self.tensor(number)
        return digest(np.frombuffer(tensor.data, np.uint8), tensor.spec)

    def info(self) -> Any:
        return type("Info", (), {"recorded": False})

    def read_activations(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        self.read.update(number for number in ids if number == 0)
        return (self.tensor(number).stream(str(number)) for number in ids)

    def read_parameters(
        self, names: Sequence[str], what: str = "value", transposed: Collection[str] = ()
    ) -> Iterator[TensorStream]:
        return (self.tensor(int(name.split(".")[1])).stream(name) for name in names)

    def digest_parameters(
        self,
        names: Sequence[str],
        what: str = "value",
        transposed: Collection[str] = (),
        statistics: Statistics = Statistics.ALL,
    ) -> dict[str, Digest]:
        return {name: self.digest(int(name.split(".")[1])) for name in names}

    def boundary(self, seq: int, number: int, phase: Phase, side: BoundarySide) -> Boundary:
        record = Record(number, "0", self.tensor(number).spec, self.digest(number))
        return Boundary(seq, phase, f"layers.{seq}.fc", 0, side, (f"layers.{seq}", 0), (record,))


def sides() -> Sides:
    base, raw = cast(Model, Numbered(0.0)), cast(Model, Numbered(1e-6))
    return Sides(base, raw, CompareRules(), False, Traffic())


def models(both: Sides) -> tuple[Numbered, Numbered]:
    return cast(Numbered, both.base), cast(Numbered, both.raw)


def judge(judged_by: Judge, both: Sides, numbers: Sequence[int]) -> list[Judged]:
    base, raw = models(both)
    pairs = [tuple(one.boundary(number, number, "forward", "output") for one in (base, raw)) for number in numbers]
    return [one for base_one, raw_one in pairs for one in judged_by.judge([(base_one, raw_one)])]


def test_a_judged_boundary_takes_little() -> None:
    both = sides()
    wires: list[list[bytes]] = []
    for seq in range(2 * _LAYERS):
        phase, side = ("forward", "input") if seq % 2 else ("backward", "output")
        made = [one.boundary(seq, seq, cast(Phase, phase), cast(BoundarySide, side)) for one in models(both)]
        wires.append([serde.boundary_to_proto(boundary).SerializeToString() for boundary in made])
    judged_by, kept = Judge(both, 0), []
    pairing = Pairing({f"layers.{seq}.fc": f"layers.{seq}.fc" for seq in range(len(wires))})

    def take(wire: Sequence[bytes]) -> None:
        base, raw = (serde.boundary_from_proto(model_pb2.Boundary.FromString(one)) for one in wire)
        assert pairing.add("base", base) is None
        reached = pairing.add("raw", raw)
        assert reached is not None
        kept.extend(judged_by.judge([reached]))

    for wire in wires[:_LAYERS]:  # fills what is bounded: the verdicts and values that are known again
        take(wire)
    used = Traced()
    for wire in wires[_LAYERS:]:
        take(wire)
    assert {("pass", True)} == {(one.pairs[0].status, one.pairs[0].metrics is not None) for one in kept}
    assert used() < _PAIR_BYTES * _LAYERS


def test_comparing_parameters_holds_no_more_where_there_are_more_of_them() -> None:
    both = sides()
    held = {}
    for count in (1024, 4096):
        names = [f"layers.{number}.fc.weight" for number in range(count)]
        info = [ParameterInfo(name, "parameter", models(both)[0].tensor(0).spec, True) for name in names]
        described = ModelDescription("numpy", "Net", (), tuple(info))
        links = [
            ParameterLink(
                name.removesuffix(".weight"), name.removesuffix(".weight"), (name,), (name,), "identity", "parameter"
            )
            for name in names
        ]
        comparer = ParameterComparer(both, SideThreads(in_turn=True), PerSide(described, described))
        comparer.compare(0, "grads", links[:600], "gradient")
        used = Traced()
        compared: Compared = comparer.compare(0, "grads", links, "gradient")
        kept = used()
        assert count == len(compared.pairs)
        assert kept < _GRADIENT_BYTES * count
        held[count] = used.peak - kept
    assert held[4096] < 1.25 * held[1024]


def test_a_layer_of_a_description_takes_little() -> None:
    layers = tuple(
        LayerInfo(
            f"layers.{number}.fc",
            "Linear",
            "torch.nn.Linear",
            (),
            (f"layers.{number}.fc.weight",),
            {"in_features": 256, "out_features": 1024, "bias": False},
            True,
        )
        for number in range(_LAYERS)
    )
    spec = models(sides())[0].tensor(0).spec
    parameters = tuple(ParameterInfo(layer.parameters[0], "parameter", spec, True) for layer in layers)
    parts = [*serde.description_to_proto(ModelDescription("torch", "Net", layers, parameters))]
    del layers, parameters
    serde.description_from_proto(parts[:1])
    used = Traced()
    described = serde.description_from_proto(parts)
    assert _LAYERS == len(described.layers)
    assert used() < _LAYER_BYTES * _LAYERS


def test_contents_are_compared_once_while_they_come_again() -> None:
    both = sides()
    judged_by = Judge(both, 0)
    for number in range(1, 600):
        judge(judged_by, both, [0, number])
    assert 1 == models(both)[0].read[0]


def test_a_verdict_is_forgotten_after_many_others_and_comes_out_the_same_again() -> None:
    both = sides()
    judged_by = Judge(both, 0)
    (first,) = judge(judged_by, both, [0])
    judge(judged_by, both, range(1, 600))
    (again,) = judge(judged_by, both, [0])
    assert first == again
    assert 2 == models(both)[0].read[0]


def test_gradients_of_one_place_meet_in_their_order_however_far_a_side_is_ahead() -> None:
    both = sides()
    base, raw = models(both)
    pairing = Pairing({"layers.0.fc": "layers.0.fc"})
    met = []
    sent: Counter[SideName] = Counter()
    order: tuple[SideName, ...] = ("base", "raw", "base", "base", "raw", "base", "raw", "raw", "raw", "base")
    for side in order:
        made = (base if side == "base" else raw).boundary(0, sent[side], "backward", "input")
        sent[side] += 1
        reached = pairing.add(side, made)
        if reached is not None:
            met.append(tuple(boundary.records[0].id for boundary in reached))
    assert [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)] == met
