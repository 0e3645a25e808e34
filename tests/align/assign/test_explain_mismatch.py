"""Why weights cannot be assigned, in parts; and what follows from a description alone."""

from __future__ import annotations

from padiff_rpc.align.assign.explain_mismatch import AssignFailure, explain_mismatch
from padiff_rpc.match.match import match_models
from padiff_rpc.match.scope import skipped_routes, wrap_layers
from padiff_rpc.match.user_map import UserMap
from padiff_rpc.model.selection import EVERYTHING, Selection
from tests.match.descriptions import L, describe, net, norm, paddle_linear, seq, torch_linear, user


def explain(
    torch: L, paddle: L, user_map: UserMap | None = None, raw_selection: Selection = EVERYTHING
) -> list[AssignFailure]:
    models = describe("torch", torch), describe("paddle", paddle)
    return explain_mismatch(*models, match_models(*models, user_map, raw_selection=raw_selection))


def test_nothing_fails_where_everything_has_a_partner() -> None:
    assert [] == explain(net(fc=torch_linear(4, 3)), net(fc=paddle_linear(4, 3)))


def test_the_first_mismatch_comes_first_and_names_both_layers_and_parameters() -> None:
    torch = net(norm=norm(4), block=seq(torch_linear(4, 3), torch_linear(3, 2)))
    paddle = net(norm=norm(4), block=seq(paddle_linear(5, 3), paddle_linear(3, 6)))
    first, *others = explain(torch, paddle)
    assert first == AssignFailure(
        base_route="block.0",
        base_class="Linear",
        raw_route="block.0",
        raw_class="Linear",
        base_parameter="block.0.weight",
        raw_parameter="block.0.weight",
        base_shape=(3, 4),
        raw_shape=(5, 3),
        why="raw's parameter block.0.weight [5, 3]: shape [5, 3] against [3, 4] of base's block.0.weight",
    )
    assert ["block.1.weight", "block.1.bias"] == [one.raw_parameter for one in others]


def test_a_bias_that_only_raw_has_names_the_layer_and_no_parameter_of_base() -> None:
    (one,) = explain(net(fc=torch_linear(4, 3, bias=False)), net(fc=paddle_linear(4, 3)))
    assert ("fc", "", "fc.bias", (), (3,)) == (
        one.base_route,
        one.base_parameter,
        one.raw_parameter,
        one.base_shape,
        one.raw_shape,
    )


def test_a_layer_without_counterpart_leaves_bases_part_empty() -> None:
    found = explain(
        net(fc=torch_linear(4, 3)), net(fc=paddle_linear(4, 3), extra=L("Conv2D", {"weight": (2, 2, 3, 3)}))
    )
    assert [("", "", "extra", "Conv2D", "extra.weight")] == [
        (one.base_route, one.base_class, one.raw_route, one.raw_class, one.raw_parameter) for one in found
    ]


def test_what_is_left_out_is_no_failure() -> None:
    torch, paddle = net(fc=torch_linear(4, 3)), net(fc=paddle_linear(5, 3))
    assert [] == explain(torch, paddle, raw_selection=Selection({"fc": "on the black list"}))


def test_in_a_pair_of_the_layer_map_the_cure_is_named() -> None:
    torch, paddle = net(x=user("Fast", w=(4, 3))), net(x=user("Slow", {"fc": paddle_linear(5, 3)}))
    cures = {one.cure for one in explain(torch, paddle, UserMap({"x": "x"}))}
    assert [True] == ["add_special_init('torch', 'Fast', 'paddle', 'Slow', func)" in cure for cure in cures]


MODEL = net(
    body=seq(torch_linear(4, 4), L("ReLU"), L("BatchNorm2d", buffers={"running_mean": (4,)})), head=torch_linear(4, 2)
)


def test_layers_without_parameters_of_their_own_are_left_out_but_not_the_root() -> None:
    selection = wrap_layers(describe("torch", MODEL))
    assert ["body", "body.1", "body.2"] == list(selection.left_out)
    assert all("PADIFF_SIKP_WRAP_LAYER" in why for why in selection.left_out.values())


def test_a_tied_parameter_is_a_parameter_of_both_its_layers() -> None:
    tied = net(table=L("Embedding", {"weight": (8, 4)}), head=L("Linear", tie={"weight": "table.weight"}))
    assert {} == wrap_layers(describe("torch", tied)).left_out


def test_what_assignment_skips_is_listed_with_its_reason() -> None:
    skipped = skipped_routes(describe("torch", MODEL), Selection({"head": "on the black list"}), ["body.0"])
    assert {
        "": "no parameters of its own",
        "body": "no parameters of its own",
        "body.0": "in the layer map",
        "body.1": "no parameters of its own",
        "body.2": "no parameters of its own",
        "head": "left out: on the black list",
    } == skipped
