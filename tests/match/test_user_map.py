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
