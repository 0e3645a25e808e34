"""Backend contract: hooks around layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import DType, TensorSpec


def keep_inputs(args: Any, kwargs: Any) -> None:
    return None


def keep_output(args: Any, kwargs: Any, output: Any) -> None:
    return None


def test_hooks_fire_around_the_call_from_the_outside_in(kit):
    model = kit.build("mlp")
    events: list[str] = []

    def note(route: str) -> None:
        def before(args: Any, kwargs: Any) -> None:
            events.append(f"before {route or 'root'}")

        def after(args: Any, kwargs: Any, output: Any) -> None:
            events.append(f"after {route or 'root'}")

        kit.backend.hook(kit.layers(model)[route], before, after)

    for route in kit.layers(model):
        note(route)
    kit.forward("mlp", model)
    expected = ["before root"]
    for route in ("fc1", "act", "fc2"):
        expected += [f"before {route}", f"after {route}"]
    assert events == [*expected, "after root"]


def test_a_layer_called_three_times_fires_three_times(kit):
    model = kit.build("shared")
    outputs: list[np.ndarray] = []
    inputs: list[np.ndarray] = []
    fc = kit.layers(model)["fc"]
    kit.backend.hook(
        fc,
        lambda args, kwargs: inputs.append(kit.array(args[0])),
        lambda args, kwargs, output: outputs.append(kit.array(output)),
    )
    result = kit.array(kit.forward("shared", model))
    assert (len(inputs), len(outputs)) == (3, 3)
    np.testing.assert_array_equal(inputs[1], outputs[0])
    np.testing.assert_array_equal(inputs[2], outputs[1])
    np.testing.assert_array_equal(outputs[2], result)


def test_the_models_own_inputs_arrive_by_keyword(kit):
    model = kit.build("mlp")
    seen: list[Any] = []
    kit.backend.hook(model, lambda args, kwargs: seen.append((args, dict(kwargs))), keep_output)
    inputs = kit.inputs("mlp", model)
    kit.backend.forward(model, (), inputs, True)
    [(args, kwargs)] = seen
    assert args == ()
    assert list(kwargs) == ["x"]
    assert kwargs["x"] is inputs["x"]


def test_hooks_see_and_replace_keyword_arguments(kit):
    model = kit.build("keyword")
    plain = kit.array(kit.forward("keyword", model))
    seen: list[Any] = []

    def before(args: Any, kwargs: Any) -> Any:
        seen.append((args, sorted(kwargs), kwargs["gain"]))
        return args, {**kwargs, "gain": 4.0}

    kit.backend.hook(
        kit.layers(model)["scale"], before, lambda args, kwargs, output: seen.append((args, kwargs["gain"]))
    )
    np.testing.assert_allclose(kit.array(kit.forward("keyword", model)), plain * 2, rtol=1e-6)
    assert seen == [((), ["gain", "hidden"], 2.0), ((), 4.0)]


def test_positional_arguments_can_be_replaced_and_after_sees_what_the_layer_got(kit):
    model = kit.build("mlp")
    zero = kit.native(np.zeros((5, 4), np.float32), model)
    seen: list[bool] = []
    fc1 = kit.layers(model)["fc1"]
    kit.backend.hook(fc1, lambda args, kwargs: ((zero,), {}), lambda args, kwargs, output: seen.append(args[0] is zero))
    got = kit.array(kit.forward("mlp", model))
    expected = kit.array(kit.backend.forward(kit.build("mlp"), (), {"x": zero}, True))
    np.testing.assert_array_equal(got, expected)
    assert seen == [True]


def test_an_output_that_a_hook_returns_goes_on_in_its_place(kit):
    model = kit.build("mlp")
    kit.on_output(kit.layers(model)["fc2"], lambda output: [output, "more"])
    output = kit.forward("mlp", model)
    assert output[1] == "more"
    assert kit.backend.spec(output[0]) == TensorSpec(DType.F32, (5, 3))


def test_structured_outputs_reach_the_hook_as_they_are(kit):
    model = kit.build("nested")
    packs: list[Any] = []
    roots: list[Any] = []
    kit.on_output(kit.layers(model)["pack"], packs.append)
    kit.on_output(model, roots.append)
    output = kit.forward("nested", model)
    assert isinstance(packs[0], kit.zoo.Packed)
    assert output["logits"] is packs[0].first
    assert roots[0] is output
    assert list(output) == ["logits", "past", "count", "nothing"]
    assert [kit.backend.wants_gradient(t) for t in kit.flat(output)] == [True, True, True, False]
    np.testing.assert_array_equal(kit.array(output["count"]), [3, 4])


def test_a_removed_hook_is_gone_and_the_others_stay(kit):
    model = kit.build("mlp")
    events: list[str] = []
    fc1 = kit.layers(model)["fc1"]
    remove = kit.backend.hook(
        fc1, lambda args, kwargs: events.append("first"), lambda args, kwargs, output: events.append("first")
    )
    kit.on_output(fc1, lambda output: events.append("second"))
    remove()
    kit.forward("mlp", model)
    assert events == ["second"]


@pytest.mark.parametrize("side", ["before", "after"])
def test_an_exception_in_a_hook_comes_through_unchanged(kit, side):
    model = kit.build("mlp")
    error = PadiffError("the store is full", reason=Reason.STORE_FULL)

    def fail(*_: Any) -> None:
        raise error

    layer = kit.layers(model)["act"]
    kit.backend.hook(layer, fail if side == "before" else keep_inputs, fail if side == "after" else keep_output)
    with pytest.raises(PadiffError) as caught:
        kit.forward("mlp", model)
    assert caught.value is error
