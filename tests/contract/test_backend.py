"""Backend contract: the environment, the layer tree, casting, and tensors in and out."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.losses_and_optimizers import parse_loss
from padiff_rpc.model.recording.native_tree import describe
from padiff_rpc.tensors.tensor import DType, Tensor, TensorSpec

SHAPES = [(), (1,), (0,), (3, 0, 2), (2, 3), (2, 1, 3, 5)]


# -- the environment --------------------------------------------------------------------------------------------------
def test_version_is_a_version_number(kit):
    assert kit.backend.version()[0].isdigit()


def test_a_model_without_parameters_has_a_device_too(kit):
    assert kit.backend.device(kit.build("mlp")) == "cpu"
    assert kit.backend.device(kit.build("dropout")) == "cpu"


def test_one_seed_gives_the_same_random_numbers_everywhere(kit):
    model = kit.build("dropout")
    x = kit.native(np.ones((8, 8), np.float32), model)

    def draw(seed: int) -> tuple[float, float, bytes]:
        kit.backend.seed(seed)
        return (
            random.random(),
            float(np.random.rand()),
            kit.array(kit.backend.forward(model, {"x": x}, False)).tobytes(),
        )

    first, again, other = draw(7), draw(7), draw(8)
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_generators_are_put_back_as_they_were(kit):
    model = kit.build("dropout")
    x = kit.native(np.ones((8, 8), np.float32), model)

    def draw() -> tuple[float, float, bytes]:
        return (
            random.random(),
            float(np.random.rand()),
            kit.array(kit.backend.forward(model, {"x": x}, False)).tobytes(),
        )

    kit.backend.seed(7)
    expected = draw()
    kit.backend.seed(7)
    with kit.backend.kept_randomness():
        kit.backend.seed(8)
        draw()
    assert expected == draw()


def test_set_threads_leaves_the_results_alone(kit):
    model = kit.build("mlp")
    before = kit.array(kit.forward("mlp", model))
    kit.backend.set_threads(2)
    np.testing.assert_allclose(kit.array(kit.forward("mlp", model)), before, rtol=1e-6)


# -- the model --------------------------------------------------------------------------------------------------------
def test_only_a_model_is_a_model(kit, model_name):
    model = kit.build(model_name)
    assert kit.backend.is_model(model) is True
    assert [kit.backend.is_model(value) for value in (None, "mlp", type(model), np.zeros(3))] == [False] * 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mlp", ["", "fc1", "act", "fc2"]),
        ("tied", ["", "a", "b"]),
        ("residual", ["", "inner", "fc"]),  # the slot `gap` holds None
        ("extras", [""]),
    ],
)
def test_children_come_in_definition_order_without_empty_slots(kit, name, expected):
    assert list(kit.layers(kit.build(name))) == expected


def test_children_are_the_same_objects_every_time(kit):
    model = kit.build("mlp")
    assert [id(layer) for _, layer in kit.backend.children(model)] == [id(c) for _, c in kit.backend.children(model)]


def test_own_tensors_are_the_layers_own_with_kind_and_trainable(kit):
    expected = [
        ("scale", "parameter", True),
        ("frozen", "parameter", False),
        ("kept", "buffer", False),
        ("passing", "buffer", False),
    ]
    own = kit.backend.own_tensors(kit.build("extras"))
    assert [(name, kind, trainable) for name, _, kind, trainable in own] == expected


def test_buffers_that_no_checkpoint_holds_are_transient(kit):
    model = kit.build("extras")
    assert {"passing"} == set(kit.backend.transient_buffers(model))
    described = describe(kit.backend, model)
    assert {"passing"} == {info.name for info in described.parameters if info.transient}


def test_own_tensors_leave_out_those_of_children_and_a_missing_bias(kit):
    model = kit.build("mlp")
    layers = kit.layers(model)
    names = {route: [own[0] for own in kit.backend.own_tensors(layer)] for route, layer in layers.items()}
    assert names == {"": [], "fc1": ["weight", "bias"], "act": [], "fc2": ["weight"]}


def test_running_statistics_are_buffers(kit):
    bn = kit.layers(kit.build("norm"))["bn"]
    own = kit.backend.own_tensors(bn)
    assert tuple((name, kind, trainable) for name, _, kind, trainable in own) == kit.zoo.BATCH_NORM_TENSORS


def test_running_statistics_move_in_training_and_rest_in_evaluation(kit):
    model = kit.build("norm")
    buffers = {own[0]: own[1] for own in kit.backend.own_tensors(kit.layers(model)["bn"]) if own[2] == "buffer"}

    def values() -> dict[str, bytes]:
        return {name: kit.array(tensor).tobytes() for name, tensor in buffers.items()}

    start = values()
    kit.backend.set_training(model, False)
    kit.forward("norm", model)
    assert values() == start
    kit.backend.set_training(model, True)
    kit.forward("norm", model)
    assert all(values()[name] != start[name] for name in start)


def test_tied_parameters_are_one_object(kit):
    tensors = kit.tensors(kit.build("tied"))
    assert tensors["a.weight"] is tensors["b.weight"]
    assert tensors["a.bias"] is not tensors["b.bias"]


def test_hyperparameters_of_framework_layers(kit):
    for layer, expected in kit.zoo.hyperparameter_cases():
        found = kit.backend.hyperparameters(layer)
        assert {name: found.get(name, "absent") for name in expected} == expected, type(layer).__name__


def test_hyperparameters_of_a_users_layer_are_its_plain_public_attributes(kit):
    found = kit.backend.hyperparameters(kit.layers(kit.build("keyword"))["scale"])
    expected = {"slope": 0.5, "mode": "fast", "sizes": [2, 3], "ready": True, "nothing": None}
    assert {name: found.get(name, "absent") for name in expected} == expected
    assert {"_secret", "thing", "weight", "training"} & set(found) == set()


def test_hyperparameters_are_plain_json(kit, model_name):
    for layer in [*kit.layers(kit.build(model_name)).values(), *(case[0] for case in kit.zoo.hyperparameter_cases())]:
        found = kit.backend.hyperparameters(layer)
        assert json.loads(json.dumps(found, allow_nan=False)) == found
        assert "training" not in found


def test_set_training_reaches_every_layer(kit):
    model = kit.build("mlp")
    for training in (False, True):
        kit.backend.set_training(model, training)
        assert {kit.backend.is_training(layer) for layer in kit.layers(model).values()} == {training}


# -- prepare ----------------------------------------------------------------------------------------------------------
def test_prepare_without_wishes_changes_nothing(kit):
    model = kit.build("norm")
    before = {name: kit.array(tensor).tobytes() for name, tensor in kit.tensors(model).items()}
    prepared = kit.backend.prepare(model, None, None)
    assert {name: kit.array(tensor).tobytes() for name, tensor in kit.tensors(prepared).items()} == before


def test_prepare_casts_what_is_floating_and_only_that(kit):
    dtypes = {"float64": DType.F64, "float32": DType.F32, "bfloat16": DType.BF16, "float16": DType.F16}
    assert kit.zoo.CAST_DTYPES
    for wish in kit.zoo.CAST_DTYPES:
        model = kit.build("norm")
        before = {name: kit.backend.spec(tensor).dtype for name, tensor in kit.tensors(model).items()}
        after = {n: kit.backend.spec(t).dtype for n, t in kit.tensors(kit.backend.prepare(model, "cpu", wish)).items()}
        assert after == {n: dtypes[wish] if dtype.is_floating else dtype for n, dtype in before.items()}


def test_prepare_keeps_values_ties_and_trainability(kit):
    tied = kit.build("tied")
    before = {name: kit.array(tensor) for name, tensor in kit.tensors(tied).items()}
    tied = kit.backend.prepare(tied, None, "float64")
    after = kit.tensors(tied)
    assert after["a.weight"] is after["b.weight"]
    for name, tensor in after.items():
        np.testing.assert_array_equal(kit.array(tensor), before[name].astype(np.float64))
    extras = kit.backend.prepare(kit.build("extras"), None, "float64")
    assert [own[3] for own in kit.backend.own_tensors(extras)] == [True, False, False, False]


def test_a_model_in_float64_computes_in_float64(kit):
    model = kit.backend.prepare(kit.build("mlp"), "cpu", "float64")
    x = kit.native(np.ones((2, 4)), model)
    assert kit.backend.spec(kit.backend.forward(model, {"x": x}, False)) == TensorSpec(DType.F64, (2, 3))


@pytest.mark.parametrize("dtype", ["int32", "float8", "half", "", "nonsense"])
def test_prepare_refuses_a_dtype_that_no_model_has(kit, dtype):
    with pytest.raises(PadiffError) as caught:
        kit.backend.prepare(kit.build("mlp"), None, dtype)
    assert caught.value.reason is Reason.BAD_CONFIG
    assert repr(dtype) in caught.value.message


def test_prepare_refuses_a_device_that_is_not_here(kit):
    for device in (kit.zoo.ABSENT_DEVICE, "nonsense", ""):
        with pytest.raises(PadiffError) as caught:
            kit.backend.prepare(kit.build("mlp"), device, None)
        assert caught.value.reason is Reason.BAD_CONFIG
        assert repr(device) in caught.value.message
        assert caught.value.hint


# -- tensors ----------------------------------------------------------------------------------------------------------
def random_tensor(spec: TensorSpec, seed: int = 0) -> Tensor:
    """Any bits at all, NaN with payloads and subnormals included; booleans hold 0 and 1."""
    data = np.random.default_rng(seed).integers(0, 256, spec.size_bytes, dtype=np.uint8)
    return Tensor(spec, memoryview((data & 1 if spec.dtype is DType.BOOL else data).tobytes()))


def test_only_a_tensor_is_a_tensor(kit):
    tensor = kit.native(np.ones(3, np.float32), kit.build("mlp"))
    assert kit.backend.is_tensor(tensor) is True
    assert [kit.backend.is_tensor(value) for value in (None, 1.0, [tensor], "x")] == [False] * 4


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", list(DType), ids=lambda dtype: dtype.value)
def test_bytes_survive_the_way_in_and_out(kit, dtype, shape):
    if dtype not in kit.zoo.DTYPES:
        with pytest.raises(PadiffError) as caught:
            kit.backend.from_tensor(random_tensor(TensorSpec(dtype, shape)), None, kit.build("mlp"))
        assert caught.value.reason is Reason.NOT_SUPPORTED
        return
    tensor = random_tensor(TensorSpec(dtype, shape))
    native = kit.backend.from_tensor(tensor, None, kit.build("mlp"))
    assert kit.backend.spec(native) == tensor.spec
    out = kit.backend.to_bytes(native)
    assert (out.dtype, out.shape) == (np.dtype("u1"), (tensor.spec.size_bytes,))
    assert out.tobytes() == bytes(tensor.data)


def test_a_tensor_above_the_message_limit_survives(kit):
    tensor = random_tensor(TensorSpec(DType.F32, (1100, 1001)))
    assert tensor.spec.size_bytes > 4 << 20
    assert kit.backend.to_bytes(kit.backend.from_tensor(tensor, None, kit.build("mlp"))).tobytes() == bytes(tensor.data)


def test_tensors_that_are_not_plain_in_memory_come_out_row_major(kit):
    cases = kit.zoo.awkward_tensors()
    assert len(cases) >= 5
    for label, native, dtype, expected in cases:
        assert kit.backend.spec(native).dtype is dtype, label
        out = kit.backend.to_bytes(native)
        assert out.dtype == np.dtype("u1"), label
        assert out.tobytes() == expected, label
        assert kit.backend.spec(native).size_bytes == len(expected), label


def test_a_made_tensor_does_not_share_the_memory_it_was_made_from(kit):
    source = bytearray(np.ones(4, np.float32).tobytes())
    native = kit.backend.from_tensor(Tensor(TensorSpec(DType.F32, (4,)), memoryview(source)), None, kit.build("mlp"))
    source[:] = bytes(len(source))
    np.testing.assert_array_equal(kit.array(native), np.ones(4, np.float32))


def test_from_tensor_takes_the_dtype_of_the_tensor_it_shall_be_like(kit):
    model = kit.build("mlp")
    values = np.array([0.1, -2.5, 1e-3])
    like = kit.native(np.zeros(1, np.float32), model)
    made = kit.backend.from_tensor(Tensor.from_array(values), like, model)
    assert kit.backend.spec(made) == TensorSpec(DType.F32, (3,))
    np.testing.assert_array_equal(kit.array(made), values.astype(np.float32))
    assert kit.backend.wants_gradient(made) is False


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_overwrite_writes_the_exact_bytes_in_place(kit, shape):
    model = kit.build("mlp")
    for dtype in kit.zoo.DTYPES:
        spec = TensorSpec(dtype, shape)
        target = kit.backend.from_tensor(random_tensor(spec, 0), None, model)
        new = random_tensor(spec, 1)
        kit.backend.overwrite(target, new)
        assert kit.backend.spec(target) == spec
        assert kit.backend.to_bytes(target).tobytes() == bytes(new.data)


def test_overwrite_of_a_parameter_reaches_the_forward_and_keeps_it_trainable(kit):
    model = kit.build("extras")
    tensors = kit.tensors(model)
    for name, value in (("scale", 2.0), ("frozen", 3.0), ("kept", 4.0), ("passing", 5.0)):
        kit.backend.overwrite(tensors[name], Tensor.from_array(np.full(4, value, np.float32)))
    x = kit.native(np.ones((1, 4), np.float32), model)
    np.testing.assert_array_equal(
        kit.array(kit.backend.forward(model, {"x": x}, True)), np.full((1, 4), 15.0, np.float32)
    )
    assert [own[3] for own in kit.backend.own_tensors(model)] == [True, False, False, False]
    assert all(tensors[name] is tensor for name, tensor in kit.tensors(model).items())


def test_overwrite_of_a_tied_parameter_reaches_both_names(kit):
    tensors = kit.tensors(kit.build("tied"))
    new = np.arange(16, dtype=np.float32).reshape(4, 4)
    kit.backend.overwrite(tensors["b.weight"], Tensor.from_array(new))
    np.testing.assert_array_equal(kit.array(tensors["a.weight"]), new)


def test_tensors_of_one_memory_have_one_address(kit):
    model, other = kit.build("tied"), kit.build("tied")
    held = dict(kit.backend.children(model))
    weights = [
        next(tensor for name, tensor, *_ in kit.backend.own_tensors(held[child]) if name == "weight") for child in "ab"
    ]
    theirs = next(iter(kit.backend.own_tensors(dict(kit.backend.children(other))["a"])))[1]
    assert kit.backend.address(weights[0]) == kit.backend.address(weights[1])
    assert kit.backend.address(weights[0]) != kit.backend.address(theirs)


def test_a_traced_copy_wants_a_gradient_and_leaves_the_original_alone(kit):
    model = kit.build("mlp")
    x = kit.native(np.ones((2, 4), np.float32), model)
    traced = kit.backend.traced(x)
    assert (False, True) == (kit.backend.wants_gradient(x), kit.backend.wants_gradient(traced))
    kit.backend.copy_into(kit.backend.traced(x), kit.native(np.zeros((2, 4), np.float32), model))
    np.testing.assert_array_equal(np.ones((2, 4), np.float32), kit.array(x))
    arrived = []
    kit.backend.on_gradient(traced, arrived.append)
    outputs = kit.backend.forward(model, {"x": traced}, True)
    kit.backend.backward(kit.backend.loss(parse_loss("sum"), [outputs]))
    assert 1 == len(arrived)
