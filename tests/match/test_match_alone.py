"""Matching of layers and parameters: what stays alone, what is tied, and maps by hand."""

from __future__ import annotations

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import DType
from tests.match.descriptions import (
    L,
    failing,
    links,
    match,
    net,
    norm,
    paddle_linear,
    routes,
    torch_linear,
    user,
)


# -- what fails -----------------------------------------------------------------------------------------------------
def test_a_missing_bias_fails_on_the_side_that_has_it() -> None:
    found = match(net(fc=torch_linear(4, 3)), net(fc=paddle_linear(4, 3, bias=False)))
    assert failing(found.unmatched_base) == ["fc.bias"]
    assert failing(found.unmatched_raw) == []


def test_a_shape_that_no_layout_explains_names_both_shapes() -> None:
    found = match(net(fc=torch_linear(4, 3)), net(fc=paddle_linear(5, 3)))
    assert routes(found)["fc"] == "fc"
    assert [(u.name, u.why) for u in found.unmatched_raw] == [
        ("fc.weight", "shape [5, 3] against [3, 4] of base's fc.weight")
    ]


def test_a_linear_in_torch_layout_does_not_fit_paddle() -> None:
    found = match(net(fc=torch_linear(4, 3)), net(fc=L("Linear", {"weight": (3, 4), "bias": (4,)})))
    assert failing(found.unmatched_raw) == ["fc.weight", "fc.bias"]


def test_a_layer_with_parameters_that_one_side_lacks_fails_and_one_without_does_not() -> None:
    torch = net(fc=torch_linear(4, 3), conv=L("Conv2d", {"weight": (2, 2, 3, 3)}), pool=L("MaxPool2d"))
    found = match(torch, net(fc=paddle_linear(4, 3)))
    assert {entry.name: entry.fails for entry in found.unmatched_base} == {"conv": True, "pool": False}


def test_equal_names_of_incompatible_classes_are_not_paired() -> None:
    found = match(net(x=L("Embedding", {"weight": (8, 4)})), net(x=L("Linear", {"weight": (8, 4)})))
    assert routes(found) == {"": ""}
    assert [entry.why for entry in found.unmatched_base] == [
        "raw's x is a Linear, not a Embedding; it holds x.weight [8, 4]"
    ]


def test_a_buffer_of_one_side_does_not_fail_but_for_running_statistics() -> None:
    torch = L(
        "Embeddings",
        buffers={"position_ids": (1, 8), "inv_freq": (4,), "pe": (4,), "running_var": (4,)},
        own_class=True,
    )
    torch.dtypes["position_ids"] = DType.I64
    found = match(net(e=torch, fc=torch_linear(2, 2)), net(e=L("Embeddings", own_class=True), fc=paddle_linear(2, 2)))
    assert {entry.name: entry.fails for entry in found.unmatched_base} == {
        "e.position_ids": False,
        "e.inv_freq": False,
        "e.pe": False,
        "e.running_var": True,
    }


# -- ties -------------------------------------------------------------------------------------------------------------
def tied(linear_kind: str, tie: bool) -> L:
    head = L(linear_kind, tie={"weight": "embed.weight"}, own_class=True) if tie else user(linear_kind, weight=(10, 4))
    return net(embed=L("Embedding", {"weight": (10, 4)}), head=head)


def test_a_tied_parameter_is_linked_once() -> None:
    assert links(match(tied("Head", True), tied("Head", True))) == {"embed.weight": ("embed.weight", "identity")}


def test_a_tied_head_that_the_other_side_computes_without_a_layer_does_not_fail() -> None:
    found = match(tied("Head", True), net(embed=L("Embedding", {"weight": (10, 4)})))
    assert [(entry.name, entry.fails) for entry in found.unmatched_base] == [("head", False)]


def test_raw_ties_what_base_keeps_apart_fails() -> None:
    found = match(tied("Head", False), tied("Head", True))
    assert failing(found.unmatched_base) == ["head.weight"]


def test_base_ties_what_raw_keeps_apart_feeds_both_with_a_note() -> None:
    found = match(tied("Head", True), tied("Head", False))
    assert [(link.base, link.raw) for link in found.links] == [
        (("embed.weight",), ("embed.weight",)),
        (("embed.weight",), ("head.weight",)),
    ]
    assert [note for note in found.notes if "gradients cannot" in note] != []


# -- maps -------------------------------------------------------------------------------------------------------------
def test_an_explicit_pair_stands_above_names() -> None:
    t, p = torch_linear(8, 8), paddle_linear(8, 8)
    found = match(net(a=t, b=t), net(a=p, b=p), layer_map={"a": "b"})
    assert routes(found) == {"": "", "a": "b", "b": "a"}
    assert [pair.how for pair in found.layers if pair.base == "a"] == ["explicit"]
    assert links(found)["a.weight"] == ("b.weight", "transpose")


def test_an_explicit_parameter_stands_above_names() -> None:
    found = match(user("Net", a=(4,), b=(4,)), user("Net", a=(4,), b=(4,)), parameter_map={"a": "b"})
    assert links(found) == {"a": ("b", "identity"), "b": ("a", "identity")}


@pytest.mark.parametrize(
    ("maps", "reason", "text"),
    [
        ({"layer_map": {"fcc": "fc"}}, Reason.UNKNOWN_NAME, "'fc'"),
        ({"layer_map": {"fc": "fx"}}, Reason.UNKNOWN_NAME, "raw has no layer 'fx'"),
        ({"layer_map": {"fc": "fc", "n": "fc"}}, Reason.BAD_CONFIG, "partner already"),
        ({"parameter_map": {"fc.wieght": "fc.weight"}}, Reason.UNKNOWN_NAME, "'fc.weight'"),
        ({"parameter_map": {"fc.weight": "n.bias"}}, Reason.MODELS_DO_NOT_MATCH, "[3, 4]"),
    ],
)
def test_a_wrong_map_is_refused_with_the_cure(maps: dict[str, dict[str, str]], reason: Reason, text: str) -> None:
    with pytest.raises(PadiffError) as caught:
        match(net(fc=torch_linear(4, 3), n=norm()), net(fc=paddle_linear(4, 3), n=norm()), **maps)
    assert (caught.value.reason, text in str(caught.value)) == (reason, True)


# -- guesses beside a layer map ---------------------------------------------------------------------------------------
def test_no_guess_contradicts_the_layer_map() -> None:
    def branch(linear: L) -> L:
        return user("Branch", {"fc": linear, "norm": norm(4)})

    base = net(one=branch(torch_linear(4, 4)), two=branch(torch_linear(4, 4)), three=branch(torch_linear(4, 4)))
    raw = net(a=branch(paddle_linear(4, 4)), b=branch(paddle_linear(4, 4)), c=branch(paddle_linear(4, 4)))
    told = {"one.fc": "b.fc", "one.norm": "b.norm", "two.fc": "c.fc", "two.norm": "c.norm"}
    told |= {"three.fc": "a.fc", "three.norm": "a.norm"}
    assert routes(match(base, raw, layer_map=told)) == {"": "", "one": "b", "two": "c", "three": "a", **told}
