"""Links become AOA statements that say the same when they are read again; what AOA cannot say is named."""

from __future__ import annotations

import pytest

from padiff_rpc.match.aoa.read_statements import read_statements
from padiff_rpc.match.aoa.write_statements import WrittenStatements, write_statements
from padiff_rpc.match.layer_map import Matching, ParameterLink
from padiff_rpc.match.layout_rules import Shape
from padiff_rpc.model.model import ModelDescription, ParameterInfo
from padiff_rpc.per_side import PerSide
from padiff_rpc.tensors.tensor import DType, TensorSpec

Link = tuple[tuple[str, ...], tuple[str, ...], str]


def model(framework: str, shapes: dict[str, Shape], **others: DType) -> ModelDescription:
    infos = (
        ParameterInfo(name, "parameter", TensorSpec(others.get(name, DType.F32), shape), True)
        for name, shape in shapes.items()
    )
    return ModelDescription(framework, "Net", (), tuple(infos))


def matching(*links: Link) -> Matching:
    return Matching((), tuple(ParameterLink("", "", base, raw, rule, "parameter") for base, raw, rule in links), (), ())


def written(base: dict[str, Shape], raw: dict[str, Shape], *links: Link) -> WrittenStatements:
    return write_statements(matching(*links), PerSide(model("torch", base), model("paddle", raw)))


@pytest.mark.parametrize(
    ("base", "raw", "links"),
    [
        ({"w": (3, 2)}, {"x": (2, 3)}, [(("w",), ("x",), "transpose")]),
        ({"w": (3, 2)}, {"w": (3, 2)}, [(("w",), ("w",), "identity")]),
        ({"w": (2, 3, 4)}, {"x": (2, 4, 3)}, [(("w",), ("x",), "swap_last")]),
        ({"g": (3, 2), "u": (3, 2)}, {"ug": (2, 6)}, [(("u", "g"), ("ug",), "transpose_pack_columns")]),
        ({"g": (4, 2), "u": (4, 2)}, {"ug": (8, 2)}, [(("g", "u"), ("ug",), "pack@4")]),
        ({"q": (8, 6), "k": (4, 6), "v": (4, 6)}, {"qkv": (6, 16)}, [(("q", "k", "v"), ("qkv",), "transpose_pack_columns@2")]),
        ({"q": (8,), "k": (4,), "v": (4,)}, {"qkv": (16,)}, [(("q", "k", "v"), ("qkv",), "pack@2")]),
        ({"q": (6,), "k": (4,), "v": (8,)}, {"qkv": (18,)}, [(("q", "k", "v"), ("qkv",), "pack@2")]),
        ({"qkv": (16, 6)}, {"q": (6, 8), "k": (6, 4), "v": (6, 4)}, [(("qkv",), ("q", "k", "v"), "split_transpose")]),
        ({"qkv": (16, 6)}, {"q": (6, 8), "k": (6, 4), "v": (6, 4)}, [(("qkv",), ("q", "k", "v"), "split_transpose@2")]),
        ({"qkv": (16,)}, {"q": (2,), "k": (6,), "v": (8,)}, [(("qkv",), ("k", "q", "v"), "split@2")]),
        ({"qkv": (6, 12)}, {"q": (6, 4), "k": (6, 4), "v": (6, 4)}, [(("qkv",), ("q", "k", "v"), "split_columns@4")]),
        ({"kv": (6, 12)}, {"k": (8, 6), "v": (4, 6)}, [(("kv",), ("k", "v"), "split_columns_transpose@2")]),
        ({"a": (2,), "b": (2,)}, {"b": (2,), "a": (2,)}, [(("a",), ("b",), "identity"), (("b",), ("a",), "identity")]),
        ({"e": (2, 3)}, {"e": (2, 3), "h": (3, 2)}, [(("e",), ("e",), "identity"), (("e",), ("h",), "transpose")]),
    ],
)  # fmt: skip
def test_statements_that_are_read_again_say_the_same(
    base: dict[str, Shape], raw: dict[str, Shape], links: list[Link]
) -> None:
    made = written(base, raw, *links)

    specs = PerSide(base, raw).map(lambda side: {name: TensorSpec(DType.F32, shape) for name, shape in side.items()})
    entries, notes = read_statements(made.statements, specs)

    assert (made.unsaid, notes) == ({}, [])
    assert sorted((entry.base, entry.raw, entry.rule) for entry in entries) == sorted(links)


def test_qkv_by_group_is_written_as_paddle_writes_it() -> None:
    link = (("q", "k", "v"), ("qkv",), "transpose_pack_columns@2")

    made = written({"q": (8, 6), "k": (4, 6), "v": (4, 6)}, {"qkv": (6, 16)}, link)

    assert made.statements == ["q^T, k^T, v^T -> qkv, fused_qkv, num_heads=4, num_key_value_groups=2, axis=1"]


def test_what_has_no_link_is_dropped_or_keeps_its_own_value() -> None:
    made = written({"w": (2,), "mine": (1,)}, {"w": (2,), "theirs": (1,)}, (("w",), ("w",), "identity"))

    assert made.statements == ["w -> w", "mine -> _", "_ -> theirs"]


def test_another_dtype_is_cast_to_after_a_pack_and_in_the_same_statement_elsewhere() -> None:
    base = model("torch", {"w": (3, 2), "g": (2,), "u": (2,)})
    raw = model("paddle", {"w": (2, 3), "ug": (4,)}, w=DType.BF16, ug=DType.F16)
    links = matching((("w",), ("w",), "transpose"), (("g", "u"), ("ug",), "pack"))

    made = write_statements(links, PerSide(base, raw))

    assert made.statements == [
        'w^T -> w, dtype="bfloat16"',
        "g, u -> ug.uncast, axis=0",
        'ug.uncast -> ug, dtype="float16"',
    ]


def test_every_name_of_a_tied_tensor_of_raw_gets_a_statement() -> None:
    info = ParameterInfo("e", "parameter", TensorSpec(DType.F32, (2, 3)), True, ("head",))
    raw = ModelDescription("paddle", "Net", (), (info,))

    made = write_statements(matching((("e",), ("e",), "identity")), PerSide(model("torch", {"e": (2, 3)}), raw))

    assert made.statements == ["e -> e", "e -> head"]


@pytest.mark.parametrize(
    ("base", "raw", "link", "why"),
    [
        ({"w": (2, 3, 4)}, {"w": (2, 12)}, (("w",), ("w",), "reshape"),
         "AOA has no words for the rule 'reshape' of w ([2, 3, 4] -> [2, 12])"),
        ({"0.w": (2,)}, {"w": (2,)}, (("0.w",), ("w",), "identity"), "AOA cannot name '0.w'"),
        ({"w": (2,)}, {"w": (2,)}, (("w",), ("w",), "special:torch::A->paddle::A"),
         "AOA has no words for the rule 'special:torch::A->paddle::A' of w ([2] -> [2])"),
    ],
)  # fmt: skip
def test_what_aoa_cannot_say_is_named_and_left_to_raws_own_value_nowhere(
    base: dict[str, Shape], raw: dict[str, Shape], link: Link, why: str
) -> None:
    made = written(base, raw, link)

    assert made.unsaid == {"w": why}
    assert "_ -> w" not in made.statements
