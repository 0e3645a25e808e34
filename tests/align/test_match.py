"""Matching of layers and parameters: names, order, families, layouts, wrappers, and what stays alone."""

from __future__ import annotations

import textwrap

import pytest
import tomllib

from padiff_rpc.align.match import match_models
from padiff_rpc.align.nodes import build_tree
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensor import DType
from tests.align.descriptions import (
    L,
    describe,
    failing,
    links,
    match,
    net,
    norm,
    paddle_attention,
    paddle_linear,
    routes,
    seq,
    torch_attention,
    torch_linear,
    user,
)


# -- families and layouts -------------------------------------------------------------------------------------------
def test_a_square_linear_weight_is_transposed_between_the_frameworks() -> None:
    found = match(net(fc=torch_linear(8, 8)), net(fc=paddle_linear(8, 8)))
    assert links(found) == {"fc.weight": ("fc.weight", "transpose"), "fc.bias": ("fc.bias", "identity")}


@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_one_framework_on_both_sides_is_identity_everywhere(framework: str) -> None:
    model = describe(framework, net(fc=torch_linear(8, 8), n=norm()))
    assert {rule for _, rule in links(match_models(model, model)).values()} == {"identity"}


def test_numpy_has_a_linear_of_either_layout() -> None:
    numpy = describe("numpy", net(a=torch_linear(4, 4), b=L("LinearIO", {"weight": (4, 4)})))
    paddle = describe("paddle", net(a=paddle_linear(4, 4), b=L("Linear", {"weight": (4, 4)})))
    assert links(match_models(numpy, paddle))["a.weight"] == ("a.weight", "transpose")
    assert links(match_models(numpy, paddle))["b.weight"] == ("b.weight", "identity")


def test_batch_norm_statistics_are_linked_and_the_batch_counter_is_passed_over() -> None:
    torch = L("BatchNorm2d", {"weight": (4,), "bias": (4,)}, buffers={"running_mean": (4,), "running_var": (4,)})
    torch.buffers["num_batches_tracked"] = ()
    torch.dtypes["num_batches_tracked"] = DType.I64
    paddle = L("BatchNorm2D", {"weight": (4,), "bias": (4,)}, buffers={"_mean": (4,), "_variance": (4,)})
    found = match(net(bn=torch), net(bn=paddle))
    assert links(found)["bn.running_mean"] == ("bn._mean", "identity")
    assert links(found)["bn.running_var"] == ("bn._variance", "identity")
    assert [(entry.name, entry.fails) for entry in found.unmatched_base] == [("bn.num_batches_tracked", False)]
    assert [link.kind for link in found.links] == ["parameter", "parameter", "buffer", "buffer"]


@pytest.mark.parametrize(
    ("torch", "paddle", "expected"),
    [
        (
            L("InstanceNorm2d", {"weight": (4,), "bias": (4,)}),
            L("InstanceNorm2D", {"scale": (4,), "bias": (4,)}),
            {"x.weight": ("x.scale", "identity"), "x.bias": ("x.bias", "identity")},
        ),
        (L("PReLU", {"weight": (3,)}), L("PReLU", {"_weight": (3,)}), {"x.weight": ("x._weight", "identity")}),
        (
            L("Bilinear", {"weight": (5, 3, 4), "bias": (5,)}),
            L("Bilinear", {"weight": (5, 3, 4), "bias": (1, 5)}),
            {"x.weight": ("x.weight", "identity"), "x.bias": ("x.bias", "reshape")},
        ),
        (
            L("LayerNorm", {"weight": (3, 4), "bias": (3, 4)}),
            L("LayerNorm", {"weight": (12,), "bias": (12,)}),
            {"x.weight": ("x.weight", "reshape"), "x.bias": ("x.bias", "reshape")},
        ),
        (
            L("ConvTranspose2d", {"weight": (4, 4, 2, 2)}),
            L("Conv2DTranspose", {"weight": (4, 4, 2, 2)}),
            {"x.weight": ("x.weight", "identity")},
        ),
    ],
    ids=["instance_norm", "prelu", "bilinear", "layer_norm", "conv_transpose"],
)
def test_a_family_knows_its_names_and_shapes_in_both_frameworks(
    torch: L, paddle: L, expected: dict[str, tuple[str, str]]
) -> None:
    found = match(net(x=torch), net(x=paddle))
    assert links(found) == expected
    assert (failing(found.unmatched_base), failing(found.unmatched_raw)) == ([], [])


def test_packed_attention_is_split_into_q_k_v() -> None:
    found = match(net(attn=torch_attention()), net(attn=paddle_attention()))
    assert links(found) == {
        "attn.in_proj_weight": ("attn.q_proj.weight,attn.k_proj.weight,attn.v_proj.weight", "split_transpose"),
        "attn.in_proj_bias": ("attn.q_proj.bias,attn.k_proj.bias,attn.v_proj.bias", "split"),
        "attn.out_proj.weight": ("attn.out_proj.weight", "transpose"),
        "attn.out_proj.bias": ("attn.out_proj.bias", "identity"),
    }
    assert routes(found)["attn.out_proj"] == "attn.out_proj"
    assert failing(found.unmatched_raw) == []
    assert {entry.name for entry in found.unmatched_raw} == {"attn.q_proj", "attn.k_proj", "attn.v_proj"}


def test_separate_q_k_v_are_packed_for_torch() -> None:
    found = match_models(
        describe("paddle", net(attn=paddle_attention())), describe("torch", net(attn=torch_attention()))
    )
    packed = "attn.q_proj.weight,attn.k_proj.weight,attn.v_proj.weight"
    assert links(found)[packed] == ("attn.in_proj_weight", "transpose_pack")
    assert (failing(found.unmatched_base), failing(found.unmatched_raw)) == ([], [])


def test_attention_with_other_key_and_value_sizes_keeps_three_weights() -> None:
    torch = torch_attention()
    torch.tensors = {
        "q_proj_weight": (8, 8),
        "k_proj_weight": (8, 5),
        "v_proj_weight": (8, 6),
        "in_proj_bias": (24,),
    }
    paddle = paddle_attention()
    paddle.children |= {"k_proj": paddle_linear(5, 8), "v_proj": paddle_linear(6, 8)}
    found = links(match(net(attn=torch), net(attn=paddle)))
    assert found["attn.q_proj_weight"] == ("attn.q_proj.weight", "transpose")
    assert found["attn.k_proj_weight"] == ("attn.k_proj.weight", "transpose")
    assert found["attn.v_proj_weight"] == ("attn.v_proj.weight", "transpose")
    assert found["attn.in_proj_bias"][1] == "split"


def test_attention_whose_parts_lack_a_bias_fails() -> None:
    paddle = paddle_attention()
    paddle.children["k_proj"] = paddle_linear(8, 8, bias=False)
    found = match(net(attn=torch_attention()), net(attn=paddle))
    assert failing(found.unmatched_base) == ["attn.in_proj_bias"]
    assert failing(found.unmatched_raw) != []


def test_the_parts_of_packed_attention_are_not_mistaken_for_its_output() -> None:
    paddle = paddle_attention()
    paddle.children["last"] = paddle.children.pop("out_proj")
    assert routes(match(net(attn=torch_attention()), net(attn=paddle)))["attn.out_proj"] == "attn.last"


def test_packed_and_separate_attention_have_one_signature() -> None:
    torch, paddle = describe("torch", net(attn=torch_attention())), describe("paddle", net(attn=paddle_attention()))
    assert build_tree(torch)[""].exact == build_tree(paddle)[""].exact


def test_recurrent_cells_of_paddle_are_the_same_tensors_again() -> None:
    weights = {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4)}
    cell = L("LSTMCell", tie={"weight_ih": "rnn.weight_ih_l0", "weight_hh": "rnn.weight_hh_l0"})
    paddle = L("LSTM", weights, {"0": L("RNN", children={"cell": cell})}, buffers={"_dropout_state": ()})
    found = match(net(rnn=L("LSTM", weights)), net(rnn=paddle))
    assert links(found) == {
        "rnn.weight_ih_l0": ("rnn.weight_ih_l0", "identity"),
        "rnn.weight_hh_l0": ("rnn.weight_hh_l0", "identity"),
    }
    assert failing(found.unmatched_raw) == []


def test_torch_rnn_is_paddle_simple_rnn() -> None:
    weights = {"weight_ih_l0": (4, 3), "weight_hh_l0": (4, 4)}
    found = match(net(a=L("RNN", weights)), net(b=L("SimpleRNN", weights)))
    assert routes(found) == {"": "", "a": "b"}


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
    guess, proposal = found.notes
    assert "matched by order, which is a guess" in guess
    assert "alpha -> one, beta -> two" in guess
    assert 'base.set_layer_map(["alpha", "beta"])' in proposal
    assert 'raw.set_layer_map(["one", "two"])' in proposal


def test_the_map_that_is_proposed_can_be_pasted_and_settles_the_guess() -> None:
    def blocks(linear: L, names: tuple[str, str]) -> L:
        return net(layers=seq(*(user("Block", dict.fromkeys(names, linear)) for _ in range(2))))

    torch, paddle = blocks(torch_linear(8, 8), ("alpha", "beta")), blocks(paddle_linear(8, 8), ("one", "two"))
    found = match(torch, paddle)
    proposal = found.notes[-1]
    pasted = tomllib.loads(textwrap.dedent(proposal[proposal.index("    [map]") :]))["map"]["layers"]
    assert {
        f"layers.{at}.{b}": f"layers.{at}.{r}" for at in (0, 1) for b, r in (("alpha", "one"), ("beta", "two"))
    } == pasted
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


# -- classes of the user's own ----------------------------------------------------------------------------------------
def test_own_parameters_go_by_name_then_by_shape() -> None:
    torch = user("ViT", {"fc": torch_linear(4, 4)}, cls_token=(1, 1, 4), pos_embed=(1, 5, 4))
    paddle = user("ViT", {"fc": paddle_linear(4, 4)}, position_embeddings=(1, 5, 4), cls_token=(1, 1, 4))
    found = match(torch, paddle)
    assert links(found)["cls_token"] == ("cls_token", "identity")
    assert links(found)["pos_embed"] == ("position_embeddings", "identity")


def test_own_parameters_of_equal_shape_and_other_names_are_called_a_guess() -> None:
    found = match(user("Net", alpha=(4,), beta=(4,)), user("Net", one=(4,), two=(4,)))
    assert links(found) == {"alpha": ("one", "identity"), "beta": ("two", "identity")}
    assert [note for note in found.notes if "guess" in note] != []
    assert '[map]\n    parameters = { "alpha" = "one", "beta" = "two" }' in found.notes[-1]


def test_an_own_matrix_that_is_reversed_is_transposed_with_a_note() -> None:
    found = match(net(x=user("Lora", a=(2, 8))), net(x=user("Lora", a=(8, 2))))
    assert links(found) == {"x.a": ("x.a", "transpose")}
    assert ["transposed" in note for note in found.notes] == [True]


def test_an_own_square_matrix_is_taken_as_it_is_with_a_note() -> None:
    found = match(net(x=user("Mix", a=(8, 8))), net(x=user("Mix", a=(8, 8))))
    assert links(found) == {"x.a": ("x.a", "identity")}
    assert ["square" in note for note in found.notes] == [True]


def test_a_subclass_of_linear_is_a_linear() -> None:
    torch, paddle = torch_linear(8, 8), paddle_linear(8, 8)
    torch.own_class = paddle.own_class = True
    assert links(match(net(fc=torch), net(fc=paddle)))["fc.weight"] == ("fc.weight", "transpose")


def test_a_users_norm_stands_for_the_frameworks() -> None:
    found = match(net(n=user("LlamaRMSNorm", weight=(8,))), net(n=L("RMSNorm", {"weight": (8,)})))
    assert links(found) == {"n.weight": ("n.weight", "identity")}


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
