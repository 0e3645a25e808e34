"""repeat: each side's step is run again, and the first layer that does not compute the same bits is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.numpy_framework.functions import seed_generator
from padiff_rpc.report.json_file import write_result
from padiff_rpc.result import Result
from padiff_rpc.tensors.tensor import Tensor as Plain

INPUTS = {"x": Plain.from_array(np.random.default_rng(3).standard_normal((6, 16)).astype(np.float32))}
UNSEEDED = np.random.default_rng(0)


class Scaled(nn.Layer):
    """A layer that no seed makes repeat itself, by less than any tolerance sees."""

    def __init__(self, noise: float) -> None:
        super().__init__()
        self._noise = noise

    def forward(self, x: Tensor) -> Tensor:
        return x * Tensor(np.float32(1 + self._noise * UNSEEDED.random())) if self._noise else x


class Net(nn.Layer):
    def __init__(self, noise: float = 0.0, rate: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(16, 16)
        self.drop = nn.Dropout(rate)
        self.scaled = Scaled(noise)
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.scaled(self.drop(self.first(x))))


def run(base: HostedModel, raw: HostedModel, **settings: Any) -> Result:
    return align(base, raw, INPUTS, INPUTS, AlignSettings(**{"repeat": 2, "training": True, **settings}))


def test_a_layer_that_is_not_deterministic_is_named_with_its_side() -> None:
    result = run(HostedModel(Net()), HostedModel(Net(noise=1e-6)), repeat=3)
    found = result.figures["repeat"]
    assert result.aligned  # by less than the tolerance
    assert found["base"] == {"runs": 3, "deterministic": True, "first": None, "why_not": ""}
    assert found["raw"]["deterministic"] is False
    assert found["raw"]["first"] == {
        "route": "scaled",
        "class_name": "Scaled",
        "stage": "forward",
        "call": 0,
        "tensor": "output.0",
        "run": 2,
    }
    assert "base is deterministic: 3 runs of the step gave the same bits" in result.notes
    assert any(note.startswith("raw is not deterministic") and "scaled (Scaled)" in note for note in result.notes)


def test_a_seed_makes_dropout_deterministic_and_without_one_it_is_named() -> None:
    seeded = run(HostedModel(Net(rate=0.5)), HostedModel(Net(rate=0.5)))
    assert [one["deterministic"] for one in seeded.figures["repeat"].values()] == [True, True]
    loose = run(HostedModel(Net(rate=0.5)), HostedModel(Net(rate=0.5)), seed=None)
    assert [one["first"]["route"] for one in loose.figures["repeat"].values()] == ["drop", "drop"]


def test_two_runs_write_the_same_file_but_for_timings(tmp_path: Path) -> None:
    def written(name: str) -> Any:
        seed_generator(5)
        base, raw = HostedModel(Net(rate=0.5)), HostedModel(Net(rate=0.5))
        optimizer = parse_optimizer("Adam(lr=0.01)")
        result = run(base, raw, steps=2, base_optimizer=optimizer, raw_optimizer=optimizer, tolerance="auto")
        write_result(tmp_path / name, result)
        return without_timings(json.loads((tmp_path / name).read_text()))

    assert written("one.json") == written("two.json")


OF_THE_MACHINE = {"coordinator_peak_bytes", "disk_budget_bytes", "memory_budget_bytes", "environment"}


def without_timings(value: Any) -> Any:
    """Leave out times, which end in _s, and what the machine had free."""
    if isinstance(value, dict):
        return {
            key: without_timings(item)
            for key, item in value.items()
            if not key.endswith("_s") and key not in OF_THE_MACHINE
        }
    return [without_timings(item) for item in value] if isinstance(value, list) else value
