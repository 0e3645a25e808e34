"""Layers and tensors that are registered more than once."""

from __future__ import annotations

from padiff_rpc.model.backends.numpy.backend import NumpyBackend
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import ForwardRequest, RecordOptions
from padiff_rpc.model.recording.native_tree import describe, find_tensors
from padiff_rpc.numpy_framework.nn import Layer, Linear, Sequential
from padiff_rpc.tensors.tensor import Tensor


class Twice(Layer):
    """One block under two names, the second below another layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Sequential(Linear(2, 2))
        self.holder = Layer()
        self.holder.second = self.first
        self.head = Linear(2, 2)
        self.head.weight = self.first.children()["0"].weight

    def forward(self, x):
        return self.head(self.holder.second(self.first(x)))


def test_a_layer_under_two_routes_is_one_layer_with_aliases() -> None:
    description = describe(NumpyBackend(), Twice())
    assert [layer.route for layer in description.layers] == ["", "first", "first.0", "holder", "head"]
    assert description.layer("first").aliases == ("holder.second",)
    assert description.layer("holder.second.0").route == "first.0"
    assert description.layer("holder").children == ("holder.second",)


def test_a_tensor_under_several_names_is_one_parameter_with_aliases() -> None:
    description = describe(NumpyBackend(), Twice())
    names = [info.name for info in description.parameters]
    assert names == ["first.0.weight", "first.0.bias", "head.bias"]
    assert description.parameter("first.0.weight").aliases == ("holder.second.0.weight", "head.weight")
    assert description.layer("head").parameters == ("head.weight", "head.bias")


def test_a_tensor_is_found_under_each_of_its_names_and_layers_beside_the_way_are_not_visited() -> None:
    visited: list[Layer] = []

    class Noting(NumpyBackend):
        def own_tensors(self, layer):
            visited.append(layer)
            return super().own_tensors(layer)

    model = Twice()
    model.holder.up = model
    for info in describe(NumpyBackend(), model).parameters:
        names = [info.name, *info.aliases]
        found = find_tensors(NumpyBackend(), model, names)
        assert names == list(found)
        assert 1 == len({id(tensor) for tensor in found.values()})
    weight = model.first.children()["0"].weight
    assert find_tensors(Noting(), model, ["head.weight"])["head.weight"] is weight
    assert visited == [model, model.head]


def test_a_name_that_no_tensor_has_is_not_found() -> None:
    model = Twice()
    model.holder.up = model
    names = ["", "weight", "first", "first.0", "first.0.wrong", "head.weight.more", "holder.up.head.weight"]
    assert {} == find_tensors(NumpyBackend(), model, names)


def test_a_layer_whose_name_holds_dots_is_on_the_way_too() -> None:
    model = Layer()
    setattr(model, "a.b", Linear(2, 2))
    model.a = Linear(2, 2)
    names = ["a.b.weight", "a.weight"]
    assert [getattr(model, "a.b").weight, model.a.weight] == [
        find_tensors(NumpyBackend(), model, names)[name] for name in names
    ]


def test_a_layer_that_holds_its_parent_ends() -> None:
    model = Twice()
    model.holder.up = model
    assert [layer.route for layer in describe(NumpyBackend(), model).layers] == [
        "",
        "first",
        "first.0",
        "holder",
        "head",
    ]


def test_a_layer_under_two_routes_is_hooked_once() -> None:
    heard: list[tuple[str, int, str]] = []

    class Ear:
        def observe(self, boundary) -> None:
            heard.append((boundary.route, boundary.call, boundary.side))

        def substitute(self, boundary):
            raise AssertionError("this run is not synced")

    import numpy as np

    model = HostedModel(Twice())
    x = Tensor.from_array(np.ones((1, 2), np.float32))
    model.forward(ForwardRequest({"x": x}, record=RecordOptions(routes=("holder.second",))), Ear())
    assert heard == [("first", 0, "input"), ("first", 0, "output"), ("first", 1, "input"), ("first", 1, "output")]
