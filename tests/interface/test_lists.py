"""Black lists, white lists, layer maps: what they leave out, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.lists import LayerLists
from padiff_rpc.interface.side_models import SideModel, map_between
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.losses_and_optimizers import parse_loss
from padiff_rpc.model.recording.native_tree import place_layers
from padiff_rpc.model.selection import EVERYTHING
from padiff_rpc.numpy_framework import nn
from tests.align.pairs import hosted

ALL = ["", "body", "body.fc1", "body.act", "body.fc2", "head"]


def lists_of(model: HostedModel) -> LayerLists:
    placed = place_layers(model.backend, model.model)
    return LayerLists(
        model.describe(), lambda layer: next((each.route for each in placed if each.layer is layer), None)
    )


@pytest.fixture
def model() -> HostedModel:
    return hosted("mlp")


@pytest.fixture
def lists(model: HostedModel) -> LayerLists:
    return lists_of(model)


def kept(lists: LayerLists) -> list[str]:
    return [route for route in ALL if lists.selection().keeps(route)]


def test_without_lists_every_layer_is_kept(lists: LayerLists) -> None:
    assert ALL == kept(lists)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("self", ["", "body.fc1", "body.act", "body.fc2", "head"]),
        ("sublayers", ["", "body", "head"]),
        ("all", ["", "head"]),
    ],
)
def test_a_black_list_leaves_out_by_mode(lists: LayerLists, mode: Any, expected: list[str]) -> None:
    lists.blacken("body", mode)
    assert expected == kept(lists)
    assert {"on the black list"} == set(lists.selection().left_out.values())


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("self", ["", "body"]),
        ("sublayers", ["", "body.fc1", "body.act", "body.fc2"]),
        ("all", ["", "body", "body.fc1", "body.act", "body.fc2"]),
    ],
)
def test_a_white_list_keeps_by_mode_and_always_the_model_itself(
    lists: LayerLists, mode: Any, expected: list[str]
) -> None:
    lists.whiten(["body"], mode)
    assert expected == kept(lists)


def test_the_white_list_stands_above_the_black_list_in_either_order(model: HostedModel) -> None:
    black_first, white_first = lists_of(model), lists_of(model)
    black_first.blacken("body", "all")
    black_first.whiten("body.fc1", "self")
    white_first.whiten("body.fc1", "self")
    white_first.blacken("body", "all")
    assert ["", "body.fc1"] == kept(black_first)
    assert kept(black_first) == kept(white_first)


def test_lists_add_up(lists: LayerLists) -> None:
    lists.blacken("body.fc1", "self")
    lists.blacken("head", "self")
    assert ["", "body", "body.act", "body.fc2"] == kept(lists)


def test_an_instance_stands_for_itself_and_not_for_its_class(model: HostedModel, lists: LayerLists) -> None:
    lists.blacken([model.model.body.fc1], "self")
    assert ["", "body", "body.act", "body.fc2", "head"] == kept(lists)


def test_a_single_container_is_a_layer_not_a_list(lists: LayerLists, model: HostedModel) -> None:
    lists.blacken(model.model.body, "self")
    assert "body" not in kept(lists)


def test_a_glob_names_many_layers(lists: LayerLists) -> None:
    lists.blacken("body.fc*", "self")
    assert ["", "body", "body.act", "head"] == kept(lists)


@pytest.mark.parametrize("layer_class", [nn.Linear, "Linear"])
def test_a_class_names_all_its_layers(lists: LayerLists, layer_class: Any) -> None:
    assert ["body.fc1", "body.fc2", "head"] == lists.of_class(layer_class)


def test_a_base_class_names_the_layers_of_its_subclasses(lists: LayerLists) -> None:
    assert ALL == lists.of_class(nn.Layer)


def test_a_map_leaves_out_the_insides_with_the_reason(lists: LayerLists) -> None:
    lists.map(["head", "body"])
    assert ("head", "body") == lists.layer_map
    assert ["", "body", "head"] == kept(lists)
    assert "inside the mapped layer 'body'" == lists.selection().left_out["body.fc1"]


def test_a_mapped_layer_is_kept_though_it_is_not_on_the_white_list(lists: LayerLists) -> None:
    lists.whiten("head", "self")
    lists.map(["body"])
    assert ["", "body", "head"] == kept(lists)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ("boddy", "did you mean 'body'"),
        ("zzz.*", "give a route such as 'encoder.layers.0', or a glob such as 'encoder.*'"),
        (nn.Linear(2, 2), "give layers of this very model (proxy.model.linear1)"),
        (7, "give layers of this very model (proxy.model.linear1)"),
    ],
)
def test_what_is_no_layer_of_the_model_is_refused(lists: LayerLists, layers: Any, said: str) -> None:
    with pytest.raises(PadiffError) as raised:
        lists.blacken([layers], "all")
    assert raised.value.reason is Reason.UNKNOWN_NAME
    assert raised.value.hint.startswith(said)
    assert ALL == kept(lists)


def test_a_class_without_layers_is_refused(lists: LayerLists) -> None:
    with pytest.raises(PadiffError) as raised:
        lists.of_class("Linaer")
    assert raised.value.reason is Reason.UNKNOWN_NAME
    assert "did you mean 'Linear'?" == raised.value.hint


def test_another_mode_is_refused(lists: LayerLists) -> None:
    with pytest.raises(PadiffError) as raised:
        lists.blacken("body", "sublayer")  # type: ignore[arg-type]
    assert raised.value.reason is Reason.BAD_CONFIG
    assert "did you mean 'sublayers'? there are self, sublayers, all" == raised.value.hint


def test_a_map_that_names_a_layer_twice_is_refused(lists: LayerLists) -> None:
    with pytest.raises(PadiffError) as raised:
        lists.map(["head", "head"])
    assert raised.value.reason is Reason.BAD_CONFIG


def test_layer_maps_of_two_lengths_do_not_correspond(model: HostedModel) -> None:
    sides = [
        SideModel(model, name, EVERYTHING, layer_map, parse_loss("mean"), None)
        for name, layer_map in (("base", ("head", "body")), ("raw", ("head",)))
    ]
    with pytest.raises(PadiffError) as raised:
        map_between(*sides)
    assert raised.value.reason is Reason.BAD_CONFIG
    assert "base maps head, body; raw maps head" == raised.value.hint
    assert {"head": "body"} == map_between(sides[1], replace(sides[1], layer_map=("body",)))
