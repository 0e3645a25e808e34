"""Buffers that raw computes itself: an assignment must not hide that they are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result

TABLE = np.linspace(0, 1, 6, dtype=np.float32)
NOTE_OVERWRITTEN = (
    "raw's own values of inner.table differed from base's before the assignment: a checkpoint has to bring base's, or else the "
    "model differs"
)


class Inner(nn.Layer):
    """Adds a table that is computed from the configuration."""

    def __init__(self, table: Any, persistent: bool, name: str) -> None:
        super().__init__()
        self.register_buffer(name, Tensor(np.array(table)), persistent)
        self._name = name

    def forward(self, x: Tensor) -> Tensor:
        return x + getattr(self, self._name).data.astype(np.float32)


class Out(nn.Linear):
    def __init__(self, inputs: int, outputs: int, gain: float) -> None:
        super().__init__(inputs, outputs)
        self._gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self._gain


class Net(nn.Layer):
    def __init__(self, table: Any = TABLE, persistent: bool = True, name: str = "table", gain: float = 1.0) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 6)
        self.inner = Inner(table, persistent, name)
        self.out = Out(6, 2, gain)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.inner(self.fc(x)))


def run(base: dict[str, Any], raw: dict[str, Any], **settings: Any) -> tuple[Result, HostedModel]:
    models = HostedModel(Net(**base)), HostedModel(Net(**raw))
    inputs = as_inputs({"x": np.random.RandomState(1).randn(5, 4).astype(np.float32)})
    return align(*models, inputs, inputs, AlignSettings(**settings)), models[1]


def test_tables_that_agree_as_two_frameworks_compute_them_are_assigned_and_no_word_is_said() -> None:
    nearly = TABLE * np.float32(1 + 1e-5)
    for persistent in (True, False):
        result, raw = run({"persistent": persistent}, {"table": nearly, "persistent": persistent})
        assert (True, []) == (result.aligned, result.notes)
        assert TABLE.tolist() == raw.model.inner.table.data.tolist()


@pytest.mark.parametrize("wrong", [TABLE[::-1], TABLE * 1.001, np.full(6, np.nan, np.float32)])
def test_a_wrong_table_that_a_checkpoint_brings_is_overwritten_and_told(wrong: np.ndarray) -> None:
    result, raw = run({}, {"table": wrong.astype(np.float32)})
    assert (True, [NOTE_OVERWRITTEN]) == (result.aligned, result.notes)
    assert TABLE.tolist() == raw.model.inner.table.data.tolist()


@pytest.mark.parametrize(("base", "raw"), [(False, False), (True, False), (False, True)])
def test_a_wrong_table_that_no_checkpoint_brings_fails_at_the_layer_that_holds_it(base: bool, raw: bool) -> None:
    wrong = TABLE[::-1].copy()
    result, model = run({"persistent": base}, {"table": wrong, "persistent": raw})
    assert not result.aligned
    first = result.first_divergence
    assert first is not None
    assert ("weights_before", "inner", "table") == (first.stage, first.base.route, first.tensor)
    [failed] = [pair for pair in result.pairs if pair.status == "fail"]
    assert failed.why.startswith("raw computes this buffer otherwise than base, and no checkpoint holds it; ")
    assert TABLE.tolist() == model.model.inner.table.data.tolist()


def test_another_fault_is_named_before_a_wrong_table_for_all_else_is_compared_with_bases() -> None:
    wrong = {"table": TABLE[::-1].copy(), "persistent": False}
    result, _ = run({"persistent": False}, {**wrong, "gain": 1.5})
    assert [("forward", "out"), ("weights_before", "inner")] == [
        (one.stage, one.base.route) for one in result.divergences
    ]


def test_a_wrong_table_of_integers_is_told_exactly() -> None:
    index = np.arange(6)
    right, _ = run({"table": index, "persistent": False}, {"table": index, "persistent": False})
    assert right.aligned
    wrong, _ = run({"table": index, "persistent": False}, {"table": index[::-1], "persistent": False})
    assert not wrong.aligned


def test_running_statistics_are_states_of_a_training_and_not_computed() -> None:
    result, _ = run({"name": "running_mean"}, {"table": TABLE[::-1], "name": "running_mean", "persistent": False})
    assert (True, []) == (result.aligned, result.notes)


def test_without_an_assignment_the_buffers_are_compared_as_they_are() -> None:
    result, _ = run({}, {"table": TABLE[::-1]}, assign=False)
    assert not result.aligned
    assert not any("own values" in note for note in result.notes)
