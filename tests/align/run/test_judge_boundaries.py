"""Outputs that one model alone returns: excused where the same tensor is compared inside, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result

X = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)


class Net(nn.Layer):
    """Returns its result, and `also`: the hidden state as a layer made it, twice that, or zeros; or nothing more."""

    def __init__(self, also: str = "", gain: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.act = nn.Tanh()
        self.last = nn.Linear(8, 4)
        self._also, self._gain = also, gain

    def forward(self, x: Tensor) -> Any:
        hidden = self.act(self.first(x) * self._gain)
        more = {"hidden": hidden, "twice": hidden * 2.0, "zeros": hidden * 0.0}
        return (self.last(hidden), more[self._also]) if self._also else self.last(hidden)


def run(base: nn.Layer, raw: nn.Layer, **settings: Any) -> Result:
    inputs = as_inputs({"x": X})
    return align(HostedModel(base), HostedModel(raw), inputs, inputs, AlignSettings(**settings))


@pytest.mark.parametrize("base_returns_it", [True, False])
def test_a_hidden_state_that_one_model_alone_returns_is_excused(base_returns_it: bool) -> None:
    nets = Net("hidden"), Net()
    result = run(*(nets if base_returns_it else nets[::-1]))
    assert result.aligned
    side = "base" if base_returns_it else "raw"
    (pair,) = [p for p in result.pairs if "which agrees where a layer inside returns or takes it" in p.why]
    assert ("", "skipped") == (pair.base_route, pair.status)
    assert pair.why.startswith(f"only {side} returns this output")


@pytest.mark.parametrize("also", ["twice", "zeros"])
def test_what_no_layer_inside_returns_or_takes_is_not(also: str) -> None:
    assert not run(Net(also), Net()).aligned
    assert not run(Net(), Net(also)).aligned


def test_a_fault_before_the_hidden_state_is_found_beside_it() -> None:
    result = run(Net("hidden"), Net(gain=1.01))
    assert not result.aligned
    assert result.first_divergence is not None
    assert ("forward", "Net") == (result.first_divergence.stage, result.first_divergence.base.class_name)


def test_the_modes_of_padiff_excuse_none() -> None:
    assert not run(Net("hidden"), Net(), compare=CompareRules(mode="strict", atol=1e-4, rtol=1e-4)).aligned
