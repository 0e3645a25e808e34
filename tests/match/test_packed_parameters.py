"""Linears that one side fuses (q, k, v; gate, up): linked, assigned and compared through every layout, and never guessed."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.assign.assign_weights import assign_weights
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.match import match_models
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from padiff_rpc.tensors.tensor import collect_all
from tests.match.descriptions import (
    describe,
    failing,
    links,
    net,
    paddle_attention,
    paddle_linear,
    routes,
    torch_attention,
    torch_linear,
    user,
)

WIDTH = 8
Q, KV = 6, 3
LINEARS: dict[str, Any] = {"oi": nn.Linear, "io": nn.LinearIO}
X = as_inputs({"x": np.random.RandomState(0).standard_normal((2, 5, WIDTH)).astype(np.float32)})


class Attention(nn.Layer):
    """Mixes q with the narrower k and v; `interleaved` takes them from the fused output in turns, as some models lay them."""

    def __init__(self, layout: str, fused: str, parts: tuple[str, ...], bias: bool, interleaved: bool) -> None:
        super().__init__()
        linear = LINEARS[layout]
        self._fused, self._parts, self._interleaved = fused, parts, interleaved
        if fused:
            setattr(self, fused, linear(WIDTH, Q + 2 * KV, bias))
        else:
            for name, size in zip(parts, (Q, KV, KV), strict=True):
                setattr(self, name, linear(WIDTH, size, bias))
        self.out_proj = linear(KV, WIDTH, bias)

    def forward(self, x: Tensor) -> Tensor:
        if self._fused:
            whole = getattr(self, self._fused)(x)
            order = np.arange(Q + 2 * KV)
            if self._interleaved:
                order = order.reshape(2, -1).T.reshape(-1)
            whole = whole[..., order]
            q, k, v = whole[..., :Q], whole[..., Q : Q + KV], whole[..., Q + KV :]
        else:
            q, k, v = (getattr(self, name)(x) for name in self._parts)
        return self.out_proj(q[..., :KV] * k.tanh() + q[..., KV:] * v.tanh())


class Mlp(nn.Layer):
    """Takes gate, then up, from a fused output; `up_first` takes them the other way about."""

    def __init__(self, layout: str, fused: str, parts: tuple[str, ...], bias: bool, up_first: bool) -> None:
        super().__init__()
        linear = LINEARS[layout]
        self._fused, self._parts, self._up_first = fused, parts, up_first
        for name, size in {fused: 8}.items() if fused else dict.fromkeys(parts, 4).items():
            setattr(self, name, linear(WIDTH, size, bias))
        self.down_proj = linear(4, WIDTH, bias)

    def forward(self, x: Tensor) -> Tensor:
        if self._fused:
            whole = getattr(self, self._fused)(x)
            gate, up = whole[..., :4], whole[..., 4:]
            if self._up_first:
                gate, up = up, gate
        else:
            gate, up = (getattr(self, name)(x) for name in self._parts)
        return self.down_proj(gate.tanh() * up)


class Decoder(nn.Layer):
    """Two blocks; each name of a fused Linear is empty where its parts are kept apart."""

    def __init__(
        self,
        layout: str,
        qkv: str = "",
        gate_up: str = "",
        q_k_v: tuple[str, ...] = ("q_proj", "k_proj", "v_proj"),
        gate_and_up: tuple[str, ...] = ("gate_proj", "up_proj"),
        bias: bool = True,
        attn: str = "attn",
        interleaved: bool = False,
        up_first: bool = False,
    ) -> None:
        super().__init__()
        self.layers = nn.LayerList(*(nn.Layer() for _ in range(2)))
        self._attn = attn
        for block in self.layers:
            setattr(block, attn, Attention(layout, qkv, q_k_v, bias, interleaved))
            block.mlp = Mlp(layout, gate_up, gate_and_up, bias, up_first)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.layers:
            x = x + getattr(block, self._attn)(x)
            x = x + block.mlp(x)
        return x


def aligned(base: nn.Layer, raw: nn.Layer, **settings: Any) -> Result:
    sgd = parse_optimizer("SGD(lr=0.1)")
    asked = AlignSettings(base_optimizer=sgd, raw_optimizer=sgd, **settings)
    return align(HostedModel(base), HostedModel(raw), X, X, asked)


def match(base: nn.Layer, raw: nn.Layer) -> Matching:
    return match_models(HostedModel(base).describe(), HostedModel(raw).describe())


LAYOUTS = list(itertools.product(LINEARS, LINEARS))
FUSED = {"qkv": "qkv_proj", "gate_up": "gate_up_proj"}


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize(("base", "raw"), LAYOUTS)
@pytest.mark.parametrize("fused_side", ["base", "raw"])
def test_fused_and_separate_linears_agree_in_every_stage(fused_side: str, base: str, raw: str, bias: bool) -> None:
    options = [FUSED if side == fused_side else {} for side in ("base", "raw")]
    result = aligned(Decoder(base, bias=bias, **options[0]), Decoder(raw, bias=bias, **options[1]))
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    assert result.aligned
    for stage in ("weights_before", "grads", "weights"):
        held = {(pair.base_route, pair.tensor) for pair in result.pairs if (pair.stage, pair.status) == (stage, "pass")}
        whole, part = ("qkv_proj.weight", "k_proj.weight")
        assert ("layers.1.attn", part if fused_side == "base" else whole) in held


@pytest.mark.parametrize(("base", "raw"), LAYOUTS)
def test_the_parts_are_the_whole_in_the_order_q_k_v(base: str, raw: str) -> None:
    models = HostedModel(Decoder(base, **FUSED)), HostedModel(Decoder(raw))
    assign_weights(*models, match_models(*(model.describe() for model in models)))
    whole = _weight(models[0], base, "layers.0.attn.qkv_proj")
    parts = [_weight(models[1], raw, f"layers.0.attn.{name}_proj") for name in "qkv"]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    whole = _weight(models[0], base, "layers.1.mlp.gate_up_proj")
    parts = [_weight(models[1], raw, f"layers.1.mlp.{name}_proj") for name in ("gate", "up")]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def _weight(model: HostedModel, layout: str, route: str) -> np.ndarray:
    """Read a matrix as [out, in]."""
    array = collect_all(model.read_parameters([f"{route}.weight"]))[f"{route}.weight"].to_array()
    return array if layout == "oi" else array.T


@pytest.mark.parametrize("qkv", ["qkv", "qkv_proj", "in_proj", "c_attn", "query_key_value", "Wqkv"])
@pytest.mark.parametrize("q_k_v", [("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("wq", "wk", "wv")])
def test_the_usual_names_are_known(qkv: str, q_k_v: tuple[str, ...]) -> None:
    found = match(Decoder("oi", qkv=qkv), Decoder("io", q_k_v=q_k_v, attn="self_attn"))
    assert [] == [entry for entry in (*found.unmatched_base, *found.unmatched_raw) if entry.fails]
    assert 2 == sum(link.rule == "split_transpose" for link in found.links)


@pytest.mark.parametrize("gate_up", ["gate_up_proj", "gate_up", "w13", "fc_gate_up", "gate_up_fused_proj"])
@pytest.mark.parametrize("gate_and_up", [("gate_proj", "up_proj"), ("w1", "w3"), ("gate", "up")])
def test_the_usual_names_of_gate_and_up_are_known(gate_up: str, gate_and_up: tuple[str, ...]) -> None:
    found = match(Decoder("io", gate_and_up=gate_and_up), Decoder("io", gate_up=gate_up))
    assert [] == [entry for entry in (*found.unmatched_base, *found.unmatched_raw) if entry.fails]
    assert 2 == sum(link.rule == "pack_columns" for link in found.links)


def test_the_order_is_noted_and_the_layers_are_left_without_a_pair() -> None:
    found = match(Decoder("oi", **FUSED), Decoder("oi"))
    assert any("layers.0.attn.qkv_proj is taken to hold" in note and "q, k, v" in note for note in found.guesses)
    assert any("gate, up" in note for note in found.guesses)
    why = {entry.name: entry.why for entry in (*found.unmatched_base, *found.unmatched_raw)}
    for name in ("qkv_proj", "q_proj", "k_proj", "v_proj"):
        assert "its output has no counterpart" in why[f"layers.0.attn.{name}"]
    assert {"layers.0.attn", "layers.0.attn.out_proj", "layers.1.mlp.down_proj"} <= {pair.base for pair in found.layers}


def test_an_interleaved_layout_differs_and_is_never_aligned() -> None:
    result = aligned(Decoder("oi", **FUSED, interleaved=True), Decoder("io"))
    assert not result.aligned
    assert result.first_divergence is not None
    assert ("forward", "layers.0.attn") == (result.first_divergence.stage, result.first_divergence.base.route)
    assert any("layers.0.attn.qkv_proj" in note and "nothing fits" in note for note in result.notes)


@pytest.mark.parametrize("name", ["up_gate_proj", "up_gate", "fused_up_gate_proj", "fc_up_gate"])
@pytest.mark.parametrize("up_first", [True, False], ids=["as the name says", "the other way about"])
def test_the_name_gives_the_order_and_the_outputs_decide(name: str, up_first: bool) -> None:
    result = aligned(Decoder("oi"), Decoder("io", gate_up=name, up_first=up_first))
    assert up_first == result.aligned
    told = "this fits" if up_first else "another layout would fit, which is not taken"
    assert any(f"mlp.{name} is taken as expected (up, gate, one" in note and told in note for note in result.notes)
    if not up_first:
        assert result.first_divergence is not None
        assert "layers.0.mlp" in result.first_divergence.base.route


def test_a_name_with_gate_first_means_gate_first() -> None:
    assert not aligned(Decoder("oi"), Decoder("io", gate_up="gate_up_proj", up_first=True)).aligned


@pytest.mark.parametrize(("name", "order"), [("kqv", ("k", "q", "v")), ("value_key_query", ("v", "k", "q"))])
def test_q_k_and_v_follow_their_name_too(name: str, order: tuple[str, ...]) -> None:
    found = match(Alone({name: 12}), Alone({"q": 4, "k": 4, "v": 4}))
    assert [tuple(f"{part}.weight" for part in order)] == [link.raw for link in found.links if "weight" in link.base[0]]


def test_without_an_attention_layer_around_them_they_are_found_too() -> None:
    """One side has q, k, v right in its block, the other a layer of their own around the fused one."""

    class Flat(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(4, size) for size in (4, 2, 2))
            self.norm = nn.LayerNorm(4)

    class Wrapped(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.Sequential()
            self.attn.qkv = nn.LinearIO(4, 8)
            self.norm = nn.LayerNorm(4)

    found = match(Flat(), Wrapped())
    assert {("q.weight", "k.weight", "v.weight"): "transpose_pack_columns", ("q.bias", "k.bias", "v.bias"): "pack"} == {
        link.base: link.rule for link in found.links if "qkv" in link.raw[0]
    }


class Alone(nn.Layer):
    def __init__(self, sizes: dict[str, int], without_bias: str = "") -> None:
        super().__init__()
        for name, size in sizes.items():
            setattr(self, name, nn.Linear(4, size, name != without_bias))


@pytest.mark.parametrize(
    ("sizes", "without_bias", "failing"),
    [
        ({"q": 4, "k": 4, "v": 3}, "", ["qkv.weight", "qkv.bias"]),
        ({"q": 4, "k": 4, "v": 4}, "k", ["qkv"]),
        ({"q": 6, "k": 6}, "", ["qkv.weight", "qkv.bias"]),
    ],
    ids=["sizes that do not add up", "a bias that one part lacks", "a part too few"],
)
def test_what_does_not_fit_fails(sizes: dict[str, int], without_bias: str, failing: list[str]) -> None:
    found = match(Alone({"qkv": 12}), Alone(sizes, without_bias))
    assert failing == [entry.name for entry in found.unmatched_base if entry.fails]
    assert [] != [entry for entry in found.unmatched_raw if entry.fails]


@pytest.mark.parametrize("names", [{"qkv": 12}, {"q": 4, "k": 4, "v": 4}])
def test_two_sides_of_one_kind_are_paired_layer_by_layer(names: dict[str, int]) -> None:
    found = match(Alone(names), Alone(names))
    assert {"identity"} == {link.rule for link in found.links}
    assert {"", *names} == {pair.base for pair in found.layers}


def test_two_fused_linears_against_two_groups_keep_their_order() -> None:
    def side(fused: bool) -> nn.Layer:
        attention = [nn.Layer(), nn.Layer()]
        for layer in attention:
            for name, size in {"qkv": 12}.items() if fused else dict.fromkeys("qkv", 4).items():
                setattr(layer, name, nn.Linear(4, size))
        model = nn.Layer()
        model.first, model.second = attention
        return model

    by_raw = {link.raw: link.base for link in match(side(True), side(False)).links}
    assert ("second.qkv.weight",) == by_raw["second.q.weight", "second.k.weight", "second.v.weight"]


# -- torch's own packed attention -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("to", ["paddle", "torch"])
def test_attention_of_torch_and_of_paddle_leaves_nothing_over(to: str, bias: bool) -> None:
    models = (
        describe("torch", net(attn=torch_attention(bias=bias))),
        describe("paddle", net(attn=paddle_attention(bias=bias))),
    )
    found = match_models(*models) if to == "paddle" else match_models(*models[::-1])
    assert (failing(found.unmatched_base), failing(found.unmatched_raw)) == ([], [])
    rules = ["split_transpose", "split"] if to == "paddle" else ["transpose_pack", "pack"]
    assert rules[: 1 + bias] == [link.rule for link in found.links if "out_proj" not in link.raw[0]]


@pytest.mark.parametrize(("framework", "rule"), [("torch", "identity"), ("paddle", "transpose")])
def test_packed_attention_of_torch_is_one_fused_linear_elsewhere(framework: str, rule: str) -> None:
    linear = torch_linear if framework == "torch" else paddle_linear
    fused = user("Attention", {"qkv": linear(8, 24), "proj": linear(8, 8)})
    found = match_models(describe("torch", net(attn=torch_attention())), describe(framework, net(attn=fused)))
    assert ("attn.qkv.weight", rule) == links(found)["attn.in_proj_weight"]
    assert ("attn.qkv.bias", "identity") == links(found)["attn.in_proj_bias"]
    assert routes(found)["attn.out_proj"] == "attn.proj"
    assert (failing(found.unmatched_base), failing(found.unmatched_raw)) == ([], [])


# -- k and v in one -------------------------------------------------------------------------------------------------------
class Narrow(nn.Layer):
    """Attention whose k and v lie in one Linear, `by_heads` or whole; v_first: takes them the other way about."""

    def __init__(self, fused: str, by_heads: bool = False, v_first: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.num_kv_heads = 2
        linear = nn.LinearIO if fused else nn.Linear
        self.q_proj = linear(WIDTH, 4)
        for name, size in {fused: 8}.items() if fused else {"k_proj": 4, "v_proj": 4}.items():
            setattr(self, name, linear(WIDTH, size))
        self.out_proj = linear(4, WIDTH)
        self._fused, self._by_heads, self._v_first, self._scale = fused, by_heads, v_first, np.float32(scale)

    def forward(self, x: Tensor) -> Tensor:
        if self._fused:
            rows = np.arange(8).reshape(2, 2, 2) if self._by_heads else np.arange(8).reshape(1, 2, 4)
            k, v = (getattr(self, self._fused)(x)[..., rows[:, at].reshape(-1)] for at in (0, 1))
            k, v = (v, k) if self._v_first else (k, v)
        else:
            k, v = self.k_proj(x), self.v_proj(x)
        return self.out_proj((self.q_proj(x) * k.tanh() * self._scale + v).tanh())


def narrow(fused: str = "", attn: str = "attn", **options: Any) -> nn.Layer:
    model = nn.Sequential()
    setattr(model, attn, Narrow(fused, **options))
    return model


@pytest.mark.parametrize("name", ["kv_proj", "kv", "to_kv", "key_value"])
@pytest.mark.parametrize("by_heads", [False, True])
def test_k_and_v_in_one_are_found_and_a_fault_beside_them_too(name: str, by_heads: bool) -> None:
    result = aligned(narrow(), narrow(name, attn="self_attn", by_heads=by_heads))
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    assert result.aligned
    assert by_heads == ("NOT as expected" in result.notes[0])
    faulty = aligned(narrow(), narrow(name, attn="self_attn", by_heads=by_heads, scale=1.02))
    assert faulty.first_divergence is not None
    assert "attn" == faulty.first_divergence.base.route


def test_v_before_k_differs_where_the_name_says_k_before_v() -> None:
    result = aligned(narrow(), narrow("kv_proj", v_first=True))
    assert not result.aligned
    assert any("another layout would fit" in note and "v, k, one whole" in note for note in result.notes)
