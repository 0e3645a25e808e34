"""Packed Linears and how they lie: as their library is known to lay them, as their name tells, or in groups of heads."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.match.layout_rules import RULES, rule_named
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from tests.align.pairs import Claimed

WIDTH, HEADS, KV_HEADS, SIZE = 8, 4, 2, 2
Q, KV = HEADS * SIZE, KV_HEADS * SIZE
X = as_inputs({"x": np.random.RandomState(0).standard_normal((2, 5, WIDTH)).astype(np.float32)})
LIBRARY = {
    "Attention": "paddleformers.transformers.qwen2.modeling.Qwen2Attention",
    "Mlp": "paddleformers.nn.mlp.MLP",
}


class Attention(nn.Layer):
    """Mixes q, k and v, kept apart or packed: `lie` tells whether each lies whole ("whole"), or head by head ("groups")."""

    def __init__(self, packed: bool, lie: str) -> None:
        super().__init__()
        self.num_key_value_heads = KV_HEADS
        self._packed, self._lie = packed, lie
        if packed:
            self.qkv_proj = nn.LinearIO(WIDTH, Q + 2 * KV)
        else:
            self.q_proj, self.k_proj, self.v_proj = (nn.Linear(WIDTH, size) for size in (Q, KV, KV))
        self.o_proj = (nn.LinearIO if packed else nn.Linear)(KV, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        if self._packed:
            whole = self.qkv_proj(x)
            if self._lie == "groups":
                order = np.arange(Q + 2 * KV).reshape(KV_HEADS, -1)
                share = Q // KV_HEADS
                cut = order[:, :share], order[:, share : share + SIZE], order[:, share + SIZE :]
                q, k, v = (whole[..., part.reshape(-1)] for part in cut)
            else:
                q, k, v = whole[..., :Q], whole[..., Q : Q + KV], whole[..., Q + KV :]
        else:
            q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return self.o_proj(q[..., :KV] * k.tanh() + q[..., KV:] * v.tanh())


class Mlp(nn.Layer):
    def __init__(self, packed: bool, up_first: bool) -> None:
        super().__init__()
        self._packed, self._up_first = packed, up_first
        if packed:
            self.up_gate_proj = nn.LinearIO(WIDTH, 8)
        else:
            self.gate_proj, self.up_proj = nn.Linear(WIDTH, 4), nn.Linear(WIDTH, 4)
        self.down_proj = (nn.LinearIO if packed else nn.Linear)(4, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        if self._packed:
            whole = self.up_gate_proj(x)
            gate, up = whole[..., :4], whole[..., 4:]
            if self._up_first:
                gate, up = up, gate
        else:
            gate, up = self.gate_proj(x), self.up_proj(x)
        return self.down_proj(gate.tanh() * up)


class Block(nn.Layer):
    def __init__(self, packed: bool, lie: str = "groups", up_first: bool = False) -> None:
        super().__init__()
        self.attn = Attention(packed, lie)
        self.mlp = Mlp(packed, up_first)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


def run(classes: dict[str, str], back: bool = False, **packed: Any) -> Result:
    apart: Any = Claimed("torch", Block(False), {})
    raw: Any = Claimed("paddle", Block(True, **packed), classes)
    return align(*((raw, apart) if back else (apart, raw)), X, X, AlignSettings())


@pytest.mark.parametrize("back", [False, True], ids=["raw packs", "base packs"])
def test_the_layout_of_a_known_library_is_taken_and_noted(back: bool) -> None:
    result = run(LIBRARY, back)
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    assert result.aligned
    for told in (
        "(gate, up, one whole after the other, as paddleformers lays them)",
        "(q, k, v, in 2 groups with a share of each, as paddleformers lays them)",
    ):
        assert any(told in note for note in result.notes)


@pytest.mark.parametrize(
    ("fault", "at"),
    [({"lie": "whole"}, "attn"), ({"up_first": True}, "mlp")],
    ids=["not head by head", "up before gate"],
)
def test_a_model_that_does_otherwise_in_the_librarys_name_differs(fault: dict[str, Any], at: str) -> None:
    result = run(LIBRARY, **fault)
    assert not result.aligned
    assert result.first_divergence is not None
    assert result.first_divergence.base.route.startswith(at)


@pytest.mark.parametrize("lie", ["whole", "groups"])
def test_in_a_class_of_the_users_own_the_name_gives_the_order_and_trying_the_groups(lie: str) -> None:
    assert not run({}, lie=lie).aligned
    assert run({}, lie=lie, up_first=True).aligned


# -- rules with groups --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("columns", "transpose"), list(itertools.product([False, True], repeat=2)))
def test_packing_in_groups_and_splitting_undo_each_other(columns: bool, transpose: bool) -> None:
    tail = "_columns" if columns else ""
    pack = rule_named(f"{'transpose_' if transpose else ''}pack{tail}@2")
    split = rule_named(f"split{tail}{'_transpose' if transpose else ''}@2")
    parts = [np.arange(rows * 3).reshape(rows, 3) + 100 * rows for rows in (8, 4, 2)]
    parts = [part.T if columns != transpose else part for part in parts]
    shapes, whole = [part.shape for part in parts], (3, 14) if columns else (14, 3)
    assert pack.fits(shapes, [whole])
    assert split.fits([whole], shapes)
    (packed,) = pack.transform(parts, [whole])
    first = packed[0] if columns else packed[:, 0]
    assert [800, 803, 806, 809, 400, 403, 200, 812, 815, 818, 821, 406, 409, 203] == first.tolist()
    for before, after in zip(parts, split.transform([packed], shapes), strict=True):
        np.testing.assert_array_equal(before, after)


def test_parts_that_do_not_fall_into_the_groups_do_not_fit() -> None:
    assert not rule_named("pack@4").fits([(8, 3), (6, 3)], [(14, 3)])
    assert rule_named("pack") is RULES["pack"]
