"""--tolerance auto: a difference is held against what rounding makes of it in this run, and float64 tells the two apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.losses_and_optimizers import parse_loss
from padiff_rpc.model.model import Model
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from padiff_rpc.sequential import align_sequentially
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tape.write_tape import record
from padiff_rpc.tensors.tensor import Tensor as Plain

INPUTS = {"x": Plain.from_array(np.random.default_rng(3).standard_normal((6, 16)).astype(np.float32))}


class Inner(nn.Layer):
    """A layer whose own code may lose digits: adding and taking away a large number leaves less of the small one."""

    def __init__(self, large: float) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16)
        self._large = large

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        return (h + self._large) - self._large if self._large else h


class Net(nn.Layer):
    def __init__(self, eps: float = 1e-5, large: float = 0.0, rate: float = 0.0) -> None:
        super().__init__()
        self.first = Inner(large)
        self.norm = nn.LayerNorm(16, eps)
        self.drop = nn.Dropout(rate)
        self.act = nn.Tanh()
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.act(self.norm(self.first(x)))))


def run(base: Model, raw: Model, **settings: Any) -> Result:
    return align(base, raw, INPUTS, INPUTS, AlignSettings(**{"tolerance": "auto", "training": False, **settings}))


def hosted(**changes: float) -> HostedModel:
    return HostedModel(Net(**changes))


def ratios(result: Result) -> list[float]:
    return [pair.metrics.ratio for pair in result.pairs if pair.metrics is not None and pair.metrics.ratio is not None]


def where(result: Result) -> tuple[str, str, str]:
    first = result.first_divergence
    assert first is not None
    return first.raw.route, first.stage, first.found_at.failure


def test_equal_models_have_floors_and_no_difference() -> None:
    result = run(hosted(), hosted(large=0.0))
    assert result.aligned
    assert all(ratio == 0.0 for ratio in ratios(result))


@pytest.mark.parametrize("eps", [1e-6, 1.2e-5, 2e-5])
def test_a_wrong_epsilon_that_the_table_lets_pass_is_found_at_its_layer(eps: float) -> None:
    assert run(hosted(), hosted(eps=eps), tolerance="table").aligned
    result = run(hosted(), hosted(eps=eps))
    assert where(result) == ("norm", "forward", "floor")
    assert result.first_divergence is not None
    assert "in float64, where rounding makes nothing of it" in result.first_divergence.found_at.why
    assert result.judgement is not None
    assert ("norm", "semantics") == (result.judgement.raw_route, result.judgement.kind)


def test_each_layers_own_error_is_told_apart_from_what_came_to_it() -> None:
    result = run(hosted(), hosted(eps=1e-3))
    own = {(one.raw_route, one.stage): one for one in result.introduced}
    assert ("norm", "forward") == (result.introduced[0].raw_route, result.introduced[0].stage)
    assert own["norm", "forward"].ratio > 100
    assert own["last", "forward"].total > 1e-5
    assert own["last", "forward"].introduced == 0.0


def test_of_two_layers_that_add_to_the_difference_both_are_named() -> None:
    result = run(hosted(), hosted(large=1e5, eps=1e-3))
    adds = [one.raw_route for one in result.introduced if one.stage == "forward" and one.ratio > 4]
    assert {"first", "norm"} == set(adds)


def test_lost_digits_are_rounding_and_a_note_says_so() -> None:
    result = run(hosted(), hosted(large=64.0))
    assert max(ratios(result)) > 16
    assert result.aligned
    assert any("a step in float64 shows that this is rounding" in note for note in result.notes)


def test_a_fault_behind_lost_digits_is_found() -> None:
    result = run(hosted(), hosted(large=8.0, eps=1e-4))
    assert where(result)[:2] == ("norm", "forward")


def test_lost_digits_beyond_table_and_floor_fail_as_lower_precision() -> None:
    result = run(hosted(), hosted(large=1e5))
    assert not result.aligned
    assert result.judgement is not None
    assert ("first", "lower precision") == (result.judgement.raw_route, result.judgement.kind)


def test_nothing_of_the_models_is_changed() -> None:
    base, raw = hosted(), hosted(eps=1e-6)
    names = [info.name for info in base.describe().parameters]
    run(base, raw)
    found = [{name: one.hash for name, one in model.digest_parameters(names).items()} for model in (base, raw)]
    assert found[0] == found[1]
    assert {info.spec.dtype.value for info in raw.describe().parameters} == {"F32"}


def test_without_a_seed_a_random_base_has_no_floor_and_a_note_names_the_layer() -> None:
    result = run(hosted(rate=0.5), hosted(rate=0.5), training=True, seed=None)
    assert any("does not run twice alike (first at drop)" in note for note in result.notes)
    assert not result.aligned


@pytest.mark.parametrize("eps", [1e-5, 1e-6])
def test_a_tape_brings_its_floor(tmp_path: Path, eps: float) -> None:
    loss = parse_loss("projection(seed=0)")
    record(hosted(), INPUTS, tmp_path / "tape", model_name="net", training=False, loss=loss, floor=True)
    result = run(RecordedModel(tmp_path / "tape"), hosted(eps=eps))
    stages = {p.stage for p in result.pairs if p.metrics is not None and p.metrics.floor is not None}
    assert {"forward", "backward", "grads"} == stages
    assert result.aligned == (eps == 1e-5)
    if not result.aligned:
        assert where(result) == ("norm", "forward", "floor")


def test_a_tape_without_a_floor_is_told(tmp_path: Path) -> None:
    record(hosted(), INPUTS, tmp_path / "tape", model_name="net", training=False, loss=parse_loss("projection(seed=0)"))
    result = run(RecordedModel(tmp_path / "tape"), hosted())
    assert result.aligned
    assert any("the table alone decides" in note for note in result.notes)


def test_one_after_the_other_has_the_floor_too() -> None:
    settings = AlignSettings(tolerance="auto", training=False)
    result = align_sequentially(hosted, lambda: hosted(eps=1e-6), INPUTS, INPUTS, settings)
    assert where(result) == ("norm", "forward", "floor")
