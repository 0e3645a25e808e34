"""What a user's map says: packs, rules, stars and renames, each above the automatic match, or refused with the cure."""

from __future__ import annotations

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.user_map import MappedParameters, parameters_as_text, parse_parameters
from tests.match.descriptions import L, links, match, net, norm, paddle_linear, routes, seq, torch_linear, user


def test_entries_are_read_and_written_in_one_form() -> None:
    texts = {
        "a": "b",
        "q.weight, k.weight, v.weight": "qkv.weight by transpose_pack_columns@2",
        "gu.weight": "g.weight, u.weight",
        "wte.weight": "wte.weight; head.weight by transpose",
    }
    entries = parse_parameters(texts)
    assert MappedParameters(("wte.weight",), ("head.weight",), "transpose") == entries[-1]
    assert 5 == len(entries)
    assert texts == parameters_as_text(entries)
    assert '"gu.weight" = "g.weight, u.weight"' == str(entries[2])


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        ({"a": ""}, "cannot read"),
        ({"a,": "b"}, "cannot read"),
        ({"a, b": "c, d"}, "cannot read"),
        ({"a": "b by turning"}, "unknown rule 'turning'"),
        ({"a, b": "c by pack@0"}, "unknown rule 'pack@0'"),
        ({"a": "b by transpose@2"}, "unknown rule 'transpose@2'"),
    ],
)
def test_what_is_no_entry_is_refused(texts: dict[str, str], text: str) -> None:
    with pytest.raises(PadiffError) as caught:
        parse_parameters(texts)
    assert (Reason.BAD_CONFIG, True) == (caught.value.reason, text in str(caught.value))


def blocks(linear: L, count: int = 2) -> L:
    return net(h=seq(*(user("Block", {"a": linear, "b": linear}) for _ in range(count)), kind="ModuleList"))


def test_a_star_stands_for_the_same_number_on_both_sides() -> None:
    found = match(
        blocks(torch_linear(4, 4)),
        blocks(paddle_linear(4, 4)),
        layer_map={"h.*.a": "h.*.b"},
        parameter_map={"h.*.a.bias": "h.*.b.bias"},
    )
    assert {"h.0.a": "h.0.b", "h.1.a": "h.1.b"}.items() <= routes(found).items()
    assert ("h.1.b.bias", "identity") == links(found)["h.1.a.bias"]
    assert ("h.1.b.weight", "transpose") == links(found)["h.1.a.weight"]


def test_an_entry_without_a_star_goes_before_one_with_a_star() -> None:
    found = match(
        user("Net", a0=(4,), a1=(4,), a2=(4,)),
        user("Net", b0=(4,), b1=(4,), b2=(4,)),
        parameter_map={"a*": "b*", "a0": "b1", "a1": "b0"},
    )
    assert {"a0": "b1", "a1": "b0", "a2": "b2"} == {base: raw for base, (raw, _) in links(found).items()}


def test_a_rule_stands_above_what_layers_and_shapes_say() -> None:
    found = match(
        net(a=torch_linear(4, 4)), net(a=paddle_linear(4, 4)), parameter_map={"a.weight": "a.weight by identity"}
    )
    assert ("a.weight", "identity") == links(found)["a.weight"]


def test_one_tensor_is_linked_with_several_each_by_itself() -> None:
    found = match(
        user("Net", {"e": L("Embedding", {"weight": (9, 4)})}),
        user("Net", {"e": L("Embedding", {"weight": (9, 4)})}, out=(4, 9)),
        parameter_map={"e.weight": "e.weight; out by transpose"},
    )
    assert [(("e.weight",), "identity"), (("out",), "transpose")] == sorted(
        (link.raw, link.rule) for link in found.links
    )
    assert [] == [entry for entry in found.unmatched_raw if entry.fails]


@pytest.mark.parametrize(
    ("parameters", "reason", "text"),
    [
        ({"fc.weight": "fc.weight by identity"}, Reason.MODELS_DO_NOT_MATCH, '"fc.weight" = "fc.weight by transpose"'),
        ({"n.bias": "fc.weight"}, Reason.MODELS_DO_NOT_MATCH, "raw has tensors that fit: n.weight, n.bias"),
        ({"x.*.weight": "fc.weight"}, Reason.BAD_CONFIG, "number of stars"),
        ({"x.*.weight": "x.*.weight"}, Reason.UNKNOWN_NAME, "where * is a number"),
        ({"n.bias": "n.bias", "n.weight": "n.bias"}, Reason.BAD_CONFIG, "has a partner already"),
        ({"n.bias": "n.bias; fc.bias"}, Reason.MODELS_DO_NOT_MATCH, "'fc.bias' [3]"),
    ],
)
def test_a_wrong_entry_is_refused_with_the_cure(parameters: dict[str, str], reason: Reason, text: str) -> None:
    torch, paddle = net(fc=torch_linear(4, 3), n=norm()), net(fc=paddle_linear(4, 3), n=norm())
    with pytest.raises(PadiffError) as caught:
        match(torch, paddle, parameter_map=parameters)
    assert (reason, True) == (caught.value.reason, text in f"{caught.value} {caught.value.hint}"), caught.value


def test_which_of_several_rules_packs_tensors_of_unknown_layout_must_be_said() -> None:
    torch, paddle = user("Net", q=(4, 4), k=(4, 4)), user("Net", qk=(8, 4))
    with pytest.raises(PadiffError, match="which layout rule") as caught:
        match(torch, paddle, parameter_map={"q, k": "qk"})
    assert '"q, k" = "qk by transpose_pack"' in caught.value.hint
    assert ("qk", "pack") == links(match(torch, paddle, parameter_map={"q, k": "qk by pack"}))["q,k"]


# -- renames ----------------------------------------------------------------------------------------------------------
def test_the_first_rename_that_occurs_in_a_name_makes_raws_name_of_it() -> None:
    found = match(
        net(a=user("A", w=(4,), v=(4,)), b=user("B", w=(4,))),
        net(x=user("A", w=(4,), u=(4,)), b=user("B", w=(4,))),
        renames={r"^a\.w$": "x.u", r"^a\.": "x.", "v": "w"},
    )
    assert ("x.u", "identity") == links(found)["a.w"]
    assert ("b.w", "identity") == links(found)["b.w"]
    (note,) = [note for note in found.notes if "renames" in note]
    assert "1 of base's names to none of raw's: a.v -> x.v" in note


def test_renames_find_buffers_whose_own_names_a_framework_spells_otherwise() -> None:
    torch = net(a=L("BatchNorm2d", {"weight": (4,), "bias": (4,)}, buffers={"running_mean": (4,), "running_var": (4,)}))
    paddle = net(x=L("BatchNorm2D", {"weight": (4,), "bias": (4,)}, buffers={"_mean": (4,), "_variance": (4,)}))
    found = match(torch, paddle, renames={"^a": "x"})
    assert ("x._variance", "identity") == links(found)["a.running_var"]
    assert [] == [note for note in found.notes if "renames" in note]


def test_a_rename_that_is_no_regular_expression_is_refused() -> None:
    for renames in ({"(": "x"}, {"a": r"\1"}):
        with pytest.raises(PadiffError, match="cannot be used"):
            match(net(a=norm()), net(a=norm()), renames=renames)


# -- what follows from a map ------------------------------------------------------------------------------------------
def gated(axis: int, packed: bool) -> L:
    linear = paddle_linear if axis else torch_linear
    parts = {"gate_up_proj": linear(4, 12)} if packed else {"gate_proj": linear(4, 6), "up_proj": linear(4, 6)}
    return net(mlp=user("Mlp", parts))


def test_a_map_gives_a_pack_another_order_and_biases_follow_their_weights() -> None:
    names = "mlp.up_proj.weight, mlp.gate_proj.weight"
    found = match(gated(0, False), gated(1, True), parameter_map={names: "mlp.gate_up_proj.weight"})
    assert {
        names.replace(", ", ","): ("mlp.gate_up_proj.weight", "transpose_pack_columns"),
        "mlp.up_proj.bias,mlp.gate_proj.bias": ("mlp.gate_up_proj.bias", "pack"),
    } == links(found)
    assert [] == [one for one in (*found.unmatched_base, *found.unmatched_raw) if one.fails]
    assert [] == [note for note in found.notes if "is taken to hold" in note]
    back = match(
        gated(0, True),
        gated(1, False),
        parameter_map={"mlp.gate_up_proj.weight": "mlp.up_proj.weight, mlp.gate_proj.weight"},
    )
    assert ("mlp.up_proj.bias,mlp.gate_proj.bias", "split") == links(back)["mlp.gate_up_proj.bias"]


def test_biases_follow_the_groups_of_their_weights_unless_the_map_names_them() -> None:
    weights = {"mlp.up_proj.weight, mlp.gate_proj.weight": "mlp.gate_up_proj.weight by transpose_pack_columns@3"}
    biases = {"mlp.gate_proj.bias, mlp.up_proj.bias": "mlp.gate_up_proj.bias"}
    found = match(gated(0, False), gated(1, True), parameter_map=weights)
    assert ("mlp.gate_up_proj.bias", "pack@3") == links(found)["mlp.up_proj.bias,mlp.gate_proj.bias"]
    found = match(gated(0, False), gated(1, True), parameter_map=weights | biases)
    assert ("mlp.gate_up_proj.bias", "pack") == links(found)["mlp.gate_proj.bias,mlp.up_proj.bias"]


def test_packed_attention_takes_the_order_of_the_map() -> None:
    attention = L(
        "MultiheadAttention", {"in_proj_weight": (12, 4), "in_proj_bias": (12,)}, {"out_proj": torch_linear(4, 4)}
    )
    apart = L(
        "MultiHeadAttention",
        children={name: paddle_linear(4, 4) for name in ("q_proj", "k_proj", "v_proj", "out_proj")},
    )
    order = "a.v_proj.weight, a.k_proj.weight, a.q_proj.weight"
    entry = {"a.in_proj_weight": f"{order} by split_transpose"}
    found = match(net(a=attention), net(a=apart), parameter_map=entry)
    assert (order.replace(", ", ","), "split_transpose") == links(found)["a.in_proj_weight"]
    assert ("a.v_proj.bias,a.k_proj.bias,a.q_proj.bias", "split") == links(found)["a.in_proj_bias"]
    assert [] == [one for one in (*found.unmatched_base, *found.unmatched_raw) if one.fails]


def test_layers_whose_parameters_the_map_links_are_paired() -> None:
    found = match(
        net(a=torch_linear(4, 4), b=torch_linear(4, 4)),
        net(a=paddle_linear(4, 4), b=paddle_linear(4, 4)),
        parameter_map={"a.weight": "b.weight"},
    )
    assert {"": "", "a": "b", "b": "a"} == routes(found)
    assert ("b.bias", "identity") == links(found)["a.bias"]
    assert [("a", "parameters")] == [
        (pair.base, pair.how) for pair in found.layers if pair.how not in ("root", "name", "order")
    ]


def test_no_guess_contradicts_the_map() -> None:
    def model(names: tuple[str, str], linear: L) -> L:
        return net(**{name: user("Block", {"fc": linear, "out": linear}) for name in names})

    torch, paddle = model(("x", "y"), torch_linear(4, 4)), model(("x", "y"), paddle_linear(4, 4))
    for maps in ({"layer_map": {"x.fc": "y.fc", "y.fc": "x.fc"}}, {"parameter_map": {"x.fc.weight": "y.fc.weight"}}):
        assert {"x": "y", "y": "x", "x.out": "y.out"}.items() <= routes(match(torch, paddle, **maps)).items()


@pytest.mark.parametrize("width", [6, 5])
def test_a_parametrised_matrix_takes_the_layout_of_its_layer(width: int) -> None:
    originals = L("ParametrizationList", {"original0": (width, 1), "original1": (width, 6)})
    parametrizations = L("ModuleDict", children={"weight": originals})
    torch = L("ParametrizedLinear", {"bias": (width,)}, {"parametrizations": parametrizations})
    paddle = L("Linear", {"bias": (width,), "weight_g": (width,), "weight_v": (6, width)})
    names = {
        "fc.parametrizations.weight.original0": "fc.weight_g",
        "fc.parametrizations.weight.original1": "fc.weight_v",
    }
    found = links(match(net(fc=torch), net(fc=paddle), parameter_map=names))
    assert ("fc.weight_v", "transpose") == found["fc.parametrizations.weight.original1"]
    assert ("fc.weight_g", "reshape") == found["fc.parametrizations.weight.original0"]
