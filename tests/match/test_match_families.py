"""Matching of layers and parameters: families, layouts, and classes of the user's own."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from padiff_rpc.match.match import match_models
from padiff_rpc.match.tree import build_tree
from padiff_rpc.match.user_map import UserMap
from padiff_rpc.tensors.tensor import DType
from tests.match.descriptions import (
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
    torch_attention,
    torch_linear,
    user,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


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
    pasted = tomllib.loads(found.notes[-1].partition("\n")[2])
    assert {"parameters": {"alpha": "one", "beta": "two"}} == pasted


def test_an_own_matrix_that_is_reversed_is_transposed_with_a_note() -> None:
    found = match(net(x=user("Lora", a=(2, 8))), net(x=user("Lora", a=(8, 2))))
    assert links(found) == {"x.a": ("x.a", "transpose")}
    assert ["transposed" in note for note in found.notes] == [True]


def test_an_own_square_matrix_is_taken_as_it_is_with_a_note() -> None:
    found = match(net(x=user("Mix", a=(8, 8))), net(x=user("Mix", a=(8, 8))))
    assert links(found) == {"x.a": ("x.a", "identity")}
    assert ["square" in note for note in found.guesses] == [True]
    assert [["as it is", "transposed"]] == [[one.words for one in choice.alternatives] for choice in found.choices]


def test_a_subclass_of_linear_is_a_linear() -> None:
    torch, paddle = torch_linear(8, 8), paddle_linear(8, 8)
    torch.own_class = paddle.own_class = True
    assert links(match(net(fc=torch), net(fc=paddle)))["fc.weight"] == ("fc.weight", "transpose")


def test_a_users_norm_stands_for_the_frameworks() -> None:
    found = match(net(n=user("LlamaRMSNorm", weight=(8,))), net(n=L("RMSNorm", {"weight": (8,)})))
    assert links(found) == {"n.weight": ("n.weight", "identity")}


# -- running statistics that a layer does not use ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "use_global_stats", "needed"),
    [
        ("BatchNorm2D", False, []),
        ("BatchNorm2D", None, ["bn._mean"]),
        ("BatchNorm2D", True, ["bn._mean"]),
        ("BatchNorm", False, ["bn._mean"]),
    ],
)
@pytest.mark.parametrize("layer_map", [{}, {"bn": "bn"}], ids=["by itself", "mapped"])
def test_statistics_need_a_partner_unless_paddle_never_uses_them(
    kind: str, use_global_stats: bool | None, needed: list[str], layer_map: dict[str, str]
) -> None:
    torch = describe("torch", net(fc=torch_linear(4, 4), bn=L("BatchNorm2d")))
    paddle = describe("paddle", net(fc=paddle_linear(4, 4), bn=L(kind, buffers={"_mean": (4,)})))
    layers = tuple(
        replace(layer, hyperparameters={"use_global_stats": use_global_stats}) if layer.route == "bn" else layer
        for layer in paddle.layers
    )
    found = match_models(torch, replace(paddle, layers=layers), UserMap(layer_map))
    assert needed == failing(found.unmatched_raw)


@pytest.mark.parametrize("size", [(8, 6), (8, 8)], ids=["oblong", "square"])
@pytest.mark.parametrize("kernel", [(1,), (1, 1)], ids=["Conv1D", "Conv2D"])
def test_a_convolution_of_size_1_is_a_linear(size: tuple[int, int], kernel: tuple[int, ...]) -> None:
    outputs, inputs = size
    weights = {"weight": (outputs, inputs, *kernel), "bias": (outputs,)}
    torch_conv, paddle_conv = (L(f"Conv{len(kernel)}{letter}", weights) for letter in "dD")
    found = match(net(a=torch_conv), net(b=paddle_linear(inputs, outputs)))
    assert {"a.weight": ("b.weight", "reshape_transpose"), "a.bias": ("b.bias", "identity")} == links(found)
    found = match(net(a=torch_linear(inputs, outputs)), net(a=paddle_conv))
    assert ("a.weight", "reshape") == links(found)["a.weight"]
    pair = describe("paddle", net(a=paddle_linear(inputs, outputs))), describe("torch", net(a=torch_conv))
    assert ("a.weight", "transpose_reshape") == links(match_models(*pair))["a.weight"]


def test_a_larger_kernel_is_no_linear() -> None:
    found = match(net(a=L("Conv1d", {"weight": (8, 6, 3)})), net(b=paddle_linear(6, 8, bias=False)))
    assert "a" not in routes(found)
