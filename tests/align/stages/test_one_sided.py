"""Gradients that one side lacks, and NaN that base itself makes: the layer at fault is named, and no other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result


class Branch(nn.Layer):
    """norm, then fc; `detach`: "input" or "middle" cuts the history there."""

    def __init__(self, detach: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.fc = nn.Linear(6, 6)
        self._detach = detach

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x.detach() if self._detach == "input" else x)
        return self.fc(x.detach() if self._detach == "middle" else x)


class Block(nn.Layer):
    """Two residual branches, the second of which sees what the first made."""

    def __init__(self, detach: str) -> None:
        super().__init__()
        self.first = Branch(detach)
        self.second = Branch("")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.first(x)
        return x + self.second(x)


class Net(nn.Layer):
    """A stem and three blocks. `detach` works in the blocks `at`; "between" cuts what enters the last block."""

    def __init__(
        self, detach: str = "", at: tuple[int, ...] = (1,), frozen: str = "", spare: float | None = None
    ) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 6)
        self.blocks = nn.LayerList(*(Block(detach if index in at else "") for index in range(3)))
        self.spare = nn.Linear(6, 6)
        self._detach, self._spare = detach, spare
        if frozen:
            self.stem.weight.requires_grad_(False)
            self.stem.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            if self._detach == "nan" and index == 1:
                x = x + np.where(np.arange(6) == 3, np.nan, 0.0).astype(np.float32)
            x = block(x.detach() if self._detach == "between" and index == 2 else x)
        return x if self._spare is None else x + self.spare(x) * self._spare


def run(base: dict[str, Any], raw: dict[str, Any], **settings: Any) -> Result:
    models = [HostedModel(Net(**args)) for args in (base, raw)]
    generator = np.random.RandomState(0)
    for model in models:
        for layer in model.model.walk():
            for name, parameter in layer.parameters().items():
                if name == "weight" and len(parameter.shape) == 2:
                    parameter.data[...] = generator.uniform(-0.5, 0.5, parameter.shape)
    inputs = as_inputs({"x": np.random.RandomState(1).randn(5, 4).astype(np.float32)})
    optimizer = parse_optimizer("SGD(lr=0.1)")
    asked = AlignSettings(base_optimizer=optimizer, raw_optimizer=optimizer, **settings)
    return align(models[0], models[1], inputs, inputs, asked)


def routes(result: Result) -> list[str]:
    return [divergence.raw.route for divergence in result.divergences]


CUTS = [
    ({"detach": "input"}, "blocks.1.first"),
    ({"detach": "middle"}, "blocks.1.first"),
    ({"detach": "between"}, ""),
    ({"frozen": "stem"}, "stem"),
]


@pytest.mark.parametrize("swapped", [False, True], ids=["in raw", "in base"])
@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
@pytest.mark.parametrize(("bug", "layer"), CUTS)
def test_the_layer_that_cuts_a_gradient_off_is_named_and_no_other(
    bug: dict[str, Any], layer: str, single_step: bool, swapped: bool
) -> None:
    sides: list[dict[str, Any]] = [{}, bug]
    result = run(*(sides[::-1] if swapped else sides), single_step=single_step)
    assert not result.aligned
    assert [layer] == routes(result)


def test_single_step_names_each_of_two_layers_that_cut() -> None:
    result = run({}, {"detach": "input", "at": (0, 2)}, single_step=True)
    assert ["blocks.2.first", "blocks.0.first"] == routes(result)


@pytest.mark.parametrize("swapped", [False, True], ids=["in raw", "in base"])
def test_a_branch_times_zero_agrees_with_one_not_taken(swapped: bool) -> None:
    sides: list[dict[str, Any]] = [{}, {"spare": 0.0}]
    result = run(*(sides[::-1] if swapped else sides))
    why = {pair.tensor: pair.why for pair in result.pairs if pair.stage == "grads" and pair.status == "skipped"}
    assert {"weight", "bias"} == set(why)
    assert all("zero" in text for text in why.values())
    assert result.aligned


def test_a_branch_that_only_one_side_takes_fails() -> None:
    result = run({}, {"spare": 0.5})
    assert not result.aligned
    assert [""] == routes(result)


def test_single_step_names_the_first_layer_with_nan_on_both_sides_alone() -> None:
    result = run({"detach": "nan"}, {"detach": "nan"}, single_step=True)
    assert not result.aligned
    assert [""] == routes(result)
