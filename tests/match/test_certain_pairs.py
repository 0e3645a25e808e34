"""Which pairs of layers are certain: parameters tie them, or somebody says so."""

from __future__ import annotations

from padiff_rpc.match.layer_map import Matching
from tests.match.descriptions import L, match, net, norm, paddle_linear, seq, torch_linear, user


def inferred(found: Matching) -> list[str]:
    """Base's routes of the pairs that are not certain."""
    return [pair.base for pair in found.layers if not pair.certain]


def test_parameters_tie_the_layers_that_hold_them_and_the_layers_around_these() -> None:
    def model(linear: L) -> L:
        return net(body=user("Block", {"fc": linear, "norm": norm(3), "drop": L("Dropout"), "act": L("ReLU")}))

    found = match(model(torch_linear(4, 3)), model(paddle_linear(4, 3)))
    assert inferred(found) == ["body.drop", "body.act"]


def test_a_container_without_parameters_is_inferred() -> None:
    found = match(net(acts=seq(L("ReLU"), L("Tanh"))), net(acts=seq(L("ReLU"), L("Tanh"))))
    assert inferred(found) == ["acts", "acts.0", "acts.1"]


def test_a_buffer_ties_nothing() -> None:
    rotary = {"inv_freq": (8,)}
    found = match(net(rope=L("Rotary", {}, buffers=rotary)), net(rope=L("Rotary", {}, buffers=rotary)))
    assert inferred(found) == ["rope"]


def test_what_the_layer_map_pairs_is_certain() -> None:
    found = match(net(one=L("ReLU"), two=L("ReLU")), net(one=L("ReLU"), two=L("ReLU")), layer_map={"one": "two"})
    assert inferred(found) == ["two"]
    assert {pair.base: pair.raw for pair in found.layers}["one"] == "two"
