"""A convolution of size 1 on one side, and a Linear on the other: the pair agrees by itself, and a fault beside it is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import OptimizerSpec
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from tests.align.pairs import Claimed

BATCH, WIDTH, SIDE = 2, 6, 3
INPUTS = as_inputs({"x": np.random.default_rng(0).normal(size=(BATCH, WIDTH, SIDE, SIDE)).astype(np.float32)})
SGD = OptimizerSpec("SGD", {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0})


class Mlp(nn.Layer):
    """Two projections of each place. kind: Conv2D, Linear or LinearIO; fault: "gain" or "cut"."""

    def __init__(self, kind: str, inner: int, fault: str) -> None:
        super().__init__()
        make = {
            "Conv2D": lambda i, o: nn.Conv2D(i, o, 1),
            "Linear": nn.Linear,
            "LinearIO": nn.LinearIO,
        }[kind]
        self.up, self.act, self.down = make(WIDTH, inner), nn.Tanh(), make(inner, WIDTH)
        self._flat, self._fault = kind != "Conv2D", fault

    def forward(self, x: Tensor) -> Tensor:
        if self._flat:
            x = x.reshape(BATCH, WIDTH, SIDE * SIDE).transpose(0, 2, 1)
        x = self.act(self.up(x))
        x = x.detach() if self._fault == "cut" else x
        x = self.down(x) * (1.01 if self._fault == "gain" else 1.0)
        return x.transpose(0, 2, 1).reshape(BATCH, WIDTH, SIDE, SIDE) if self._flat else x


class Net(nn.Layer):
    def __init__(self, kind: str, inner: int, fault: str = "") -> None:
        super().__init__()
        self.stem = nn.Conv2D(WIDTH, WIDTH, 3, padding=1)
        self.mlp = Mlp(kind, inner, fault)
        self.head = nn.Conv2D(WIDTH, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mlp(self.stem(x)))


def run(base: str, raw: str, inner: int, fault: str = "") -> Result:
    models: list[Any] = [Claimed("torch", Net(base, inner), {}), Claimed("paddle", Net(raw, inner, fault), {})]
    settings = AlignSettings(base_optimizer=SGD, raw_optimizer=SGD)
    return align(models[0], models[1], INPUTS, INPUTS, settings)


PAIRS = [("Conv2D", "LinearIO"), ("Linear", "Conv2D"), ("Conv2D", "Conv2D")]


@pytest.mark.parametrize("inner", [10, WIDTH], ids=["oblong", "square"])
@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
def test_a_convolution_of_size_1_and_a_linear_are_one_layer(kinds: tuple[str, str], inner: int) -> None:
    result = run(*kinds, inner)
    assert result.aligned, result.first_divergence
    assert [] == result.extras
    for stage in ("weights_before", "grads", "weights"):
        assert 8 == sum(pair.stage == stage and pair.status == "pass" for pair in result.pairs)


@pytest.mark.parametrize("fault", ["gain", "cut"])
@pytest.mark.parametrize("inner", [10, WIDTH], ids=["oblong", "square"])
@pytest.mark.parametrize("kinds", PAIRS, ids="-".join)
def test_a_fault_beside_them_is_found_there(kinds: tuple[str, str], inner: int, fault: str) -> None:
    result = run(*kinds, inner, fault)
    first = result.first_divergence
    assert first is not None
    assert "mlp" == first.base.route
    assert fault == "cut" or "output.0" == first.tensor, "what lies along other axes is not named"
