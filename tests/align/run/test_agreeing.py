"""Outputs that one side has only further on: they are compared there, and a fault in the layer is still found."""

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
from padiff_rpc.result import Pair, Result

X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)


class Norm(nn.LayerNorm):
    """A norm; `fused`, it applies its activation itself, after it has multiplied by `gain`."""

    def __init__(self, fused: bool, gain: float) -> None:
        super().__init__(6)
        self._fused, self._gain = fused, gain

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return (y * self._gain).relu() if self._fused else y


class Unit(nn.Layer):
    """A Linear, a norm and a ReLU; `fused`, in the norm; `bare`, with a ReLU that does nothing."""

    def __init__(self, fused: bool = False, gain: float = 1.0, bare: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.norm = Norm(fused, gain)
        self.act = nn.Dropout(0.0) if bare else nn.ReLU()
        self._fused = fused

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.fc(x))
        return y if self._fused else self.act(y)


class Net(nn.Layer):
    def __init__(self, share: float = 1.0, **raw: Any) -> None:
        super().__init__()
        self.unit = Unit(**raw)
        self.last = nn.Linear(6, 6)
        self.head = nn.Linear(6, 2)
        self._share = share

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.last(self.unit(x)) * self._share)


def run(base: nn.Layer, raw: nn.Layer, **settings: Any) -> Result:
    inputs = as_inputs({"x": X})
    return align(HostedModel(base), HostedModel(raw), inputs, inputs, AlignSettings(**settings))


def at(result: Result, tensor: str) -> Pair:
    (pair,) = [pair for pair in result.pairs if (pair.base_route, pair.tensor) == ("unit.norm", tensor)]
    return pair


@pytest.mark.parametrize("raw_fuses", [True, False])
def test_a_norm_with_its_activation_is_compared_behind_the_activation(raw_fuses: bool) -> None:
    nets = Net(), Net(fused=True)
    result = run(*(nets if raw_fuses else nets[::-1]))
    assert result.aligned
    one, other = ("raw", "base") if raw_fuses else ("base", "raw")
    why = f"{one}'s layer returns what {other} has only further on, at 'unit', where it agrees"
    assert [("skipped", why)] * 2 == [
        (at(result, t).status, at(result, t).why) for t in ("output.0", "grad of output.0")
    ]
    assert not run(*nets, strict_inside=True).aligned


@pytest.mark.parametrize("share", [1.0, 1e-5])
def test_a_fault_in_such_a_norm_is_found_there(share: float) -> None:
    result = run(Net(share), Net(share, fused=True, gain=1.01))
    first = result.first_divergence
    assert first is not None
    assert ("unit.norm", "output.0") == (first.base.route, first.tensor)


def test_an_activation_that_does_nothing_is_none_of_these() -> None:
    result = run(Net(), Net(bare=True))
    assert result.first_divergence is not None
    assert result.first_divergence.base.route.startswith("unit")
    assert not any("further on" in pair.why for pair in result.pairs)
