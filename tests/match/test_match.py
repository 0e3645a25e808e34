"""Matching of layers and parameters: names, order, wrappers, and differences that are to be compared."""

from __future__ import annotations

import sys

import pytest

from padiff_rpc.match.map_lines import layer_lines, to_settle
from tests.match.descriptions import (
    L,
    describe,
    failing,
    match,
    net,
    norm,
    paddle_attention,
    paddle_linear,
    routes,
    seq,
    torch_linear,
    user,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


# -- names and order ------------------------------------------------------------------------------------------------
def test_names_win_over_definition_order() -> None:
    q, k, v = torch_linear(8, 8), torch_linear(8, 8), torch_linear(8, 8)
    p = paddle_linear(8, 8)
    found = match(net(q=q, k=k, v=v), net(k=p, q=p, v=p))
    assert routes(found) == {"": "", "q": "q", "k": "k", "v": "v"}
    assert [note for note in found.notes if "definition order differs in Net: matched by name" in note] != []


def test_synonyms_are_names_too() -> None:
    t, p = torch_linear(8, 8), paddle_linear(8, 8)
    found = match(net(query=t, key=t, value=t, dense=t), net(out_proj=p, k_proj=p, v_proj=p, q_proj=p))
    assert routes(found) == {"": "", "query": "q_proj", "key": "k_proj", "value": "v_proj", "dense": "out_proj"}


def test_order_without_helpful_names_is_called_a_guess() -> None:
    found = match(
        net(alpha=torch_linear(8, 8), beta=torch_linear(8, 8)), net(one=paddle_linear(8, 8), two=paddle_linear(8, 8))
    )
    assert routes(found) == {"": "", "alpha": "one", "beta": "two"}
    (guess,) = found.notes
    assert "matched by order, which is a guess" in guess
    assert "alpha -> one, beta -> two" in guess
    assert [("alpha", "one"), ("beta", "two")] == found.guessed_routes
    assert [guess] == found.sentences


def test_the_map_that_is_proposed_can_be_pasted_and_settles_the_guess() -> None:
    def blocks(linear: L, names: tuple[str, str]) -> L:
        return net(layers=seq(*(user("Block", dict.fromkeys(names, linear)) for _ in range(2))))

    torch, paddle = blocks(torch_linear(8, 8), ("alpha", "beta")), blocks(paddle_linear(8, 8), ("one", "two"))
    found = match(torch, paddle)
    known = [pair.base for pair in found.layers]
    (proposal,) = to_settle("layers", layer_lines(found.guessed_routes, known))
    pasted = tomllib.loads(proposal.partition("\n")[2])["layers"]
    assert {"layers.*.alpha": "layers.*.one", "layers.*.beta": "layers.*.two"} == pasted
    again = match(torch, paddle, layer_map=pasted)
    assert routes(again) == routes(found)
    assert again.notes == ()


def test_shapes_settle_names_that_do_not_help_without_a_guess() -> None:
    found = match(
        net(alpha=torch_linear(8, 4), beta=torch_linear(4, 2)), net(two=paddle_linear(4, 2), one=paddle_linear(8, 4))
    )
    assert routes(found) == {"": "", "alpha": "one", "beta": "two"}
    assert found.notes == ()


def test_swapped_names_are_not_believed_against_the_shapes() -> None:
    found = match(
        net(fc1=torch_linear(8, 32), fc2=torch_linear(32, 8)), net(fc2=paddle_linear(8, 32), fc1=paddle_linear(32, 8))
    )
    assert routes(found) == {"": "", "fc1": "fc2", "fc2": "fc1"}


def test_numbers_that_start_elsewhere_are_matched_in_order() -> None:
    t, p = torch_linear(8, 8), paddle_linear(8, 8)
    found = match(net(block0=t, block1=t, block2=t), net(block1=p, block2=p, block3=p))
    assert routes(found) == {"": "", "block0": "block1", "block1": "block2", "block2": "block3"}
    assert ["start 1 later" in note for note in found.notes] == [True]


def test_a_sequential_is_matched_by_order_around_a_layer_that_one_side_lacks() -> None:
    torch = seq(torch_linear(8, 8), L("ReLU"), L("Dropout"), torch_linear(8, 8), L("ReLU"))
    paddle = seq(paddle_linear(8, 8), L("ReLU"), paddle_linear(8, 8), L("ReLU"))
    found = match(net(mlp=torch), net(mlp=paddle))
    assert routes(found) == {
        "": "",
        "mlp": "mlp",
        "mlp.0": "mlp.0",
        "mlp.1": "mlp.1",
        "mlp.3": "mlp.2",
        "mlp.4": "mlp.3",
    }
    assert [(entry.name, entry.fails) for entry in found.unmatched_base] == [("mlp.2", False)]


def test_layers_without_parameters_stay_between_the_same_neighbours() -> None:
    pool = L("MaxPool2d")
    torch = seq(torch_linear(8, 4), L("Dropout"), pool, torch_linear(4, 2), pool)
    paddle = seq(paddle_linear(8, 4), pool, paddle_linear(4, 2), pool)
    assert routes(match(torch, paddle)) == {"": "", "0": "0", "2": "1", "3": "2", "4": "3"}


def test_norms_defined_at_another_place_are_matched_in_their_own_order() -> None:
    t, p = torch_linear(8, 8), paddle_linear(8, 8)
    found = match(net(a=t, ln_a=norm(), b=t, ln_b=norm()), net(a=p, b=p, first=norm(), second=norm()))
    assert routes(found) == {"": "", "a": "a", "b": "b", "ln_a": "first", "ln_b": "second"}


def test_a_block_too_few_fails_at_that_block_and_the_others_keep_their_partners() -> None:
    def blocks(linear: L, odd: L | None = None) -> L:
        parts = [user("Block", {"fc": linear, "out": linear}) for _ in range(4)]
        if odd is not None:
            parts[2] = user("Block", {"fc": linear, "out": odd})
        return seq(*parts)

    torch = net(layers=blocks(torch_linear(8, 8)))
    found = match(torch, net(layers=blocks(paddle_linear(8, 8), odd=paddle_linear(8, 8, bias=False))))
    assert failing(found.unmatched_base) == ["layers.2.out.bias"]
    assert routes(found) == {name: name for name in routes(found)}
    assert "layers.2.out" in routes(found)
    assert len(found.layers) == len(describe("torch", torch).layers)


# -- differences that are to be compared, not refused -----------------------------------------------------------------
def test_another_activation_under_the_same_name_is_paired_with_a_note() -> None:
    found = match(net(fc=torch_linear(4, 4), act=L("ReLU")), net(fc=paddle_linear(4, 4), act=L("ReLU6")))
    assert routes(found)["act"] == "act"
    assert [note for note in found.notes if "ReLU6" in note] != []
    assert (failing(found.unmatched_base), failing(found.unmatched_raw)) == ([], [])


def test_another_activation_at_the_same_index_is_paired() -> None:
    found = match(seq(torch_linear(4, 4), L("GELU")), seq(paddle_linear(4, 4), L("ReLU"), kind="Sequential"))
    assert routes(found)["1"] == "1"


def test_another_activation_at_another_index_is_paired_between_the_same_neighbours() -> None:
    torch = seq(torch_linear(8, 4), L("GELU"), torch_linear(4, 2))
    paddle = seq(paddle_linear(8, 4), L("Dropout"), L("ReLU"), paddle_linear(4, 2))
    assert routes(match(torch, paddle)) == {"": "", "0": "0", "1": "2", "2": "3"}


def test_a_layer_of_another_size_is_paired_so_that_its_shapes_are_told() -> None:
    found = match(seq(L("Dropout"), torch_linear(4, 3)), seq(paddle_linear(5, 3)))
    assert routes(found)["1"] == "0"
    assert [u.why for u in found.unmatched_base if u.fails] == ["shape [3, 4] against [5, 3] of raw's 0.weight"]


def test_an_rms_norm_for_a_layer_norm_is_paired_and_its_missing_bias_fails() -> None:
    found = match(net(n=norm()), net(n=L("RMSNorm", {"weight": (8,)})))
    assert routes(found)["n"] == "n"
    assert failing(found.unmatched_base) == ["n.bias"]


# -- wrappers -------------------------------------------------------------------------------------------------------
def test_a_wrapper_of_one_side_is_looked_through() -> None:
    torch = net(features=seq(torch_linear(4, 8), L("ReLU"), torch_linear(8, 2)))
    paddle = net(fc1=paddle_linear(4, 8), act=L("ReLU"), fc2=paddle_linear(8, 2))
    found = match(torch, paddle)
    assert routes(found) == {"": "", "features.0": "fc1", "features.1": "act", "features.2": "fc2"}
    assert [(entry.name, entry.fails) for entry in found.unmatched_base] == [("features", False)]


def test_nested_wrappers_are_looked_through_on_the_raw_side() -> None:
    torch = net(embed=L("Embedding", {"weight": (10, 4)}), fc=torch_linear(4, 2))
    inner = user("Model", {"embed": L("Embedding", {"weight": (10, 4)}), "fc": paddle_linear(4, 2)})
    found = match(torch, net(model=user("Shell", {"inner": inner})))
    assert routes(found) == {"": "", "embed": "model.inner.embed", "fc": "model.inner.fc"}


def test_the_layers_of_a_wrapper_go_by_their_names_and_exact_ones_come_first() -> None:
    t, p = torch_linear(8, 8), paddle_linear(8, 8)
    found = match(net(inner=user("Inner", {"query": t, "q": t})), net(q=p, query=p))
    assert routes(found) == {"": "", "inner.query": "query", "inner.q": "q"}


def bert_layer_as_in_transformers() -> L:
    def t(inputs: int, outputs: int) -> L:
        return torch_linear(inputs, outputs)

    self_attention = user(
        "BertSelfAttention", {"query": t(8, 8), "key": t(8, 8), "value": t(8, 8), "dropout": L("Dropout")}
    )
    output = user("BertSelfOutput", {"dense": t(8, 8), "LayerNorm": norm(), "dropout": L("Dropout")})
    return user(
        "BertLayer",
        {
            "attention": user("BertAttention", {"self": self_attention, "output": output}),
            "intermediate": user("BertIntermediate", {"dense": t(8, 32), "act": L("GELU")}),
            "output": user("BertOutput", {"dense": t(32, 8), "LayerNorm": norm(), "dropout": L("Dropout")}),
        },
    )


@pytest.mark.parametrize("norms_last", [False, True])
def test_a_bert_layer_grouped_another_way_keeps_every_weight_in_its_place(norms_last: bool) -> None:
    def p(inputs: int, outputs: int) -> L:
        return paddle_linear(inputs, outputs)

    children = {
        "self_attn": paddle_attention(),
        "norm1": norm(),
        "linear1": p(8, 32),
        "linear2": p(32, 8),
        "norm2": norm(),
    }
    if norms_last:
        children["norm1"] = children.pop("norm1")
        children["norm2"] = children.pop("norm2")
    found = match(
        net(layer=seq(bert_layer_as_in_transformers())), net(layer=seq(L("TransformerEncoderLayer", children=children)))
    )
    assert (failing(found.unmatched_base), failing(found.unmatched_raw)) == ([], [])
    paired = routes(found)
    assert {
        base: paired[f"layer.0.{base}"]
        for base in ("attention.self.query", "attention.self.key", "attention.self.value")
    } == {
        "attention.self.query": "layer.0.self_attn.q_proj",
        "attention.self.key": "layer.0.self_attn.k_proj",
        "attention.self.value": "layer.0.self_attn.v_proj",
    }
    assert paired["layer.0.attention.output.dense"] == "layer.0.self_attn.out_proj"
    assert paired["layer.0.attention.output.LayerNorm"] == "layer.0.norm1"
    assert paired["layer.0.intermediate.dense"] == "layer.0.linear1"
    assert paired["layer.0.output.dense"] == "layer.0.linear2"
    assert paired["layer.0.output.LayerNorm"] == "layer.0.norm2"
    assert "layer.0.attention" not in paired, "holds a norm that self_attn does not"
