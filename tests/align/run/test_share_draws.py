"""sync_random: raw's dropouts take base's draws, at raw's own scale, and what else differs is found as ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.numpy_framework.functions import generator
from padiff_rpc.result import Result
from padiff_rpc.sequential import align_sequentially
from padiff_rpc.tensors.tensor import Tensor as Plain

INPUTS = {"x": Plain.from_array(np.random.default_rng(3).standard_normal((64, 16)).astype(np.float32))}


class Net(nn.Layer):
    """Two dropouts, the first behind a ReLU whose zeros hide what is dropped; `ahead` has it draw other numbers for one seed."""

    def __init__(self, ahead: int = 0, rate: float = 0.1, times: int = 1, scale: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Linear(16, 16)
        self.act = nn.ReLU()
        self.drop1 = nn.Dropout(rate)
        self.middle = nn.Linear(16, 16)
        self.drop2 = nn.Dropout(0.1)
        self.last = nn.Linear(16, 4)
        self._ahead, self._times, self._scale = ahead, times, scale

    def forward(self, x: Tensor) -> Tensor:
        generator().random_sample(self._ahead)
        x = self.drop1(self.act(self.first(x)))
        x = self.middle(x)
        for _ in range(self._times):
            x = self.drop2(x)
        return self.last(x * Tensor(np.float32(self._scale)))


def run(settings: dict[str, Any] | None = None, **raw: Any) -> Result:
    base, other = HostedModel(Net()), HostedModel(Net(ahead=7, **raw))
    asked = {"sync_random": True, "training": True, **(settings or {})}
    return align(base, other, INPUTS, INPUTS, AlignSettings(**asked))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"single_step": True},
        {"tolerance": "auto"},
        {"layers": ("last",)},
        {"api_calls": True},
        {"diff_phase": "forward"},
    ],
    ids=str,
)
def test_other_draws_differ_and_shared_draws_agree(settings: dict[str, Any]) -> None:
    result = run(settings)
    assert result.aligned
    assert "raw's dropouts take base's draws in drop1, drop2" in result.notes
    assert not any("draws random numbers" in note for note in result.notes)
    assert not run({**settings, "sync_random": False}).aligned or settings.get("single_step")


@pytest.mark.parametrize(
    ("raw", "route"),
    [
        ({"rate": 0.4}, "drop1"),  # too different a rate: raw keeps its own draw
        ({"rate": 0.11}, "drop1"),  # base's draw, at raw's scale
        ({"times": 2}, ""),
        ({"times": 0}, ""),
        ({"scale": 1.001}, ""),
    ],
    ids=str,
)
def test_a_fault_beside_a_dropout_is_found_at_its_layer(raw: dict[str, Any], route: str) -> None:
    result = run(**raw)
    assert result.first_divergence is not None
    assert route == result.first_divergence.base.route


def test_a_draw_of_another_rate_is_kept_and_the_rate_told() -> None:
    result = run(rate=0.4)
    assert any(note.startswith("raw's drop1 kept its own draw: it keeps 0.") for note in result.notes)
    assert any(note.startswith("raw draws random numbers in drop1 (Dropout, p=0.4)") for note in result.notes)
    assert ["hyper-parameter"] == [cause.name for cause in result.causes][:1]


def test_the_cause_of_another_scale_is_told_from_a_run_that_shares_draws_too() -> None:
    result = run(rate=0.11)
    assert any("1.0112" in cause.evidence for cause in result.causes)


def test_a_dropout_in_evaluation_is_a_fault_though_base_has_drawn() -> None:
    base, raw = HostedModel(Net()), HostedModel(Net(ahead=7))
    raw.model.drop1.training = False
    result = align(base, raw, INPUTS, INPUTS, AlignSettings(sync_random=True))
    assert result.first_divergence is not None
    assert "drop1" == result.first_divergence.base.route


def test_a_dropout_whose_output_somebody_changes_keeps_it() -> None:
    base, raw = HostedModel(Net()), HostedModel(Net(ahead=7))
    changes: Callable[..., Any] = lambda args, kwargs, output: output * Tensor(np.float32(1.01))  # noqa: E731
    raw.model.drop1.register_hook(lambda args, kwargs: None, changes)
    result = align(base, raw, INPUTS, INPUTS, AlignSettings(sync_random=True, training=True))
    assert result.first_divergence is not None
    assert "drop1" == result.first_divergence.base.route


def test_a_dump_holds_no_draws() -> None:
    def opened() -> HostedModel:
        return HostedModel(Net())

    with pytest.raises(PadiffError) as refused:
        align_sequentially(opened, opened, INPUTS, INPUTS, AlignSettings(sync_random=True))
    assert Reason.BAD_CONFIG is refused.value.reason
