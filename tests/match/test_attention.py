"""Attention weights beside an attention layer's output: averaged in torch, head by head in paddle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from tests.align.pairs import Claimed

X = as_inputs({"x": np.random.RandomState(0).standard_normal((2, 3, 4)).astype(np.float32)})


class Attention(nn.Layer):
    """Returns x, and weights of two heads or their mean."""

    def __init__(self, averaged: bool) -> None:
        super().__init__()
        self._averaged = averaged

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scores = x @ x.transpose(0, 2, 1)
        heads = Tensor(np.ones((2, 2, 1, 1), np.float32)) * scores.reshape(2, 1, 3, 3)
        return x, heads.mean(1) if self._averaged else heads


class Net(nn.Layer):
    def __init__(self, averaged: bool, returned: bool) -> None:
        super().__init__()
        self.first = nn.LayerNorm(4)
        self.attn = Attention(averaged)
        self.norm = nn.LayerNorm(4)
        self._returned = returned

    def forward(self, x: Tensor) -> Any:
        y, weights = self.attn(self.first(x))
        return (self.norm(y), weights) if self._returned else self.norm(y)


def run(raw_class: str, returned: bool = False, **settings: Any) -> Result:
    base: Any = Claimed("torch", Net(True, returned), {"Attention": "torch.nn.MultiheadAttention"})
    raw: Any = Claimed("paddle", Net(False, returned), {"Attention": raw_class})
    return align(base, raw, X, X, AlignSettings(**settings))


@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
def test_weights_that_only_torch_averages_are_passed_over_with_the_reason(single_step: bool) -> None:
    result = run("paddle.nn.MultiHeadAttention", single_step=single_step)
    assert result.aligned
    skipped = [pair for pair in result.pairs if pair.status == "skipped"]
    assert [("attn", "output.1")] == [(pair.base_route, pair.tensor) for pair in skipped]
    assert "torch averages these attention weights over the heads" in skipped[0].why


def test_where_the_model_returns_them_they_differ() -> None:
    assert not run("paddle.nn.MultiHeadAttention", returned=True).aligned


def test_in_a_class_of_the_users_own_they_differ() -> None:
    result = run("mine.MultiheadAttention", strict_inside=True)
    assert not result.aligned
    assert ("attn", "shape") == (result.divergences[0].base.route, result.divergences[0].found_at.failure)


def test_in_a_class_of_the_users_own_they_heal_where_nothing_uses_them() -> None:
    result = run("mine.MultiheadAttention")
    assert result.aligned
    (aside,) = [pair for pair in result.pairs if (pair.base_route, pair.tensor) == ("attn", "output.1")]
    assert ("skipped", "differs inside the model, and heals: all that follows from it agrees") == (
        aside.status,
        aside.why,
    )


def test_in_a_class_of_the_users_own_they_differ_where_the_model_returns_them() -> None:
    assert not run("mine.MultiheadAttention", returned=True).aligned
