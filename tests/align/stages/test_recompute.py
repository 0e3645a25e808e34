"""Layers that are computed anew in the backward: their gradients are skipped with that reason, and faults are still found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor, apply
from padiff_rpc.numpy_framework.graph import grad_mode
from padiff_rpc.result import Pair, Result

X = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)


def recompute(layer: nn.Layer, x: Tensor) -> Tensor:
    """Run a layer without a history, and again, with one, when its gradient is asked for."""
    given = x.values.copy()
    with grad_mode(False):
        values = layer(x).values

    def vjp(gradient: np.ndarray) -> tuple[np.ndarray]:
        again = Tensor(given).requires_grad_()
        with grad_mode(True):
            (layer(again) * Tensor(gradient)).sum().backward()
        assert again.grad is not None
        return (again.grad.values,)

    return apply(values.copy(), (x,), vjp)


class Bent(nn.Layer):
    """Tanh in the forward; its gradient is half as large again."""

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh() + (x - x.detach()) * 0.5


class Net(nn.Layer):
    def __init__(self, anew: bool = False, bent: bool = False, detached: bool = False) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.block = nn.Sequential(nn.Linear(6, 6), Bent() if bent else nn.Tanh())
        self.head = nn.Linear(6, 2)
        self._anew, self._detached = anew, detached

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self._detached:
            x = x.detach().requires_grad_()
        return self.head(recompute(self.block, x) if self._anew else self.block(x))


def run(base: nn.Layer, raw: nn.Layer, **settings: Any) -> Result:
    inputs = as_inputs({"x": X})
    return align(HostedModel(base), HostedModel(raw), inputs, inputs, AlignSettings(**settings))


def skipped(result: Result) -> set[tuple[str, str]]:
    return {(pair.base_route, pair.why.partition(":")[0]) for pair in result.pairs if "anew" in pair.why}


def grads(result: Result) -> list[Pair]:
    return [pair for pair in result.pairs if pair.stage == "grads"]


INSIDE = ("block", "block.0", "block.1")


@pytest.mark.parametrize("side", ["base", "raw"])
def test_gradients_inside_what_one_side_recomputes_are_skipped(side: str) -> None:
    result = run(Net(anew=side == "base"), Net(anew=side == "raw"))
    assert result.aligned
    other = "raw" if side == "base" else "base"
    why = f"only {other} has this gradient; {side} computes this layer anew in the backward"
    assert {(route, why) for route in INSIDE} == skipped(result)
    assert {"pass"} == {pair.status for pair in grads(result)}
    assert 6 == len(grads(result))


def test_what_both_sides_recompute_is_listed() -> None:
    result = run(Net(anew=True), Net(anew=True))
    assert result.aligned
    assert {(route, "both sides compute this layer anew in the backward") for route in INSIDE} == skipped(result)


@pytest.mark.parametrize("base_too", [False, True])
def test_a_wrong_gradient_inside_shows_in_the_gradients_of_parameters(base_too: bool) -> None:
    result = run(Net(anew=base_too), Net(anew=True, bent=True))
    assert not result.aligned
    assert {"stem", "block.0"} == {pair.base_route for pair in grads(result) if pair.status == "fail"}


def test_a_gradient_that_is_cut_before_such_a_block_is_found() -> None:
    result = run(Net(), Net(anew=True, detached=True))
    assert not result.aligned
    assert result.first_divergence is not None
    assert {"stem"} == {pair.base_route for pair in grads(result) if pair.status == "fail"}


def test_a_gradient_that_is_cut_and_not_recomputed_fails_as_before() -> None:
    class Cut(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.block(self.stem(x)).detach())

    assert not run(Net(), Cut()).aligned
