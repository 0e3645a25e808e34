"""A map that is written, edited and read back: it says all that was matched, and what is edited in it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from padiff_clients.run_keys import MapTable
from padiff_clients.runfile import load_map_file

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.match import match_models
from padiff_rpc.match.user_map import UserMap, parse_parameters
from padiff_rpc.match.written_map import map_as_toml
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result

X = as_inputs({"x": np.random.RandomState(0).standard_normal((2, 5, 8)).astype(np.float32)})
LAYERS, GROUPS = 3, 2
Q, KV, HIDDEN = 4, 2, 6
PARTS = ("q_proj", "k_proj", "v_proj")


class Block(nn.Layer):
    """Grouped queries, keys and values, and a gated MLP: each in Linears of its own, or fused."""

    def __init__(self, fused: bool, by_group: bool) -> None:
        super().__init__()
        self._fused, self._by_group = fused, by_group
        linear = nn.LinearIO if fused else nn.Linear
        sizes = {"qkv_proj": Q + 2 * KV, "up_gate_proj": 2 * HIDDEN} if fused else {}
        sizes = sizes or {**dict(zip(PARTS, (Q, KV, KV), strict=True)), "gate_proj": HIDDEN, "up_proj": HIDDEN}
        for name, size in sizes.items():
            setattr(self, name, linear(8, size))
        self.out_proj, self.down_proj = linear(KV, 8), linear(HIDDEN, 8)

    def forward(self, x: Tensor) -> Tensor:
        if self._fused:
            qkv, order = self.qkv_proj(x), np.arange(Q + 2 * KV)
            if self._by_group:
                order = order.reshape(GROUPS, -1)
                order = np.concatenate(
                    [part.reshape(-1) for part in np.split(order, [Q // GROUPS, (Q + KV) // GROUPS], axis=1)]
                )
            qkv, up_gate = qkv[..., order], self.up_gate_proj(x)
            q, k, v = qkv[..., :Q], qkv[..., Q : Q + KV], qkv[..., Q + KV :]
            up, gate = up_gate[..., :HIDDEN], up_gate[..., HIDDEN:]
        else:
            q, k, v = (getattr(self, name)(x) for name in PARTS)
            up, gate = self.up_proj(x), self.gate_proj(x)
        x = x + self.out_proj(q[..., :KV] * k.tanh() + q[..., KV:] * v.tanh())
        return x + self.down_proj(gate.tanh() * up)


class Decoder(nn.Layer):
    def __init__(self, fused: bool, by_group: bool = True) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        blocks = nn.LayerList(*(Block(fused, by_group) for _ in range(LAYERS)))
        self._name = "blocks" if fused else "layers"
        setattr(self, self._name, blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        for block in getattr(self, self._name):
            x = block(x)
        return x


def matched(base: nn.Layer, raw: nn.Layer, table: MapTable | None = None) -> Matching:
    table = table or MapTable()
    user_map = UserMap(table.layers, parse_parameters(table.parameters), table.renames)
    return match_models(HostedModel(base).describe(), HostedModel(raw).describe(), user_map)


def written(base: nn.Layer, raw: nn.Layer, table: MapTable | None = None) -> str:
    models = HostedModel(base).describe(), HostedModel(raw).describe()
    return map_as_toml(*models, matched(base, raw, table))


def read(folder: Path, text: str) -> MapTable:
    path = folder / "map.toml"
    path.write_text(text)
    return load_map_file(path)


def aligned(base: nn.Layer, raw: nn.Layer, table: MapTable) -> Result:
    settings = AlignSettings(layer_map=table.layers, parameter_map=table.parameters)
    return align(HostedModel(base), HostedModel(raw), X, X, settings)


QKV = "layers.*.q_proj.weight, layers.*.k_proj.weight, layers.*.v_proj.weight"
IN_GROUPS = f'"{QKV}" = "blocks.*.qkv_proj.weight by transpose_pack_columns@{GROUPS}"'


def edited(folder: Path) -> str:
    """Return the written map of the fused pair, with queries, keys and values by group."""
    text = written(Decoder(fused=False), Decoder(fused=True))
    for end, packing in (("weight", "transpose_pack_columns"), ("bias", "pack")):
        names = QKV.replace("weight", end)
        whole = f'# "{names}" = "blocks.*.qkv_proj.{end} by {packing}"\n'
        assert whole in text
        text = text.replace(whole, whole.removeprefix("# ").replace('"\n', f'@{GROUPS}"\n'))
    return text


def test_a_written_map_has_a_star_for_the_numbers_of_layers_and_packs_in_their_order() -> None:
    lines = written(Decoder(fused=False), Decoder(fused=True)).splitlines()
    gate_up = '# "layers.*.up_proj.bias, layers.*.gate_proj.bias" = "blocks.*.up_gate_proj.bias by pack"'
    for line in ('"layers.*.down_proj" = "blocks.*.down_proj"', gate_up, '"norm.weight" = "norm.weight by identity"'):
        assert line in lines
    assert [] == [line for line in lines if ".1." in line]


def test_a_written_map_that_is_read_back_matches_the_same(tmp_path: Path) -> None:
    before = matched(Decoder(fused=False), Decoder(fused=True))
    table = read(tmp_path, written(Decoder(fused=False), Decoder(fused=True)))
    after = matched(Decoder(fused=False), Decoder(fused=True), table)
    assert [(link.base, link.raw, link.rule) for link in before.links] == [
        (link.base, link.raw, link.rule) for link in after.links
    ]
    assert [(pair.base, pair.raw) for pair in before.layers] == [(pair.base, pair.raw) for pair in after.layers]
    assert [] == [one for one in (*after.unmatched_base, *after.unmatched_raw) if one.fails]
    assert table == read(tmp_path, written(Decoder(fused=False), Decoder(fused=True), table))


def test_an_edited_map_aligns_a_fused_qkv_by_group(tmp_path: Path) -> None:
    table = read(tmp_path, edited(tmp_path))
    assert aligned(Decoder(fused=False), Decoder(fused=True), table).aligned
    again = read(tmp_path, written(Decoder(fused=False), Decoder(fused=True), table))
    assert IN_GROUPS in written(Decoder(fused=False), Decoder(fused=True), again).splitlines()
    assert aligned(Decoder(fused=False), Decoder(fused=True), again).aligned


def test_a_wrong_order_of_one_layer_in_the_map_differs_at_that_layer(tmp_path: Path) -> None:
    exception = "\n".join(
        f'"layers.1.gate_proj.{end}, layers.1.up_proj.{end}" = "blocks.1.up_gate_proj.{end}"'
        for end in ("weight", "bias")
    )
    result = aligned(Decoder(fused=False), Decoder(fused=True), read(tmp_path, f"{edited(tmp_path)}{exception}\n"))
    assert not result.aligned
    assert result.first_divergence is not None
    assert "layers.1" == result.first_divergence.base.route


def test_a_wrong_rule_in_the_map_differs(tmp_path: Path) -> None:
    whole = read(tmp_path, edited(tmp_path).replace(f"@{GROUPS}", ""))
    result = aligned(Decoder(fused=False), Decoder(fused=True), whole)
    assert result.first_divergence is not None
    assert "layers.0" == result.first_divergence.base.route
    with pytest.raises(PadiffError, match="does not join these shapes"):
        matched(
            Decoder(fused=False),
            Decoder(fused=True),
            read(tmp_path, edited(tmp_path).replace("transpose_pack_columns@2", "transpose_pack")),
        )


def test_a_json_of_renames_is_a_map(tmp_path: Path) -> None:
    path = tmp_path / "renames.json"
    path.write_text('{"^layers": "blocks"}')
    assert {"^layers": "blocks"} == load_map_file(path).renames
    path.write_text('{"^layers": ')
    with pytest.raises(PadiffError, match=r"renames\.json"):
        load_map_file(path)
