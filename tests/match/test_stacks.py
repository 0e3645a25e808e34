"""Stacks of layers: a plain list against a framework's own encoder, and groups of one name that hold one tensor too many."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.match.match import match_models
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from tests.align.pairs import Claimed
from tests.match.descriptions import (
    L,
    describe,
    failing,
    match,
    net,
    norm,
    paddle_linear,
    routes,
    seq,
    torch_linear,
    user,
)

WIDTH = 4
X = as_inputs({"x": np.random.RandomState(0).standard_normal((2, 5, WIDTH)).astype(np.float32)})
NAMES = {"base": ("self_attn_layer_norm", "final_layer_norm", "fc1"), "raw": ("norm1", "norm2", "linear1")}


class Block(nn.Layer):
    """Four square Linears and two norms. fault: "" for none, "q and k" or "norms" for two layers that change places."""

    def __init__(self, side: str, fault: str = "") -> None:
        super().__init__()
        linear = nn.Linear if side == "base" else nn.LinearIO
        first, second, fc = NAMES[side]
        for name in ("k_proj", "q_proj") if side == "base" else ("q_proj", "k_proj"):
            setattr(self, name, linear(WIDTH, WIDTH))
        setattr(self, first, nn.LayerNorm(WIDTH))
        setattr(self, fc, linear(WIDTH, WIDTH))
        setattr(self, second, nn.LayerNorm(WIDTH))
        self._order = (second, first, fc) if fault == "norms" else (first, second, fc)
        self._swapped = fault == "q and k"

    def forward(self, x: Tensor) -> Tensor:
        first, second, fc = (getattr(self, name) for name in self._order)
        q, k = (self.k_proj, self.q_proj) if self._swapped else (self.q_proj, self.k_proj)
        x = first(x + q(x).tanh() * k(x))
        return second(x + fc(x).tanh())


class Plain(nn.Layer):
    """Runs its layers itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.LayerList(*(Block("base") for _ in range(2)))
        self.last_norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(self.last_norm(x))


class Stack(nn.Layer):
    """The framework's encoder, by the class that it claims."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.layers = nn.LayerList(*(Block("raw", fault) for _ in range(2)))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class Stacked(nn.Layer):
    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.encoder = Stack(fault)
        self.head = nn.LinearIO(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))


def run(fault: str = "", back: bool = False) -> Result:
    plain: Any = Claimed("torch", Plain(), {"LayerList": "torch.nn.modules.container.ModuleList"})
    stack = {"Stack": "paddle.nn.layer.transformer.TransformerEncoder", "Block": "paddle.nn.TransformerEncoderLayer"}
    stacked: Any = Claimed("paddle", Stacked(fault), stack)
    return align(*((stacked, plain) if back else (plain, stacked)), X, X, AlignSettings())


@pytest.mark.parametrize("back", [False, True], ids=["raw", "base"])
def test_a_frameworks_encoder_is_looked_through_and_its_last_norm_is_matched(back: bool) -> None:
    result = run(back=back)
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    assert result.aligned
    assert any("encoder, a TransformerEncoder, is looked through" in note for note in result.notes)
    paired = dict((raw, base) if back else (base, raw) for base, raw in result.paired_routes)
    assert {
        "layers": "encoder.layers",
        "layers.1.k_proj": "encoder.layers.1.k_proj",
        "layers.1.final_layer_norm": "encoder.layers.1.norm2",
        "layers.1.fc1": "encoder.layers.1.linear1",
        "last_norm": "encoder.norm",
    }.items() <= paired.items()


@pytest.mark.parametrize("fault", ["q and k", "norms"])
def test_a_fault_inside_the_encoder_differs(fault: str) -> None:
    result = run(fault)
    assert not result.aligned
    assert result.first_divergence is not None
    assert result.first_divergence.base.route.startswith("layers.")


def test_two_encoders_of_the_frameworks_are_still_paired_as_such() -> None:
    torch = net(enc=L("TransformerEncoder", {}, {"layers": seq(torch_linear(4, 4), norm(4), kind="ModuleList")}))
    paddle = net(stack=L("TransformerEncoder", {}, {"layers": seq(paddle_linear(4, 4), norm(4), kind="LayerList")}))
    found = match(torch, paddle)
    assert ("stack", "stack.layers.0") == (routes(found)["enc"], routes(found)["enc.layers.0"])
    assert not any("looked through" in note for note in found.notes)


# -- one tensor too many ------------------------------------------------------------------------------------------------
def blocks(linear: Any) -> L:
    def block() -> L:
        return user("Block", {name: linear(4, 4) for name in ("a", "b", "c", "d")})

    return seq(block(), block(), kind="ModuleList")


@pytest.mark.parametrize(
    "encoder",
    [
        user("TheirEncoder", {"layers": blocks(paddle_linear)}),
        L("TransformerEncoder", {}, {"layers": blocks(paddle_linear)}),
        blocks(paddle_linear),
    ],
    ids=["a user's class", "a framework's encoder", "a list"],
)
@pytest.mark.parametrize("back", [False, True], ids=["base", "raw"])
def test_a_group_that_holds_one_tensor_too_many_keeps_its_layers_together(encoder: L, back: bool) -> None:
    """If all were looked through, Linears would be paired in order, and the head, which comes first, is one of them."""
    torch = describe("torch", user("Net", {"encoder": user("Encoder", {"layers": blocks(torch_linear)}, table=(9, 4))}))
    paddle = describe("paddle", user("Net", {"head": paddle_linear(4, 4), "encoder": encoder}))
    found = match_models(*((paddle, torch) if back else (torch, paddle)))
    paired = {f".{base}"[-4:]: f".{raw}"[-4:] for base, raw in routes(found).items() if base.endswith(tuple("abcd"))}
    assert {f".{at}.{name}"[-4:] for at in "01" for name in "abcd"} == paired.keys()
    assert [] == [(base, raw) for base, raw in paired.items() if base != raw]
    left = failing(found.unmatched_base), failing(found.unmatched_raw)
    assert ["head"] in left
    assert any("encoder" in name for name in [*left[0], *left[1]])


def test_groups_of_one_name_that_hold_other_things_are_looked_through_as_before() -> None:
    torch = user("Net", {"body": user("Body", {"one": torch_linear(4, 3), "two": torch_linear(3, 2)})})
    paddle = user("Net", {"body": user("Body", {"one": paddle_linear(4, 3)}), "two": paddle_linear(3, 2)})
    found = match(torch, paddle)
    assert ("body.one", "two") == (routes(found)["body.one"], routes(found)["body.two"])
    assert ([], []) == (failing(found.unmatched_base), failing(found.unmatched_raw))
