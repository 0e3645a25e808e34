"""Parameters of one name and another rank: [D, H, K] on one side, [D, H * K] on the other."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.match.match import match_models
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from tests.match.descriptions import failing, links, match, net, user

WIDTH, HEADS, SIZE = 6, 2, 3
X = as_inputs({"x": np.random.RandomState(0).standard_normal((2, 5, WIDTH)).astype(np.float32)})


class Attention(nn.Layer):
    """Scores of q and k, head by head. Both are [D, H, K], or merged into [D, H * K].

    fault: "" for none; "swapped" uses k in q's place; "order" takes the merged dimension for [K, H].
    """

    def __init__(self, merged: bool, fault: str = "") -> None:
        super().__init__()
        draw = np.random.RandomState(merged).standard_normal
        shape = (WIDTH, HEADS * SIZE) if merged else (WIDTH, HEADS, SIZE)
        self.q, self.k = (nn.Parameter(draw(shape).astype(np.float32)) for _ in range(2))
        self._fault = fault

    def forward(self, x: Tensor) -> Tensor:
        q, k = (self.k, self.q) if self._fault == "swapped" else (self.q, self.k)
        q, k = (self._heads(x @ weight.reshape(WIDTH, HEADS * SIZE)) for weight in (q, k))
        return (q.tanh() @ k.transpose(0, 1, 3, 2)) * Tensor(
            np.arange(1, HEADS + 1, dtype=np.float32).reshape(-1, 1, 1)
        )

    def _heads(self, x: Tensor) -> Tensor:
        """Cut [B, T, H * K] into [B, H, T, K]."""
        if self._fault == "order":
            return x.reshape(2, 5, SIZE, HEADS).transpose(0, 3, 1, 2)
        return x.reshape(2, 5, HEADS, SIZE).transpose(0, 2, 1, 3)


def run(base: bool, raw: bool, fault: str = "") -> Result:
    return align(HostedModel(_model(base)), HostedModel(_model(raw, fault)), X, X, AlignSettings())


def _model(merged: bool, fault: str = "") -> nn.Layer:
    model = nn.Sequential()
    model.attn = Attention(merged, fault)
    return model


@pytest.mark.parametrize("merged", ["base", "raw"])
def test_merged_and_separate_dimensions_agree_in_every_stage(merged: str) -> None:
    result = run(merged == "base", merged == "raw")
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    assert result.aligned
    assert ["weights_before", "grads"] == [pair.stage for pair in result.pairs if pair.tensor == "k"]
    assert any("attn.q [" in note and "regrouped in row-major order" in note for note in result.notes)


@pytest.mark.parametrize("fault", ["swapped", "order"])
def test_a_fault_in_the_merged_layer_differs(fault: str) -> None:
    result = run(False, True, fault)
    assert not result.aligned
    assert result.first_divergence is not None
    assert ("forward", "attn") == (result.first_divergence.stage, result.first_divergence.base.route)


def test_other_dimensions_that_happen_to_hold_as_many_elements_are_no_merge() -> None:
    found = match(net(x=user("Mix", w=(4, 3, 2))), net(x=user("Mix", w=(3, 8))))
    assert {} == links(found)
    assert ["x.w"] == failing(found.unmatched_raw)


def test_without_a_common_name_nothing_is_merged() -> None:
    found = match(net(x=user("Mix", w=(4, 3, 2))), net(x=user("Mix", other=(4, 6))))
    assert {} == links(found)
    assert ["x.other"] == failing(found.unmatched_raw)


def test_the_users_map_may_name_them() -> None:
    model = _model(False), _model(True)
    found = match_models(*(HostedModel(each).describe() for each in model), parameter_map={"attn.q": "attn.k"})
    assert ("attn.k", "reshape") == links(found)["attn.q"]
