"""Axes in another order, and masks in another form: the pair that needs it is aligned, and a fault right beside it is found."""

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
from padiff_rpc.numpy_framework.functions import softmax
from padiff_rpc.result import Pair, Result

X = np.random.default_rng(0).normal(size=(3, 5, 5)).astype(np.float32)
MASKED = np.triu(np.ones((5, 5), bool), 1)


def run(base: nn.Layer, raw: nn.Layer, **settings: Any) -> Result:
    inputs = as_inputs({"x": X})
    return align(HostedModel(base), HostedModel(raw), inputs, inputs, AlignSettings(**settings))


def at(result: Result, route: str, tensor: str, stage: str = "forward") -> Pair:
    (pair,) = [
        p
        for p in result.pairs
        if (p.base_route, p.tensor, p.stage) == (route, tensor, stage) and not p.why.startswith("only")
    ]
    return pair


# -- axes ---------------------------------------------------------------------------------------------------------------
class Turning(nn.Layer):
    """Holds a Linear; `turned`, it hands out its result with two axes swapped."""

    def __init__(self, width: int, turned: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(5, width)
        self._turned = turned

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x).tanh()
        return y.transpose(0, 2, 1) if self._turned else y


class Reader(nn.Layer):
    """Reads the hidden state in base's order of axes; where it is `turned`, it turns it back, unless it is `careless`."""

    def __init__(self, width: int, turned: bool = False, careless: bool = False) -> None:
        super().__init__()
        self.inner = Turning(width, turned)
        self.head = nn.Linear(width, 2)
        self._back = turned and not careless

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return self.head(y.transpose(0, 2, 1) if self._back else y)


@pytest.mark.parametrize("width", [5, 7])
def test_swapped_axes_that_are_swapped_back_are_form_and_noted(width: int) -> None:
    result = run(Reader(width), Reader(width, turned=True))
    assert result.aligned
    for stage, tensor in (("forward", "output.0"), ("backward", "grad of output.0")):
        pair = at(result, "inner", tensor, stage)
        assert ("skipped", "axes 1 and 2 are swapped") == (pair.status, pair.why.rpartition("; ")[2])


def test_swapped_axes_that_nobody_swaps_back_are_named() -> None:
    result = run(Reader(5), Reader(5, turned=True, careless=True))
    first = result.first_divergence
    assert first is not None
    assert ("inner", "axes") == (first.base.route, first.found_at.failure)
    assert "axes 1 and 2 are swapped" in first.why


def test_swapped_axes_do_not_hide_a_fault_beside_them() -> None:
    raw = Reader(5, turned=True)
    raw.head.bias.data[:] += 0.01
    assert not run(Reader(5), raw, assign=False).aligned


# -- masks --------------------------------------------------------------------------------------------------------------
class Scores(nn.Layer):
    """Weighs its rows by the scores that a mask leaves; the mask comes as `form` says."""

    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)
        self._keeps = keeps

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if mask.values.dtype == bool:
            mask = Tensor(np.where(mask.values ^ self._keeps, np.float32(-1e9), np.float32(0)))
        return softmax(self.fc(x) + mask) @ x


class Masked(nn.Layer):
    def __init__(self, mask: np.ndarray, keeps: bool = False) -> None:
        super().__init__()
        self.scores = Scores(keeps)
        self.head = nn.Linear(5, 2)
        self._mask = mask

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.scores(x, Tensor(self._mask)))


def added(value: float, masked: np.ndarray = MASKED) -> np.ndarray:
    return np.where(masked, np.float32(value), np.float32(0))


SHIFTED = np.triu(np.ones((5, 5), bool), 2)


@pytest.mark.parametrize("single_step", [False, True])
@pytest.mark.parametrize("value", [-np.inf, -3.4e38, -1e9])
def test_masks_of_other_large_numbers_pass_where_nothing_heals_too(value: float, single_step: bool) -> None:
    settings = {"single_step": single_step, "strict_inside": not single_step}
    result = run(Masked(added(-1e4)), Masked(added(value)), **settings)
    assert result.aligned
    pair = at(result, "scores", "input.1")
    assert ("pass", "compared as masks: both mark 10 of 25 positions") == (pair.status, pair.why)


def test_a_mask_of_other_positions_is_found_at_who_makes_it() -> None:
    result = run(Masked(added(-1e4)), Masked(added(-np.inf, SHIFTED)))
    first = result.first_divergence
    assert first is not None
    assert ("", "input.1") == (first.base.route, first.found_at.tensor)
    assert (
        "masks other positions: 4 of 25 positions differ, the first at [0, 1], which base alone marks"
        == first.found_at.why
    )


def test_an_inverted_mask_is_accepted_where_it_heals() -> None:
    result = run(Masked(MASKED), Masked(~MASKED, keeps=True))
    assert result.aligned
    assert "heals" in at(result, "scores", "input.1").why
    assert not run(Masked(MASKED), Masked(~MASKED, keeps=True), strict_inside=True).aligned


def test_an_inverted_mask_that_is_read_alike_on_both_sides_is_named() -> None:
    result = run(Masked(MASKED), Masked(~MASKED))
    first = result.first_divergence
    assert first is not None
    assert "the mask is inverted: it is set on each side where the other's is not" == first.found_at.why


class MaskedOutput(nn.Layer):
    """Returns masked scores; `mask` stands where they are masked, and `gain` changes the others."""

    def __init__(self, mask: float, gain: float = 1.0) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)
        self._mask, self._gain = np.where(MASKED, mask, 0.0).astype(np.float32), np.float32(gain)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) * self._gain + self._mask


@pytest.mark.parametrize("mask", [-1e4, -1e9, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("phase", ["forward", "both"])
def test_masked_outputs_of_the_model_are_compared_where_they_are_not_masked(mask: float, phase: Any) -> None:
    """The masked ones outweigh all others."""
    assert run(MaskedOutput(mask), MaskedOutput(mask), diff_phase=phase).aligned
    result = run(MaskedOutput(mask), MaskedOutput(mask, gain=1.03), diff_phase=phase)
    assert not result.aligned
    assert "compared where neither side masks" in at(result, "", "output.0").why


def test_masked_outputs_of_the_model_agree_in_what_masks_them_as_well() -> None:
    assert not run(MaskedOutput(-1e9), MaskedOutput(-1e4)).aligned
