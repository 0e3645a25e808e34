"""Layers without parameters that are used in each other's place: known by what they carry; a fault beside them is named."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result

INPUTS = as_inputs({"x": np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)})
SMALL = 3e-3
ROUNDING = 5e-5
"""By this share raw's block is off, within the tolerance, as TF32 leaves it. Nothing heals that is below a hundred times it."""


class Block(nn.Layer):
    """A branch that adds little to what passes it, between two Dropouts; crossed, they are used in each other's place.

    fault: "" for none, "gain" behind the first Dropout, or "dropped": the branch is not added.
    """

    def __init__(self, crossed: bool = False, fault: str = "", extra: bool = False, rounding: float = 0.0) -> None:
        super().__init__()
        self.drop1 = nn.Dropout(0.0)
        self.fc = nn.Linear(6, 6)
        self.drop2 = nn.Dropout(0.0)
        if extra:
            self.drop3 = nn.Dropout(0.0)
        self._crossed, self._fault, self._extra, self._rounding = crossed, fault, extra, rounding

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.drop2, self.drop1) if self._crossed else (self.drop1, self.drop2)
        if self._extra:
            x = self.drop3(x)
        x = first(x * 2.0)
        x = x * (1.02 if self._fault == "gain" else 1.0)
        y = self.fc(x).tanh() * SMALL
        return second(x + y * (0.0 if self._fault == "dropped" else 1.0)) * (1.0 + self._rounding)


class Net(nn.Layer):
    def __init__(self, **raw: object) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.block = Block(**raw)  # type: ignore[arg-type]
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)))


def run(**raw: object) -> Result:
    return align(HostedModel(Net()), HostedModel(Net(**raw)), INPUTS, INPUTS, AlignSettings())


def failed(result: Result) -> list[str]:
    return [f"{pair.base_route} {pair.tensor}" for pair in result.pairs if pair.status == "fail"]


@pytest.mark.parametrize("extra", [False, True])
def test_dropouts_in_each_others_place_are_known_by_what_they_carry(extra: bool) -> None:
    result = run(crossed=True, rounding=ROUNDING, extra=extra)
    assert result.aligned, failed(result)
    reasons = {
        pair.why for pair in result.pairs if pair.base_route.startswith("block.drop") and pair.stage == "forward"
    }
    assert any(
        "carries the same figures as raw's 'block.drop1', with which it changes places" in why for why in reasons
    )


@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("fault", ["gain", "dropped"])
def test_a_fault_between_them_is_not_taken_for_an_exchange(fault: str, crossed: bool) -> None:
    result = run(crossed=crossed, fault=fault, rounding=ROUNDING)
    assert not result.aligned
    assert result.first_divergence is not None
    assert "block" == result.first_divergence.base.route


class Flatten(nn.Layer):
    def __init__(self, turned: bool = False) -> None:
        super().__init__()
        self._turned = turned

    def forward(self, x: Tensor) -> Tensor:
        return (x.transpose(0, 2, 1) if self._turned else x).reshape(x.shape[0], -1)


class Cnn(nn.Layer):
    """Features that a layer flattens, and a Dropout that takes them."""

    def __init__(self, turned: bool = False) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.flatten = Flatten(turned)
        self.drop = nn.Dropout(0.0)
        self.head = nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.flatten(self.stem(x))))


def test_elements_in_another_order_change_places_with_nothing() -> None:
    inputs = as_inputs({"x": np.random.default_rng(0).normal(size=(4, 3, 6)).astype(np.float32)})
    result = align(HostedModel(Cnn()), HostedModel(Cnn(turned=True)), inputs, inputs, AlignSettings())
    assert result.first_divergence is not None
    assert result.first_divergence.raw.route == "flatten"
