"""Running variances of torch and paddle: converted where the layer is recorded, passed over where only the one around it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.selection import Selection
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from tests.align.pairs import Claimed

X = as_inputs({"x": np.random.RandomState(0).standard_normal((6, 4)).astype(np.float32)})
MAPPED: dict[str, Any] = {
    "layer_map": {"block": "block"},
    **{f"{side}_selection": Selection({"block.bn": "inside the mapped layer 'block'"}) for side in ("base", "raw")},
}


class PopulationNorm(nn.BatchNorm):
    """Keeps the variance of the population, as paddle does."""

    def forward(self, x: Tensor) -> Tensor:
        before = self.running_var.values.copy()
        y = super().forward(x)
        update = self.running_var.values - (1 - 0.1) * before
        self.running_var.overwrite(self.running_var.values - update / x.shape[0])
        return y


class Block(nn.Layer):
    def __init__(self, norm: nn.Layer) -> None:
        super().__init__()
        self.bn = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x)


class Net(nn.Layer):
    def __init__(self, norm: nn.Layer) -> None:
        super().__init__()
        self.block = Block(norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


def run(raw: nn.Layer, **settings: Any) -> Result:
    base: Any = Claimed("torch", Net(nn.BatchNorm(4)), {"BatchNorm": "torch.nn.BatchNorm1d"})
    paddle = "paddle.nn.BatchNorm1D"
    other: Any = Claimed("paddle", Net(raw), {"BatchNorm": paddle, "PopulationNorm": paddle})
    return align(base, other, X, X, AlignSettings(training=True, **settings))


def buffers(result: Result) -> dict[str, tuple[str, str]]:
    return {pair.tensor: (pair.status, pair.why) for pair in result.pairs if pair.stage == "buffers"}


def test_the_population_variance_is_converted_where_the_layer_is_recorded() -> None:
    result = run(PopulationNorm(4))
    assert result.aligned
    status, why = buffers(result)["running_var"]
    assert ("pass", True) == (status, "compared after conversion" in why)


def test_it_is_converted_in_every_step() -> None:
    result = run(PopulationNorm(4), steps=3)
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    assert result.aligned


def test_another_update_in_a_later_step_still_differs() -> None:
    class Later(PopulationNorm):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            self.__dict__["calls"] = self.calls + 1
            if self.calls == 2:
                self.running_var.overwrite(self.running_var.values * np.float32(1.01))
            return y

    base: Any = Claimed("torch", Net(nn.BatchNorm(4)), {"BatchNorm": "torch.nn.BatchNorm1d"})
    other: Any = Claimed("paddle", Net(Later(4)), {"Later": "paddle.nn.BatchNorm1D"})
    result = align(base, other, X, X, AlignSettings(training=True, steps=3))
    failed = [(pair.step, pair.tensor) for pair in result.pairs if pair.status == "fail"]
    assert (1, "running_var") == failed[0]


def test_inside_a_mapped_layer_it_is_passed_over_with_the_reason() -> None:
    result = run(PopulationNorm(4), **MAPPED)
    assert result.aligned
    status, why = buffers(result)["bn.running_var"]
    assert ("skipped", True) == (status, "only the layer around it is recorded" in why)
    assert ("pass", "") == buffers(result)["bn.running_mean"]


@pytest.mark.parametrize("settings", [{}, MAPPED], ids=["recorded", "mapped"])
def test_another_momentum_still_differs(settings: dict[str, Any]) -> None:
    result = run(nn.BatchNorm(4, momentum=0.5), **settings)
    assert not result.aligned
    assert "buffers" == result.divergences[0].stage
