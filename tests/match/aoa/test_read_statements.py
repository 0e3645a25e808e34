"""AOA statements become entries of a map that move the same elements; what cannot be read or followed is named."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.aoa.grammar import parse_statements
from padiff_rpc.match.aoa.read_statements import read_statements
from padiff_rpc.match.layout_rules import Shape, rule_named
from padiff_rpc.match.user_map import MappedParameters
from padiff_rpc.per_side import PerSide
from padiff_rpc.tensors.tensor import DType, TensorSpec

HEADS, GROUPS = 4, 2
Q, K, V = (8, 6), (4, 6), (4, 6)
QKV_BY_GROUP = "fused_qkv, num_heads=4, num_key_value_groups=2"


def specs(**shapes: Shape) -> dict[str, TensorSpec]:
    return {name.replace("__", "."): TensorSpec(DType.F32, shape) for name, shape in shapes.items()}


def read(
    *statements: str, base: dict[str, TensorSpec], raw: dict[str, TensorSpec]
) -> tuple[list[MappedParameters], list[str]]:
    return read_statements(statements, PerSide(base, raw))


def test_a_rename_a_transpose_and_a_layer_number_become_entries() -> None:
    base = specs(h__0__w=(2, 3), h__7__w=(2, 3), h__0__b=(3,), h__7__b=(3,))
    raw = specs(l__0__w=(3, 2), l__7__w=(3, 2), l__0__b=(3,), l__7__b=(3,))

    entries, notes = read("h.$LAYER_ID.w^T -> l.$LAYER_ID.w", "h.$LAYER_ID.b -> l.$LAYER_ID.b", base=base, raw=raw)

    assert notes == []
    assert entries == [
        MappedParameters(("h.0.w",), ("l.0.w",), "transpose"),
        MappedParameters(("h.7.w",), ("l.7.w",), "transpose"),
        MappedParameters(("h.0.b",), ("l.0.b",), "identity"),
        MappedParameters(("h.7.b",), ("l.7.b",), "identity"),
    ]


def test_fused_qkv_lays_each_group_as_its_heads_of_q_then_k_then_v() -> None:
    base, raw = specs(q=Q, k=K, v=V), specs(qkv=(6, 16))
    values = {
        name: np.arange(spec.count).reshape(spec.shape) + 100 * at for at, (name, spec) in enumerate(base.items())
    }

    (entry,), _ = read(f"q^T, k^T, v^T -> qkv, {QKV_BY_GROUP}", base=base, raw=raw)
    (made,) = rule_named(entry.rule).transform([values[name] for name in entry.base], [(6, 16)])

    q, k, v = (values[name].T for name in "qkv")
    assert np.array_equal(made, np.concatenate([q[:, :4], k[:, :2], v[:, :2], q[:, 4:], k[:, 2:], v[:, 2:]], axis=1))


@pytest.mark.parametrize(
    ("statements", "base", "raw", "entry"),
    [
        pytest.param(
            ["g^T, u^T -> ug, fused_ffn"], specs(g=(5, 3), u=(5, 3)), specs(ug=(3, 10)),
            MappedParameters(("g", "u"), ("ug",), "transpose_pack_columns"), id="gate_and_up",
        ),
        pytest.param(
            ["ug^T -> g, u, fused_ffn"], specs(ug=(10, 3)), specs(g=(3, 5), u=(3, 5)),
            MappedParameters(("ug",), ("g", "u"), "split_transpose"), id="gate_and_up_apart",
        ),
        pytest.param(
            [f"qkv^T -> q, k, v, {QKV_BY_GROUP}"], specs(qkv=(16, 6)), specs(q=(6, 8), k=(6, 4), v=(6, 4)),
            MappedParameters(("qkv",), ("q", "k", "v"), "split_transpose@2"), id="qkv_by_group_apart",
        ),
        pytest.param(
            ["qkv -> q, k, v, fused_qkv_old, num_heads=4, num_key_value_groups=2, axis=0"],
            specs(qkv=(16,)), specs(q=(8,), k=(4,), v=(4,)),
            MappedParameters(("qkv",), ("q", "k", "v"), "split"), id="qkv_one_after_the_other_apart",
        ),
        pytest.param(
            ["w.* -> all, axis=0"], specs(w__0=(1, 3), w__10=(1, 3), w__2=(1, 3)), specs(all=(3, 3)),
            MappedParameters(("w.0", "w.2", "w.10"), ("all",), "pack"), id="star_in_the_order_of_its_numbers",
        ),
        pytest.param(
            ["w -> t[0:3], axis=1", "t_2, t_0, t_1 -> x, axis=1", "x -> w_2[0:3], axis=1"],
            specs(w=(2, 3)), specs(w_2_0=(2, 1), w_2_1=(2, 1), w_2_2=(2, 1)),
            MappedParameters(("w",), ("w_2_1", "w_2_2", "w_2_0"), "split_columns"), id="through_names_of_its_own",
        ),
        pytest.param(
            ['w -> t, permute="[1, 0]"', "t^T -> u", "u -> x"], specs(w=(2, 3)), specs(x=(2, 3)),
            MappedParameters(("w",), ("x",), "identity"), id="transposed_twice",
        ),
        pytest.param(
            ["w^T -> w", "w -> x"], specs(w=(2, 3)), specs(w=(3, 2), x=(3, 2)),
            MappedParameters(("w",), ("x",), "transpose"), id="what_a_statement_makes_goes_before_base's",
        ),
        pytest.param(
            ['w -> x, permute="[0, 2, 1]"'], specs(w=(2, 3, 4)), specs(x=(2, 4, 3)),
            MappedParameters(("w",), ("x",), "swap_last"), id="last_two_axes_swapped",
        ),
        pytest.param(
            ["h.$LAYER_ID_OFFSET.w -> l.$LAYER_ID_OFFSET.w"], specs(h__1__w=(2,)), specs(l__0__w=(2,)),
            MappedParameters(("h.1.w",), ("l.0.w",), "identity"), id="layer_number_less_one",
        ),
        pytest.param(
            ["a, b -> c, axis=0d -> e"], specs(a=(2,), b=(2,), d=(3,)), specs(c=(4,), e=(3,)),
            MappedParameters(("d",), ("e",), "identity"), id="two_statements_without_a_line_between_them",
        ),
    ],
)  # fmt: skip
def test_statements_become_the_entry_that_does_the_same(
    statements: list[str], base: dict[str, TensorSpec], raw: dict[str, TensorSpec], entry: MappedParameters
) -> None:
    entries, notes = read(*statements, base=base, raw=raw)

    assert notes == []
    assert entry in entries


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("a -> ", "a name is wanted, not its end"),
        ("a b -> c", "`->` is wanted, not 'b'"),
        ("a, b -> c, d, axis=0", "several sources and several targets at once"),
        ("a -> b, axes=0", "there is no attribute 'axes'"),
        ("a -> b, axis='0'", "axis takes a number, not \"'0'\""),
        ("a -> b^T", "^T can stand on the left only"),
        ("a -> b; c", "unexpected ';'"),
        ("a -> b, permute='__import__'", "permute takes a list of axes, not '__import__'"),
        ("a, b -> c", "tensors are joined and cut with the attribute axis, and no other"),
        ("a, b, x -> c, fused_qkv, num_heads=3, num_key_value_groups=2", "num_heads must be a multiple"),
        ("x.$LAYER_ID -> y", "'y' lacks $LAYER_ID, which its other names have"),
        ("x.$RANK -> y.$RANK", "'x.$RANK' has a placeholder that is not known"),
    ],
)
def test_a_statement_that_cannot_be_read_is_an_error_that_quotes_it(statement: str, why: str) -> None:
    with pytest.raises(PadiffError) as caught:
        read(statement, base=specs(a=(2, 2), b=(2, 2), x=(2, 2)), raw=specs(c=(2, 2)))

    assert caught.value.reason is Reason.BAD_CONFIG
    assert repr(statement.strip()) in caught.value.message
    assert why in caught.value.message


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("gone -> c", "base has no tensor 'gone', and no statement before makes it"),
        ("gone.$LAYER_ID -> c.$LAYER_ID", "no tensor of base has a name like 'gone.$LAYER_ID'"),
        ("a -> gone", "raw has no tensor 'gone', and no later statement takes it"),
        ("a -> c", "it makes c of shape [2, 3], raw's is [3, 2]"),
        ("a, a -> d, axis=0", "no layout rule makes d of a as it does"),
        ("a -> f[0:4], axis=1", "axis 1 of [2, 3] cannot be cut into 4 equal parts"),
        ('s -> p, permute="[1, 0, 2]"', "no layout rule makes p of s as it does"),
        ("a -> f, e, f, axis=1", "no layout rule cuts a into f, e as it does"),
    ],
)
def test_a_statement_that_is_not_followed_is_named_with_the_reason(statement: str, why: str) -> None:
    base = specs(a=(2, 3), b=(5,), s=(2, 3, 4))
    raw = specs(b=(5,), c=(3, 2), d=(4, 3), e=(2, 1), f=(2, 1), p=(3, 2, 4))

    entries, notes = read(statement, "b -> b", base=base, raw=raw)

    assert entries == [MappedParameters(("b",), ("b",), "identity")]
    assert any(f"the AOA statement {statement!r} is not used" in note and why in note for note in notes), notes


def test_what_a_failed_statement_would_have_made_is_not_taken_from_base_instead() -> None:
    entries, notes = read("gone -> w", "w -> x", "b -> b", base=specs(w=(2,), b=(2,)), raw=specs(x=(2,), b=(2,)))

    assert entries == [MappedParameters(("b",), ("b",), "identity")]
    assert len(notes) == 2


def test_statements_that_all_miss_are_an_error() -> None:
    with pytest.raises(PadiffError, match="none of the 1 AOA statements"):
        read("model.w -> w", base=specs(w=(2,)), raw=specs(w=(2,)))


def test_a_cast_to_another_dtype_than_raws_is_told() -> None:
    _, notes = read(
        "a -> b, dtype='bfloat16'", "a -> c, dtype='float32'", base=specs(a=(2,)), raw=specs(b=(2,), c=(2,))
    )

    assert notes == ["the AOA statements cast b to bfloat16, and raw holds it in F32: only that is done"]


def test_a_text_may_hold_several_statements() -> None:
    assert [one.text for one in parse_statements(["a -> b, axis=0\nc -> d", "e -> _"])] == [
        "a -> b, axis=0", "c -> d", "e -> _",
    ]  # fmt: skip
