"""Adapters that one side writes as a wrapper with Linears inside, and the other as a layer with parameters of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.match.match import match_models
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import functions as F
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from tests.align.pairs import Claimed
from tests.match.descriptions import L, describe, failing, links, match, net, routes, torch_linear, user

X = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)


class Named(nn.Layer):
    """Layers by name, as a ModuleDict holds them."""

    def __init__(self, **layers: nn.Layer) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


class Wrapper(nn.Layer):
    """LoRA as a wrapper. `scaling` and `swapped`, which uses A and B in the wrong order, are for faults."""

    def __init__(self, size: int, rank: int) -> None:
        super().__init__()
        self.base_layer = nn.Linear(size, size)
        self.lora_A = Named(default=nn.Linear(size, rank, bias=False))
        self.lora_B = Named(default=nn.Linear(rank, size, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.lora_B.default(self.lora_A.default(x)) * 2.0


class Whole(nn.Layer):
    """The same as one layer with parameters of its own, each [in, out]."""

    def __init__(self, size: int, rank: int, scaling: float = 2.0, turned: bool = False) -> None:
        super().__init__()
        draw = np.random.default_rng(5).normal
        shapes = {"weight": (size, size), "bias": (size,), "lora_A": (size, rank), "lora_B": (rank, size)}
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(draw(size=shape).astype(np.float32)))
        self._scaling, self._turned = scaling, turned

    def forward(self, x: Tensor) -> Tensor:
        inner = self.lora_A.transpose(1, 0).reshape(*self.lora_A.shape) if self._turned else self.lora_A
        low = F.linear(x, inner, None)
        return F.linear(x, self.weight, self.bias) + F.linear(low, self.lora_B, None) * self._scaling


class Net(nn.Layer):
    def __init__(self, q: nn.Layer, v: nn.Layer) -> None:
        super().__init__()
        self.q, self.v = q, v

    def forward(self, x: Tensor) -> Tensor:
        return self.q(x) * self.v(x)


def run(rank: int = 2, wrapper: str = "base", **fault: Any) -> Result:
    parted, whole = Net(Wrapper(8, rank), Wrapper(8, rank)), Net(Whole(8, rank), Whole(8, rank, **fault))
    models: list[Any] = [Claimed("torch", parted, {}), Claimed("paddle", whole, {})]
    inputs = as_inputs({"x": X})
    return align(*(models if wrapper == "base" else models[::-1]), inputs, inputs, AlignSettings())


@pytest.mark.parametrize("wrapper", ["base", "raw"])
def test_both_forms_of_an_adapter_are_aligned(wrapper: str) -> None:
    result = run(wrapper=wrapper)
    assert result.aligned
    assert [] == result.extras
    assert {"q", "v"} <= {pair.base_route for pair in result.pairs if pair.stage == "backward"}
    assert 8 == sum(pair.stage == "grads" and pair.status == "pass" for pair in result.pairs)


@pytest.mark.parametrize("fault", [{"scaling": 2.01}, {"turned": True}], ids=str)
@pytest.mark.parametrize("wrapper", ["base", "raw"])
def test_a_fault_in_it_is_found_at_it(wrapper: str, fault: dict[str, Any]) -> None:
    result = run(wrapper=wrapper, **fault)
    assert result.first_divergence is not None
    assert "v" == result.first_divergence.base.route


WRAPPED = {"base_layer": torch_linear(8, 8), "lora_A": user("ModuleDict", {"default": torch_linear(8, 2, bias=False)})}
OWN = {"weight": (8, 8), "bias": (8,), "lora_A": (8, 2)}


def test_the_layers_inside_get_no_partner_and_say_why() -> None:
    found = match(net(q=user("LoRA", WRAPPED)), net(q=user("LoRA", **OWN)))
    assert {"q": "q", "": ""} == routes(found)
    assert ("q.lora_A", "transpose") == links(found)["q.lora_A.default.weight"]
    assert [] == [*failing(found.unmatched_base), *failing(found.unmatched_raw)]
    assert {"q.base_layer", "q.lora_A"} == {entry.name for entry in found.unmatched_base}
    assert all("q holds the parameters itself in raw" in entry.why for entry in found.unmatched_base)


@pytest.mark.parametrize(
    "own",
    [{**OWN, "lora_B": (8, 2)}, {"weight": (8, 8), "bias": (8,), "low": (8, 2)}, {"weight": (8, 8), "lora_A": (8, 2)}],
    ids=["one more", "another name", "one less"],
)
def test_layers_that_hold_unlike_parameters_are_no_adapter(own: dict[str, tuple[int, ...]]) -> None:
    found = match(net(q=user("LoRA", WRAPPED)), net(q=user("LoRA", **own)))
    assert "q" not in routes(found)
    assert failing(found.unmatched_base)


def test_two_layers_left_over_are_no_adapter() -> None:
    """Both Linears hold a weight: which of them the one of the whole layer is cannot be told."""
    parts = {"one": torch_linear(8, 8, bias=False), "two": torch_linear(8, 8, bias=False)}
    found = match_models(
        describe("torch", net(q=user("Twice", parts))),
        describe("paddle", net(q=L("Twice", {"weight": (8, 8)}, own_class=True))),
    )
    assert "q" not in routes(found)
