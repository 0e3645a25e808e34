"""Backend contract: taps, gradients as they arrive, values put in another's place, and changes in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import DType, Tensor


def keep_inputs(args: Any, kwargs: Any) -> None:
    return None


def keep_output(args: Any, kwargs: Any, output: Any) -> None:
    return None


def tap_all(kit: Any, model: Any) -> tuple[dict[str, list[np.ndarray]], dict[str, list[np.ndarray]]]:
    """Tap every layer's inputs and listen to every gradient; returns what arrives, by route, in order of arrival."""
    inputs: dict[str, list[np.ndarray]] = {}
    outputs: dict[str, list[np.ndarray]] = {}
    for route, layer in kit.layers(model).items():
        _tap_layer(kit, layer, inputs.setdefault(route, []), outputs.setdefault(route, []))
    return inputs, outputs


def _tap_layer(kit: Any, layer: Any, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> None:
    def before(args: Any, kwargs: Any) -> Any:
        taps: dict[int, Any] = {}  # one tap for one tensor, so that `query is key` still holds inside the layer

        def tap(value: Any) -> Any:
            if not kit.backend.is_tensor(value) or not kit.backend.wants_gradient(value):
                return value
            if id(value) not in taps:
                taps[id(value)] = kit.backend.tap(value, layer)
                kit.backend.on_gradient(taps[id(value)], lambda gradient: inputs.append(kit.array(gradient)))
            return taps[id(value)]

        return tuple(tap(arg) for arg in args), {name: tap(value) for name, value in kwargs.items()}

    def after(args: Any, kwargs: Any, output: Any) -> None:
        for tensor in kit.flat(output):
            if kit.backend.wants_gradient(tensor):
                kit.backend.on_gradient(tensor, lambda gradient: outputs.append(kit.array(gradient)))

    kit.backend.hook(layer, before, after)


# -- gradients --------------------------------------------------------------------------------------------------------
def test_wants_gradient_follows_autograd(kit):
    model = kit.build("embedding")
    ids = kit.inputs("embedding", model)["ids"]
    assert kit.backend.wants_gradient(ids) is False
    assert kit.backend.wants_gradient(kit.backend.forward(model, (), {"ids": ids}, True)) is True
    assert kit.backend.wants_gradient(kit.backend.forward(model, (), {"ids": ids}, False)) is False
    wanted: list[bool] = []
    kit.on_output(kit.layers(model)["table"], lambda output: wanted.append(kit.backend.wants_gradient(output)))
    kit.backend.forward(model, (), {"ids": ids}, False)
    kit.backend.forward(model, (), {"ids": ids}, True)
    assert wanted == [False, True]


def test_taps_leave_every_number_bit_for_bit(kit, model_name):
    plain, tapped = kit.build(model_name), kit.build(model_name)
    inputs, outputs = tap_all(kit, tapped)
    results = []
    for model in (plain, tapped):
        kit.backend.seed(3)
        output = kit.forward(model_name, model)
        values = [kit.array(tensor).tobytes() for tensor in kit.flat(output)]
        if kit.tensors(model):
            kit.backward(output)
        after = {name: kit.array(tensor).tobytes() for name, tensor in kit.tensors(model).items()}
        results.append((values, {name: g.tobytes() for name, g in kit.gradients(model).items()}, after))
    assert results[1] == results[0]
    assert bool(outputs[""]) == bool(kit.gradients(tapped))
    assert all(len(arrived) > 0 for route, arrived in inputs.items() if route in ("act", "fc2", "bn", "b", "out"))


def test_a_taps_gradient_is_the_layers_own_part(kit):
    model = kit.build("residual")
    inputs, outputs = tap_all(kit, model)
    kit.backward(kit.forward("residual", model))
    [own], [whole], [skip] = inputs["fc"], outputs["inner"], outputs[""]
    np.testing.assert_allclose(own + skip, whole, rtol=1e-6)
    assert np.abs(own).max() > 0
    assert np.abs(own - whole).max() > 0
    np.testing.assert_array_equal(outputs["fc"][0], skip)


def test_gradients_of_calls_arrive_last_call_first(kit):
    model = kit.build("shared")
    inputs, outputs = tap_all(kit, model)
    kit.backward(kit.forward("shared", model))
    assert len(outputs["fc"]) == 3
    np.testing.assert_array_equal(outputs["fc"][0], outputs[""][0])
    np.testing.assert_array_equal(inputs["fc"][0], outputs["fc"][1])
    np.testing.assert_array_equal(inputs["fc"][1], outputs["fc"][2])


def test_the_gradient_is_that_of_the_value_before_a_later_change_in_place(kit):
    model = kit.build("inplace")
    inputs, outputs = tap_all(kit, model)
    output = kit.forward("inplace", model)
    kit.backward(output)
    [before_triple], [after_relu], [before_out] = outputs["fc"], outputs["relu"], inputs["out"]
    np.testing.assert_array_equal(after_relu, before_out)
    active = before_triple != 0
    assert 0 < active.sum() < active.size
    np.testing.assert_allclose(before_triple[active], 3 * after_relu[active], rtol=1e-6)


def test_a_returned_gradient_replaces_the_one_that_arrived(kit):
    plain, model = kit.build("mlp"), kit.build("mlp")

    def double(gradient: Any) -> Any:
        return kit.backend.from_tensor(Tensor.from_array(kit.array(gradient) * 2), gradient, model)

    kit.on_output(kit.layers(model)["fc1"], lambda output: kit.backend.on_gradient(output, double) and None)
    for each in (plain, model):
        kit.backward(kit.forward("mlp", each))
    expected, found = kit.gradients(plain), kit.gradients(model)
    np.testing.assert_array_equal(found["fc2.weight"], expected["fc2.weight"])
    np.testing.assert_allclose(found["fc1.weight"], 2 * expected["fc1.weight"], rtol=1e-6)
    np.testing.assert_allclose(found["fc1.bias"], 2 * expected["fc1.bias"], rtol=1e-6)


def test_a_returned_gradient_of_a_tap_replaces_the_layers_own_part_only(kit):
    plain, model = kit.build("residual"), kit.build("residual")
    _, outputs = tap_all(kit, plain)

    def zero(gradient: Any) -> Any:
        return kit.backend.from_tensor(Tensor.from_array(kit.array(gradient) * 0), gradient, model)

    def before(args: Any, kwargs: Any) -> Any:
        tapped = kit.backend.tap(args[0], kit.layers(model)["fc"])
        kit.backend.on_gradient(tapped, zero)
        return (tapped,), kwargs

    arrived: list[np.ndarray] = []
    kit.backend.hook(kit.layers(model)["fc"], before, keep_output)
    kit.on_output(
        kit.layers(model)["inner"],
        lambda output: kit.backend.on_gradient(output, lambda g: arrived.append(kit.array(g))) and None,
    )
    for each in (plain, model):
        kit.backward(kit.forward("residual", each))
    np.testing.assert_array_equal(arrived[0], outputs[""][0])


def test_a_removed_gradient_callback_is_not_called(kit):
    model = kit.build("mlp")
    arrived: list[int] = []
    output = kit.forward("mlp", model)
    remove = kit.backend.on_gradient(output, lambda gradient: arrived.append(1))
    kit.backend.on_gradient(output, lambda gradient: arrived.append(2))
    remove()
    kit.backward(output)
    assert arrived == [2]


# -- substitute -------------------------------------------------------------------------------------------------------
def odd_values(shape: tuple[int, ...]) -> np.ndarray:
    """float32 values that no arithmetic on the way would leave alone: huge, tiny, negative zero."""
    values = np.array([1e30, -1e-30, -0.0, 1e-42, 0.1, -3.0], np.float32)
    return np.resize(values, shape)


def test_a_substitute_has_exactly_the_given_values(kit):
    output = kit.forward("mlp", kit.build("mlp"))
    value = Tensor.from_array(odd_values((5, 3)))
    substitute = kit.backend.substitute(output, value)
    assert kit.backend.spec(substitute) == value.spec
    assert kit.backend.to_bytes(substitute).tobytes() == bytes(value.data)
    assert kit.backend.wants_gradient(substitute) is True


def test_a_substitute_and_what_is_made_of_a_tensor_have_memory_of_their_own(kit):
    model = kit.build("mlp")
    output = kit.forward("mlp", model)
    memory = bytearray(odd_values((5, 3)).tobytes())
    expected = bytes(memory)
    value = Tensor(kit.backend.spec(output), memoryview(memory))
    made = [kit.backend.substitute(output, value)]
    made += [kit.backend.from_tensor(value, like, model) for like in (output, None)]
    memory[:] = bytes(len(memory))  # it is used again
    assert [expected] * 3 == [kit.backend.to_bytes(tensor).tobytes() for tensor in made]


def test_a_substitute_of_another_dtype_is_converted(kit):
    output = kit.forward("mlp", kit.build("mlp"))
    value = np.linspace(-1, 1, 15).reshape(5, 3)
    substitute = kit.backend.substitute(output, Tensor.from_array(value))
    assert kit.backend.spec(substitute).dtype is DType.F32
    np.testing.assert_array_equal(kit.array(substitute), value.astype(np.float32))


def test_the_gradient_passes_a_substitute_unchanged(kit):
    plain, model = kit.build("mlp"), kit.build("mlp")
    arrived: list[np.ndarray] = []

    def swap(output: Any) -> Any:
        kit.backend.on_gradient(output, lambda gradient: arrived.append(kit.array(gradient)))
        substitute = kit.backend.substitute(output, Tensor.from_array(odd_values((5, 3))))
        kit.backend.on_gradient(substitute, lambda gradient: arrived.append(kit.array(gradient)))
        return substitute

    kit.on_output(kit.layers(model)["fc2"], swap)
    outputs = [kit.forward("mlp", each) for each in (plain, model)]
    np.testing.assert_array_equal(kit.array(outputs[1]), odd_values((5, 3)))
    for output in outputs:
        kit.backward(output)
    assert arrived[0].tobytes() == arrived[1].tobytes()
    expected, found = kit.gradients(plain), kit.gradients(model)
    assert {name: g.tobytes() for name, g in found.items()} == {name: g.tobytes() for name, g in expected.items()}


def test_a_layer_may_change_a_substitute_in_place(kit):
    model = kit.build("inplace")
    value = np.resize(np.array([-1.0, 2.0], np.float32), (5, 4))
    kit.on_output(kit.layers(model)["fc"], lambda output: kit.backend.substitute(output, Tensor.from_array(value)))
    seen: list[np.ndarray] = []
    kit.on_output(kit.layers(model)["relu"], lambda output: seen.append(kit.array(output)))
    kit.backward(kit.forward("inplace", model))
    np.testing.assert_array_equal(seen[0], np.maximum(3 * value, 0))
    assert set(kit.gradients(model)) == {"fc.weight", "fc.bias", "out.weight", "out.bias"}


def test_a_substitute_of_what_has_no_gradient_is_a_plain_tensor(kit):
    model = kit.build("nested")
    count = kit.forward("nested", model)["count"]
    substitute = kit.backend.substitute(count, Tensor.from_array(np.array([8, 9], np.int64)))
    np.testing.assert_array_equal(kit.array(substitute), [8, 9])
    assert kit.backend.spec(substitute) == kit.backend.spec(count)
    assert kit.backend.wants_gradient(substitute) is False


def test_a_substitute_of_another_shape_is_refused(kit):
    output = kit.forward("mlp", kit.build("mlp"))
    with pytest.raises(PadiffError) as caught:
        kit.backend.substitute(output, Tensor.from_array(np.zeros((5, 1), np.float32)))
    assert caught.value.reason is Reason.BAD_TENSOR


# -- changes in place -------------------------------------------------------------------------------------------------
def test_writes_counts_changes_in_place_through_any_alias(kit):
    model = kit.build("inplace")
    layers = kit.layers(model)
    counts: list[int] = []
    kept: list[Any] = []

    def tap(args: Any, kwargs: Any) -> Any:
        return (kit.backend.tap(args[0], layers["triple"]),), kwargs

    kit.on_output(layers["fc"], lambda output: kept.append(output) or counts.append(kit.backend.writes(output)))
    kit.backend.hook(
        layers["triple"], tap, lambda args, kwargs, output: counts.append(kit.backend.writes(kept[0])) or None
    )
    kit.forward("inplace", model)
    assert counts == [0, 0] or counts[1] > counts[0]


def test_reading_a_tensor_is_no_write(kit):
    model = kit.build("mlp")
    kept: list[Any] = []
    kit.on_output(kit.layers(model)["fc1"], lambda output: kept.append((output, kit.backend.writes(output))) or None)
    kit.backward(kit.forward("mlp", model))
    kit.backend.to_bytes(kept[0][0])
    assert kit.backend.writes(kept[0][0]) == kept[0][1]


def test_copy_into_moves_the_values_and_the_gradients_path(kit):
    model = kit.build("residual")
    arrived: dict[str, np.ndarray] = {}

    def listen(route: str) -> Callable[[Any], None]:
        def after(output: Any) -> None:
            kit.backend.on_gradient(output, lambda gradient: arrived.__setitem__(route, kit.array(gradient)))

        return after

    kit.on_output(kit.layers(model)["inner"], listen("inner"))
    kit.backend.hook(
        kit.layers(model)["fc"], keep_inputs, lambda args, kwargs, output: kit.backend.copy_into(output, args[0])
    )
    kit.on_output(model, listen(""))
    inner: list[np.ndarray] = []
    kit.on_output(kit.layers(model)["inner"], lambda output: inner.append(kit.array(output)))
    output = kit.forward("residual", model)
    np.testing.assert_array_equal(kit.array(output), 2 * inner[0])
    kit.backward(output)
    np.testing.assert_array_equal(arrived["inner"], 2 * arrived[""])
    assert np.abs(kit.gradients(model).get("fc.weight", np.zeros(1))).max() == 0
