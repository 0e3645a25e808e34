"""HostedModel over every backend: its layers, parameters, buffers and gradients by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import Tensor, TensorSpec, collect_all
from tests.contract.steps import (
    SUM,
    all_bytes,
    hosted,
    names_of,
    request_of,
)


def test_a_native_layer_is_the_models_own_object(kit: Any) -> None:
    model = hosted(kit, "mlp")
    routes = [layer.route for layer in model.describe().layers]
    assert model.native_layer("") is model.model
    assert type(model.native_layer(routes[-1])).__name__ == model.describe().layers[-1].class_name
    with pytest.raises(PadiffError, match="has no layer 'nowhere'") as raised:
        model.native_layer("nowhere")
    assert raised.value.reason is Reason.UNKNOWN_NAME


def test_parameters_are_written_read_and_digested(kit: Any, model_name: str) -> None:
    model = hosted(kit, model_name)
    infos = model.describe().parameters
    fresh = {
        info.name: Tensor.from_array(
            np.arange(info.spec.count).astype(info.spec.dtype.storage).reshape(info.spec.shape)
        )
        for info in infos
    }
    model.write_parameters(tensor.stream(name) for name, tensor in fresh.items())
    read = collect_all(model.read_parameters(list(fresh)))
    assert {name: bytes(value.data) for name, value in read.items()} == {
        name: bytes(value.data) for name, value in fresh.items()
    }
    assert model.digest_parameters(list(fresh)) == {
        name: digest(np.frombuffer(value.data, np.uint8), value.spec) for name, value in fresh.items()
    }


def test_a_wrong_spec_or_name_is_refused(kit: Any) -> None:
    model = hosted(kit, "mlp")
    before = all_bytes(model)
    spec: TensorSpec = model.describe().parameter("fc1.weight").spec
    cases = [
        ("fc1.weight", np.zeros(spec.shape, np.float64), Reason.BAD_TENSOR),
        ("fc1.weight", np.zeros((*spec.shape, 1), np.float32), Reason.BAD_TENSOR),
        ("fc1.wieght", np.zeros(spec.shape, np.float32), Reason.UNKNOWN_NAME),
    ]
    for name, array, reason in cases:
        with pytest.raises(PadiffError, match=name) as raised:
            model.write_parameters([Tensor.from_array(array).stream(name)])
        assert raised.value.reason is reason
    with pytest.raises(PadiffError) as raised:
        model.read_parameters(["fc1.weight", "nowhere"])
    assert raised.value.reason is Reason.UNKNOWN_NAME
    assert before == all_bytes(model)


def test_tied_parameters_appear_once_and_answer_to_each_name(kit: Any) -> None:
    model = hosted(kit, "tied")
    description = model.describe()
    assert [info.name for info in description.parameters] == ["a.weight", "a.bias", "b.bias"]
    assert description.parameter("b.weight").aliases == ("b.weight",)
    assert description.layer("b").parameters == ("b.weight", "b.bias")
    zeros = Tensor.from_array(np.zeros((4, 4), np.float32))
    model.write_parameters([zeros.stream("b.weight")])
    assert bytes(collect_all(model.read_parameters(["a.weight"]))["a.weight"].data) == bytes(zeros.data)


def test_a_part_of_a_parameter_is_a_tensor_by_itself(kit: Any) -> None:
    model = hosted(kit, "mlp")
    whole = collect_all(model.read_parameters(["fc1.weight"]))["fc1.weight"].to_array()
    read = collect_all(model.read_parameters(["fc1.weight[1]", "fc1.weight[0]"]))
    assert [value.to_array().tolist() for value in read.values()] == [whole[1].tolist(), whole[0].tolist()]
    assert model.digest_parameters(["fc1.weight[1]"])["fc1.weight[1]"].hash == _hash_of(whole[1])
    model.write_parameters([Tensor.from_array(whole[0] + 1).stream("fc1.weight[1]")])
    written = collect_all(model.read_parameters(["fc1.weight"]))["fc1.weight"].to_array()
    assert written.tolist() == [whole[0].tolist(), (whole[0] + 1).tolist(), *whole[2:].tolist()]
    model.forward(request_of("mlp"))
    model.backward(SUM)
    gradients = collect_all(model.read_parameters(["fc1.weight", "fc1.weight[2]"], "gradient"))
    assert gradients["fc1.weight[2]"].to_array().tolist() == gradients["fc1.weight"].to_array()[2].tolist()
    for name in (f"fc1.weight[{len(whole)}]", "fc1.wieght[0]", "fc1[0]"):
        with pytest.raises(PadiffError) as raised:
            model.read_parameters([name])
        assert raised.value.reason is Reason.UNKNOWN_NAME


def _hash_of(array: np.ndarray) -> bytes:
    tensor = Tensor.from_array(np.ascontiguousarray(array))
    return digest(np.frombuffer(tensor.data, np.uint8), tensor.spec).hash


def test_gradients_that_are_not_there_are_left_out(kit: Any) -> None:
    model = hosted(kit, "extras")
    names = names_of(model)
    assert list(model.read_parameters(names, "gradient")) == []
    model.forward(request_of("extras"))
    model.backward(SUM)
    assert [stream.name for stream in model.read_parameters(names, "gradient")] == ["scale"]
    assert list(model.digest_parameters(names, "gradient")) == ["scale"]


def test_the_layer_tree_is_described(kit: Any) -> None:
    description = hosted(kit, "residual").describe()
    assert [layer.route for layer in description.layers] == ["", "inner", "fc"]
    assert description.layers[0].children == ("inner", "fc")
    assert description.layers[1].parameters == ("inner.weight", "inner.bias")
    assert description.framework == kit.backend.name
    assert all(layer.training for layer in description.layers)
    assert all(layer.class_path.endswith(layer.class_name) for layer in description.layers)
