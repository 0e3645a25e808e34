"""HostedModel over every backend: recording, syncing, parameters, steps and errors, on the zoo's models."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.digest import digest
from padiff_rpc.model.hosted import HostedModel
from padiff_rpc.model.model import Boundary, ForwardRequest, LossSpec, OptimizerSpec, RecordOptions
from padiff_rpc.tensor import Tensor, TensorSpec, collect_all


def _load_watcher() -> Any:
    path = Path(__file__).with_name("watcher.py")
    spec = importlib.util.spec_from_file_location("contract_watcher", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["contract_watcher"] = module
    spec.loader.exec_module(module)
    return module


_watcher = _load_watcher()
Watcher, echo = _watcher.Watcher, _watcher.echo

SUM = LossSpec("sum")
PROJECTION = LossSpec("projection", {"seed": 0.0})
SYNC = RecordOptions(sync=True)


def inputs_of(name: str, rows: int = 5) -> dict[str, Tensor]:
    if name == "embedding":
        return {"ids": Tensor.from_array(np.arange(rows * 3, dtype=np.int64).reshape(rows, 3) % 10)}
    return {"x": Tensor.from_array(np.cos(0.9 * np.arange(rows * 4)).astype(np.float32).reshape(rows, 4))}


def request_of(name: str, record: RecordOptions | None = RecordOptions(), **options: Any) -> ForwardRequest:  # noqa: B008
    return ForwardRequest(inputs_of(name), seed=3, record=record, **options)


def hosted(kit: Any, name: str, **options: Any) -> HostedModel:
    return HostedModel(kit.build(name), kit.backend, **options)


def names_of(model: HostedModel) -> list[str]:
    return [info.name for info in model.describe().parameters]


def all_bytes(model: HostedModel, what: Any = "value") -> dict[str, bytes]:
    return {
        name: bytes(tensor.data) for name, tensor in collect_all(model.read_parameters(names_of(model), what)).items()
    }


def run_step(kit: Any, name: str, record: RecordOptions | None, answer: Any = None) -> tuple[Any, Any, Any, Any]:
    """One forward and backward: outputs, parameter gradients, buffers afterwards, and what was heard."""
    model = hosted(kit, name)
    watcher = Watcher(model, answer)
    seen: list[Any] = []
    plain = kit.backend.forward

    def spy(native: Any, inputs: Mapping[str, Any], gradients: bool) -> Any:
        seen.append(plain(native, inputs, gradients))
        return seen[-1]

    kit.backend.forward = spy  # the backend object is the session's: put back below
    try:
        model.forward(request_of(name, record), watcher)
    finally:
        del kit.backend.forward
    outputs = [kit.array(tensor).tobytes() for tensor in kit.flat(seen[0])]
    if name == "dropout":  # it has no parameter, so no backward
        return outputs, {}, all_bytes(model), watcher
    model.backward(PROJECTION, watcher)
    return outputs, all_bytes(model, "gradient"), all_bytes(model), watcher


# -- recording changes nothing ------------------------------------------------------------------------------------
def test_a_native_layer_is_the_models_own_object(kit: Any) -> None:
    model = hosted(kit, "mlp")
    routes = [layer.route for layer in model.describe().layers]
    assert model.native_layer("") is model.model
    assert type(model.native_layer(routes[-1])).__name__ == model.describe().layers[-1].class_name
    with pytest.raises(PadiffError, match="has no layer 'nowhere'") as raised:
        model.native_layer("nowhere")
    assert raised.value.reason is Reason.UNKNOWN_NAME


def test_recording_leaves_outputs_gradients_and_buffers_bit_identical(kit: Any, model_name: str) -> None:
    plain = run_step(kit, model_name, None)
    recorded = run_step(kit, model_name, RecordOptions())
    assert plain[:3] == recorded[:3]
    assert recorded[3].boundaries


def test_a_synced_run_given_its_own_values_changes_nothing(kit: Any, model_name: str) -> None:
    plain = run_step(kit, model_name, None)
    synced = run_step(kit, model_name, SYNC, echo)
    assert plain[:3] == synced[:3]


def test_synced_and_plain_recording_record_the_same(kit: Any, model_name: str) -> None:
    recorded = run_step(kit, model_name, RecordOptions())[3]
    synced = run_step(kit, model_name, SYNC, echo)[3]
    assert {key: bytes(value.data) for key, value in recorded.values.items()} == {
        key: bytes(value.data) for key, value in synced.values.items()
    }


# -- what is recorded ------------------------------------------------------------------------------------------------
def test_boundaries_come_in_execution_order_with_their_callers(kit: Any) -> None:
    watcher = run_step(kit, "mlp", RecordOptions())[3]
    assert watcher.trail("forward") == [
        ("", 0, "input", ("x",)),
        ("fc1", 0, "input", ("0",)),
        ("fc1", 0, "output", ("0",)),
        ("act", 0, "input", ("0",)),
        ("act", 0, "output", ("0",)),
        ("fc2", 0, "input", ("0",)),
        ("fc2", 0, "output", ("0",)),
        ("", 0, "output", ("0",)),
    ]
    # The root's output is the child's: the same tensor, whose gradient the parent sees first. x wants no gradient.
    assert watcher.trail("backward") == [
        ("", 0, "output", ("0",)),
        ("fc2", 0, "output", ("0",)),
        ("fc2", 0, "input", ("0",)),
        ("act", 0, "output", ("0",)),
        ("act", 0, "input", ("0",)),
        ("fc1", 0, "output", ("0",)),
    ]
    for phase in ("forward", "backward"):
        seqs = [each.seq for each in watcher.boundaries if each.phase == phase]
        assert seqs == list(range(len(seqs)))
    assert {each.caller for each in watcher.boundaries if each.route} == {("", 0)}
    assert {each.caller for each in watcher.boundaries if not each.route} == {None}


def test_records_hold_the_values_and_digests_of_the_boundary(kit: Any) -> None:
    model = hosted(kit, "mlp")
    watcher = Watcher(model)
    result = model.forward(request_of("mlp"), watcher)
    weights = {name: tensor.to_array() for name, tensor in collect_all(model.read_parameters(names_of(model))).items()}
    weight = weights["fc1.weight"] if weights["fc1.weight"].shape == (8, 4) else weights["fc1.weight"].T
    expected = inputs_of("mlp")["x"].to_array() @ weight.T + weights["fc1.bias"]
    np.testing.assert_allclose(watcher.array("forward", "fc1", "output"), expected, rtol=1e-5)
    np.testing.assert_allclose(watcher.array("forward", "act", "output"), np.tanh(expected), rtol=1e-5)
    for key, record in watcher.records.items():
        value = watcher.values[key]
        assert record.spec == value.spec
        assert record.digest == digest(np.frombuffer(value.data, np.uint8), value.spec)
    assert result.outputs == (watcher.records[("forward", "", 0, "output", "0")],)
    assert result.wall_s > 0


def test_calls_of_one_layer_are_numbered_and_come_back_in_reverse(kit: Any) -> None:
    watcher = run_step(kit, "shared", RecordOptions())[3]
    outputs = [call for route, call, side, _ in watcher.trail("forward") if route == "fc" and side == "output"]
    gradients = [call for route, call, side, _ in watcher.trail("backward") if route == "fc" and side == "output"]
    assert outputs == [0, 1, 2]
    assert gradients == [2, 1, 0]
    first = watcher.array("forward", "fc", "output", call=0)
    assert first.tobytes() == watcher.array("forward", "fc", "input", call=1).tobytes()


def test_counts_of_calls_start_anew_in_each_step(kit: Any) -> None:
    model = hosted(kit, "shared")
    for _ in range(2):
        watcher = Watcher(model)
        model.forward(request_of("shared"), watcher)
        assert {call for route, call, _, _ in watcher.trail("forward") if route == "fc"} == {0, 1, 2}


def test_tensors_passed_by_keyword_are_recorded_by_keyword(kit: Any) -> None:
    watcher = run_step(kit, "keyword", RecordOptions())[3]
    assert ("scale", 0, "input", ("hidden",)) in watcher.trail("forward")
    assert watcher.array("forward", "scale", "input", "hidden").tobytes() == bytes(inputs_of("keyword")["x"].data)


def test_nested_outputs_have_stable_names(kit: Any) -> None:
    watcher = run_step(kit, "nested", RecordOptions())[3]
    assert ("pack", 0, "output", ("first", "rest.0", "rest.1.0")) in watcher.trail("forward")
    assert ("", 0, "output", ("logits", "past.0", "past.1.0", "count")) in watcher.trail("forward")
    assert watcher.array("forward", "", "output", "count").tolist() == [3, 4]
    arrived = {(route, side, names) for route, _, side, names in watcher.trail("backward")}
    assert arrived == {
        ("", "output", ("logits",)),
        ("", "output", ("past.0",)),
        ("", "output", ("past.1.0",)),
        ("pack", "output", ("first",)),
        ("pack", "output", ("rest.0",)),
        ("pack", "output", ("rest.1.0",)),
        ("pack", "input", ("0",)),
        ("fc", "output", ("0",)),
    }


def test_an_operation_in_place_does_not_change_what_was_recorded_before(kit: Any) -> None:
    watcher = run_step(kit, "inplace", RecordOptions())[3]
    before = watcher.array("forward", "fc", "output")
    tripled = watcher.array("forward", "triple", "output")
    assert watcher.array("forward", "triple", "input").tobytes() == before.tobytes()
    np.testing.assert_array_equal(tripled, before * 3)
    np.testing.assert_array_equal(watcher.array("forward", "relu", "input"), tripled)
    np.testing.assert_array_equal(watcher.array("forward", "relu", "output"), np.maximum(tripled, 0))
    assert (watcher.array("forward", "relu", "output") != tripled).any()


def test_gradients_around_operations_in_place_are_those_of_the_value_at_the_boundary(kit: Any) -> None:
    watcher = run_step(kit, "inplace", RecordOptions())[3]
    relu_out = watcher.array("backward", "relu", "output")
    relu_in = relu_out * (watcher.array("forward", "relu", "output") > 0)
    np.testing.assert_array_equal(watcher.array("backward", "out", "input"), relu_out)
    np.testing.assert_array_equal(watcher.array("backward", "relu", "input"), relu_in)
    np.testing.assert_array_equal(watcher.array("backward", "triple", "output"), relu_in)
    np.testing.assert_allclose(watcher.array("backward", "triple", "input"), relu_in * 3, rtol=1e-6)
    np.testing.assert_allclose(watcher.array("backward", "fc", "output"), relu_in * 3, rtol=1e-6)


def test_an_inputs_gradient_is_the_layers_own_and_an_outputs_the_whole(kit: Any) -> None:
    watcher = run_step(kit, "residual", RecordOptions())[3]
    whole = watcher.array("backward", "", "output")
    own = watcher.array("backward", "fc", "input")
    np.testing.assert_array_equal(watcher.array("backward", "fc", "output"), whole)
    np.testing.assert_allclose(watcher.array("backward", "inner", "output"), whole + own, rtol=1e-5, atol=1e-7)
    assert np.abs(own).max() > 0


def test_a_layer_that_returns_its_input_sees_its_outputs_gradient_first(kit: Any) -> None:
    model = hosted(kit, "mlp")
    model.model.act.forward = lambda x: x
    watcher = Watcher(model)
    model.forward(request_of("mlp"), watcher)
    model.backward(PROJECTION, watcher)
    assert [(route, side) for route, _, side, _ in watcher.trail("backward")] == [
        ("", "output"),
        ("fc2", "output"),
        ("fc2", "input"),
        ("act", "output"),
        ("act", "input"),
        ("fc1", "output"),
    ]


@pytest.mark.parametrize("nothing", [None, "text", ()])
def test_a_layer_without_tensors_has_empty_boundaries(kit: Any, nothing: Any) -> None:
    model = hosted(kit, "mlp")
    layer = model.model.act
    layer.forward = lambda *args: nothing
    body = model.model.forward

    def forward(x: Any) -> Any:
        assert layer() == nothing
        del layer.forward
        return body(x)

    model.model.forward = forward
    watcher = Watcher(model)
    model.forward(request_of("mlp"), watcher)
    assert watcher.trail("forward")[1:3] == [("act", 0, "input", ()), ("act", 0, "output", ())]


def test_only_the_routes_asked_for_are_recorded(kit: Any) -> None:
    watcher = run_step(kit, "mlp", RecordOptions(routes=("act",), inputs=False))[3]
    assert watcher.trail("forward") == [("act", 0, "output", ("0",))]
    assert watcher.trail("backward") == [("act", 0, "output", ("0",))]
    assert watcher.boundaries[0].caller is None


def test_an_unknown_route_names_the_nearest(kit: Any) -> None:
    model = hosted(kit, "mlp")
    with pytest.raises(PadiffError, match="fc9") as raised:
        model.forward(request_of("mlp", RecordOptions(routes=("fc9",))))
    assert raised.value.reason is Reason.UNKNOWN_NAME
    assert "'fc" in raised.value.hint


def test_gradients_are_not_watched_unless_asked_for(kit: Any) -> None:
    watcher = run_step(kit, "mlp", RecordOptions(gradients=False))[3]
    assert watcher.trail("backward") == []


def test_gradients_that_never_arrive_are_named(kit: Any) -> None:
    backend = kit.backend
    model = hosted(kit, "nested", losses={"logits_only": lambda out: backend.loss(SUM, [out["logits"]])})
    watcher = Watcher(model)
    model.forward(request_of("nested"), watcher)
    result = model.backward(LossSpec("logits_only"), watcher)
    assert set(result.without_gradient) == {
        ("", 0, "output", "past.0"),
        ("", 0, "output", "past.1.0"),
        ("pack", 0, "output", "rest.0"),
        ("pack", 0, "output", "rest.1.0"),
    }


def test_mutated_containers_reach_the_caller(kit: Any) -> None:
    model = hosted(kit, "mlp")
    layer, body = model.model.act, model.model.forward
    original = layer.forward
    held: dict[str, Any] = {}

    def append(cache: list[Any]) -> Any:
        cache.append(original(cache[0]))
        return cache[0]

    def forward(x: Any) -> Any:
        h = model.model.fc1(x)
        cache = [h]
        layer.forward = append
        layer(cache)
        layer.forward = original
        held.update(h=h, cache=cache)
        return body(x)

    model.model.forward = forward
    model.forward(request_of("mlp"), Watcher(model))
    assert len(held["cache"]) == 2
    assert held["cache"][0] is held["h"]


@pytest.mark.parametrize("record", [RecordOptions(), SYNC])
def test_one_tensor_given_twice_stays_one_and_has_one_gradient(kit: Any, record: RecordOptions) -> None:
    model = hosted(kit, "mlp")
    fc1, act, fc2 = model.model.fc1, model.model.act, model.model.fc2
    same: list[bool] = []
    original = act.forward

    def twice(a: Any, b: Any, c: Any = None) -> Any:
        same.append(a is b and b is c)
        return original(a) + b

    act.forward = twice

    def forward(x: Any) -> Any:
        h = fc1(x)
        return fc2(act(h, h, c=h))

    model.model.forward = forward
    watcher = Watcher(model, echo)
    model.forward(request_of("mlp", record), watcher)
    model.backward(PROJECTION, watcher)
    assert same == [True]
    assert ("act", 0, "input", ("0", "1", "c")) in watcher.trail("forward")
    assert [trail for trail in watcher.trail("backward") if trail[:3] == ("act", 0, "input")] == [
        ("act", 0, "input", ("0",))
    ]
    arrived = watcher.array("backward", "act", "output")
    expected = arrived * (2 - np.tanh(watcher.array("forward", "fc1", "output")) ** 2)
    np.testing.assert_allclose(watcher.array("backward", "act", "input"), expected, rtol=1e-4, atol=1e-6)


# -- synced runs --------------------------------------------------------------------------------------------------------
def test_a_substituted_output_is_what_the_model_goes_on_with(kit: Any) -> None:
    chosen = np.linspace(-1, 1, 40, dtype=np.float32).reshape(5, 8)

    def answer(boundary: Boundary, values: dict[str, Tensor]) -> Mapping[str, Tensor]:
        hit = (boundary.phase, boundary.route, boundary.side) == ("forward", "fc1", "output")
        return {"0": Tensor.from_array(chosen)} if hit else {}

    _, gradients, _, watcher = run_step(kit, "mlp", SYNC, answer)
    np.testing.assert_array_equal(watcher.array("forward", "act", "input"), chosen)
    np.testing.assert_allclose(watcher.array("forward", "act", "output"), np.tanh(chosen), rtol=1e-5)
    assert (watcher.array("forward", "fc1", "output") != chosen).any()
    # The gradient passes through the replacement to fc1's own parameters.
    arrived = watcher.array("backward", "fc1", "output")
    np.testing.assert_allclose(np.frombuffer(gradients["fc1.bias"], np.float32), arrived.sum(0), rtol=1e-5, atol=1e-6)
    expected = watcher.array("backward", "act", "output") * (1 - np.tanh(chosen) ** 2)
    np.testing.assert_allclose(watcher.array("backward", "act", "input"), expected, rtol=1e-4, atol=1e-7)


def test_a_substituted_input_is_what_the_layer_computes_with(kit: Any) -> None:
    chosen = np.linspace(-2, 2, 20, dtype=np.float32).reshape(5, 4)

    def answer(boundary: Boundary, values: dict[str, Tensor]) -> Mapping[str, Tensor]:
        hit = (boundary.phase, boundary.route, boundary.side) == ("forward", "triple", "input")
        return {"0": Tensor.from_array(chosen)} if hit else {}

    watcher = run_step(kit, "inplace", SYNC, answer)[3]
    # triple changes its input in place and its caller goes on with that input, not with what triple returned.
    np.testing.assert_array_equal(watcher.array("forward", "triple", "output"), chosen * 3)
    np.testing.assert_array_equal(watcher.array("forward", "relu", "input"), chosen * 3)
    arrived = watcher.array("backward", "relu", "input")
    np.testing.assert_allclose(watcher.array("backward", "triple", "input"), arrived * 3, rtol=1e-6)
    np.testing.assert_allclose(watcher.array("backward", "fc", "output"), arrived * 3, rtol=1e-6)


def test_a_substituted_output_of_a_layer_in_place_reaches_its_callers_tensor(kit: Any) -> None:
    chosen = np.linspace(-2, 2, 20, dtype=np.float32).reshape(5, 4)

    def answer(boundary: Boundary, values: dict[str, Tensor]) -> Mapping[str, Tensor]:
        if (boundary.phase, boundary.route) == ("forward", "triple"):
            return values if boundary.side == "input" else {"0": Tensor.from_array(chosen)}
        return {}

    watcher = run_step(kit, "inplace", SYNC, answer)[3]
    np.testing.assert_array_equal(watcher.array("forward", "relu", "input"), chosen)


@pytest.mark.parametrize("side", ["input", "output"])
def test_a_substituted_gradient_is_what_backward_goes_on_with(kit: Any, side: str) -> None:
    chosen = np.linspace(-3, 3, 40, dtype=np.float32).reshape(5, 8)

    def answer(boundary: Boundary, values: dict[str, Tensor]) -> Mapping[str, Tensor]:
        hit = (boundary.phase, boundary.route, boundary.side) == ("backward", "act", side)
        return {"0": Tensor.from_array(chosen)} if hit else {}

    _, gradients, _, watcher = run_step(kit, "mlp", SYNC, answer)
    value = watcher.array("forward", "act", "output")
    expected = chosen if side == "input" else chosen * (1 - value**2)
    np.testing.assert_allclose(watcher.array("backward", "fc1", "output"), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.frombuffer(gradients["fc1.bias"], np.float32), expected.sum(0), rtol=1e-4, atol=1e-5)


def test_the_parents_substituted_gradient_is_what_the_child_receives(kit: Any) -> None:
    """Root and fc2 return one tensor; without forward substitutes both gradients hang on that one object."""
    chosen = np.linspace(-3, 3, 15, dtype=np.float32).reshape(5, 3)

    def answer(boundary: Boundary, values: dict[str, Tensor]) -> Mapping[str, Tensor]:
        hit = (boundary.phase, boundary.route, boundary.side) == ("backward", "", "output")
        return {"0": Tensor.from_array(chosen)} if hit else {}

    watcher = run_step(kit, "mlp", SYNC, answer)[3]
    np.testing.assert_array_equal(watcher.array("backward", "fc2", "output"), chosen)
    assert (watcher.array("backward", "", "output") != chosen).any()


def test_forward_substitutes_keep_the_order_of_parent_and_child(kit: Any) -> None:
    plain = run_step(kit, "mlp", RecordOptions())[3]
    synced = run_step(kit, "mlp", SYNC, echo)[3]
    assert plain.trail("backward") == synced.trail("backward")


@pytest.mark.parametrize(
    ("name", "shape", "reason"), [("0", (5, 7), Reason.BAD_TENSOR), ("zero", (5, 8), Reason.UNKNOWN_NAME)]
)
def test_an_impossible_substitute_is_refused_by_layer(kit: Any, name: str, shape: Any, reason: Reason) -> None:
    model = hosted(kit, "mlp")

    def answer(boundary: Boundary, values: dict[str, Tensor]) -> Mapping[str, Tensor]:
        return {name: Tensor.from_array(np.zeros(shape, np.float32))} if boundary.route == "act" else {}

    with pytest.raises(PadiffError, match="'act'") as raised:
        model.forward(request_of("mlp", SYNC), Watcher(model, answer))
    assert raised.value.reason is reason


def test_a_synced_run_without_observer_is_refused(kit: Any) -> None:
    with pytest.raises(PadiffError) as raised:
        hosted(kit, "mlp").forward(request_of("mlp", SYNC))
    assert raised.value.reason is Reason.BAD_CONFIG


# -- failures --------------------------------------------------------------------------------------------------------
def test_a_raising_layer_is_named_and_leaves_no_hooks(kit: Any) -> None:
    model = hosted(kit, "mlp")
    layer = model.model.act

    def broken(x: Any) -> Any:
        raise ValueError("planted fault")

    layer.forward = broken
    watcher = Watcher(model)
    with pytest.raises(PadiffError, match="planted fault") as raised:
        model.forward(request_of("mlp"), watcher)
    assert raised.value.reason is Reason.MODEL_FAILED
    assert raised.value.metadata["layer"] in ("act", "")  # the planted function has no self
    assert Path(__file__).name in raised.value.message
    assert "raise ValueError" in raised.value.metadata["traceback"]
    assert "recorder.py" not in raised.value.metadata["traceback"]
    heard = len(watcher.boundaries)
    del layer.forward
    kit.backend.forward(model.model, kit.inputs("mlp", model.model), True)
    assert len(watcher.boundaries) == heard
    with pytest.raises(PadiffError) as raised:
        model.backward(SUM)
    assert raised.value.reason is Reason.OUT_OF_ORDER
    again = Watcher(model)
    model.forward(request_of("mlp"), again)
    assert again.trail("forward") == run_step(kit, "mlp", RecordOptions())[3].trail("forward")


def test_a_wrong_shape_names_the_layer_that_met_it(kit: Any) -> None:
    model = hosted(kit, "mlp")
    wrong = Tensor.from_array(np.zeros((5, 7), np.float32))
    for record in (RecordOptions(), None):
        with pytest.raises(PadiffError) as raised:
            model.forward(ForwardRequest({"x": wrong}, record=record))
        assert raised.value.reason is Reason.MODEL_FAILED
        assert raised.value.metadata["layer"] == "fc1"
        assert "fc1" in raised.value.message


def test_hooks_are_gone_after_each_phase(kit: Any) -> None:
    model = hosted(kit, "mlp")
    watcher = Watcher(model)
    model.forward(request_of("mlp"), watcher)
    forward_count = len(watcher.boundaries)
    kit.backend.forward(model.model, kit.inputs("mlp", model.model), True)
    assert len(watcher.boundaries) == forward_count
    model.backward(SUM, watcher)
    count = len(watcher.boundaries)
    outputs = kit.backend.forward(model.model, kit.inputs("mlp", model.model), True)
    kit.backend.backward(kit.backend.loss(SUM, [outputs]))
    assert len(watcher.boundaries) == count


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_an_observers_own_exception_comes_out_as_it_is(kit: Any, phase: str) -> None:
    class Angry(Watcher):
        def observe(self, boundary: Boundary) -> None:
            super().observe(boundary)
            if boundary.phase == phase and boundary.route == "act":
                raise PadiffError("gone", reason=Reason.SESSION_EXPIRED)

    model = hosted(kit, "mlp")
    watcher = Angry(model)

    def step() -> None:
        model.forward(request_of("mlp"), watcher)
        model.backward(SUM, watcher)

    with pytest.raises(PadiffError, match="gone") as raised:
        step()
    assert raised.value.reason is Reason.SESSION_EXPIRED
    assert watcher.boundaries[-1].route == "act"  # nothing was sent after it
    model.forward(request_of("mlp"), Watcher(model))


def test_a_failure_that_the_model_swallows_comes_out_all_the_same(kit: Any) -> None:
    class Angry(Watcher):
        def observe(self, boundary: Boundary) -> None:
            super().observe(boundary)
            if boundary.route == "act":
                raise PadiffError("gone", reason=Reason.SESSION_EXPIRED)

    model = hosted(kit, "mlp")
    layers = model.model

    def forward(x: Any) -> Any:
        h = layers.fc1(x)
        for layer in (layers.act, layers.fc2):
            try:
                h = layer(h)
            except Exception:  # noqa: BLE001  a model that carries on whatever happens
                continue
        return h

    layers.forward = forward
    watcher = Angry(model)
    with pytest.raises(PadiffError, match="gone"):
        model.forward(request_of("mlp"), watcher)
    assert watcher.boundaries[-1].route == "act"


def test_no_hook_stays_on_a_parameter_that_a_layer_returned(kit: Any) -> None:
    model = hosted(kit, "mlp")
    fc1, act, fc2 = model.model.fc1, model.model.act, model.model.fc2
    act.forward = lambda: fc1.bias
    model.model.forward = lambda x: fc2(fc1(x) + act())
    watcher = Watcher(model)
    model.forward(request_of("mlp"), watcher)
    model.backward(SUM, watcher)
    assert ("act", 0, "output", ("0",)) in watcher.trail("backward")
    count = len(watcher.boundaries)
    outputs = kit.backend.forward(model.model, kit.inputs("mlp", model.model), True)
    kit.backend.backward(kit.backend.loss(SUM, [outputs]))
    assert len(watcher.boundaries) == count


@pytest.mark.parametrize("inputs", [{"y": None}, {}, {"x": None, "extra": 1}])
def test_inputs_that_forward_does_not_take_name_its_parameters(kit: Any, inputs: dict[str, Any]) -> None:
    with pytest.raises(PadiffError) as raised:
        hosted(kit, "mlp").forward(ForwardRequest(inputs))
    assert raised.value.reason is Reason.BAD_INPUTS
    assert "forward(x)" in raised.value.hint


def test_an_input_of_a_foreign_type_is_refused(kit: Any) -> None:
    with pytest.raises(PadiffError, match=r"'x\.1'") as raised:
        hosted(kit, "mlp").forward(ForwardRequest({"x": [1, object()]}))
    assert raised.value.reason is Reason.BAD_INPUTS


# -- the store ----------------------------------------------------------------------------------------------------------
def test_records_beyond_the_memory_budget_are_spilled_and_read_back(kit: Any) -> None:
    expected = run_step(kit, "mlp", RecordOptions())[3]
    model = hosted(kit, "mlp", store_memory_bytes=100, store_disk_bytes=1 << 20)
    watcher = Watcher(model)
    model.forward(request_of("mlp"), watcher)
    model.backward(PROJECTION, watcher)
    figures = model.store_figures()
    assert figures.spilled_bytes > 0
    assert figures.peak_memory_bytes <= 100
    assert {key: bytes(value.data) for key, value in watcher.values.items()} == {
        key: bytes(value.data) for key, value in expected.values.items()
    }


def test_a_full_store_is_an_error_that_names_the_options(kit: Any) -> None:
    model = hosted(kit, "mlp", store_memory_bytes=100, store_disk_bytes=200)
    with pytest.raises(PadiffError, match="100 bytes of memory") as raised:
        model.forward(request_of("mlp"), Watcher(model))
    assert raised.value.reason is Reason.STORE_FULL
    assert "--store-memory" in raised.value.hint
    assert "--store-disk" in raised.value.hint
    model.forward(request_of("mlp", None))


def test_the_next_forward_drops_the_records(kit: Any) -> None:
    model = hosted(kit, "mlp")
    watcher = Watcher(model)
    old = model.forward(request_of("mlp"), watcher).outputs[0].id
    model.forward(request_of("mlp", None))
    with pytest.raises(PadiffError) as raised:
        next(model.read_records([old]))
    assert raised.value.reason is Reason.UNKNOWN_NAME
    assert model.store_figures().memory_bytes == 0


def test_released_records_are_gone_and_releasing_twice_is_fine(kit: Any) -> None:
    model = hosted(kit, "mlp")
    output = model.forward(request_of("mlp")).outputs[0].id
    model.release_records([output])
    model.release_records([output])
    with pytest.raises(PadiffError, match=str(output)):
        next(model.read_records([output]))


# -- parameters -----------------------------------------------------------------------------------------------------------
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


# -- steps ----------------------------------------------------------------------------------------------------------------
def test_backward_needs_a_forward_of_its_own_with_gradients(kit: Any) -> None:
    model = hosted(kit, "mlp")
    with pytest.raises(PadiffError) as raised:
        model.backward(SUM)
    assert raised.value.reason is Reason.OUT_OF_ORDER
    model.forward(request_of("mlp", gradients=False))
    with pytest.raises(PadiffError, match="without gradients"):
        model.backward(SUM)
    model.forward(request_of("mlp"))
    model.backward(SUM)
    with pytest.raises(PadiffError) as raised:
        model.backward(SUM)
    assert raised.value.reason is Reason.OUT_OF_ORDER


def test_a_forward_without_gradients_records_the_same_forward(kit: Any) -> None:
    model = hosted(kit, "inplace")
    watcher = Watcher(model)
    model.forward(request_of("inplace", gradients=False), watcher)
    with_gradients = run_step(kit, "inplace", RecordOptions())[3]
    assert watcher.trail("forward") == with_gradients.trail("forward")


def test_gradients_are_cleared_before_each_backward(kit: Any) -> None:
    model = hosted(kit, "mlp")
    found = []
    for _ in range(2):
        model.forward(request_of("mlp"))
        model.backward(PROJECTION)
        found.append(all_bytes(model, "gradient"))
    assert found[0] == found[1]


def test_an_unknown_loss_leaves_the_forward_usable(kit: Any) -> None:
    model = hosted(kit, "mlp")
    model.forward(request_of("mlp"))
    with pytest.raises(PadiffError) as raised:
        model.backward(LossSpec("projektion"))
    assert raised.value.reason is Reason.UNKNOWN_NAME
    assert "'projection'" in raised.value.hint
    assert np.isfinite(model.backward(PROJECTION).loss)


def test_the_same_optimizer_spec_continues_its_state(kit: Any) -> None:
    """With momentum 1 the second of two equal steps moves twice as far; a fresh optimiser would move as far again."""
    spec = OptimizerSpec("SGD", {"lr": 0.125, "momentum": 1.0, "weight_decay": 0.0})
    model = hosted(kit, "extras")  # linear in scale, so that its gradient stays the same
    values = []
    for _ in range(3):
        values.append(collect_all(model.read_parameters(["scale"]))["scale"].to_array().copy())
        model.forward(request_of("extras"))
        model.backward(SUM)
        model.optimizer_step(OptimizerSpec(spec.name, dict(spec.options)))
    np.testing.assert_allclose(values[2] - values[1], 2 * (values[1] - values[0]), rtol=1e-3, atol=1e-6)
    assert (values[1] != values[0]).any()


def test_offered_losses_and_optimizers_are_called_and_their_errors_named(kit: Any) -> None:
    steps: list[Any] = []

    class Mine:
        def __init__(self, model: Any) -> None:
            steps.append(model)

        def step(self) -> None:
            if len(steps) == 2:
                raise RuntimeError("planted step")
            steps.append("step")

    def broken(outputs: Any) -> Any:
        raise RuntimeError("planted loss")

    model = hosted(kit, "mlp", losses={"broken": broken, "odd": lambda out: out}, optimizers={"mine": Mine})
    assert model.info().losses == ("broken", "odd")
    model.forward(request_of("mlp"))
    with pytest.raises(PadiffError, match="planted loss") as raised:
        model.backward(LossSpec("broken"))
    assert raised.value.reason is Reason.MODEL_FAILED
    with pytest.raises(PadiffError, match="not a scalar") as raised:
        model.backward(LossSpec("odd"))
    assert raised.value.reason is Reason.BAD_CONFIG
    model.optimizer_step(OptimizerSpec("mine"))
    assert steps == [model.model, "step"]
    with pytest.raises(PadiffError, match="planted step") as raised:
        model.optimizer_step(OptimizerSpec("mine"))
    assert raised.value.reason is Reason.MODEL_FAILED
    with pytest.raises(PadiffError) as raised:
        model.optimizer_step(OptimizerSpec("Adamm", {}))
    assert raised.value.reason is Reason.UNKNOWN_NAME


def test_offering_a_neutral_name_is_refused(kit: Any) -> None:
    with pytest.raises(PadiffError, match="'mean'") as raised:
        hosted(kit, "mlp", losses={"mean": len})
    assert raised.value.reason is Reason.BAD_CONFIG


def test_the_mode_is_set_only_when_asked(kit: Any) -> None:
    model = hosted(kit, "dropout")
    model.forward(request_of("dropout", training=False))
    assert not any(layer.training for layer in model.describe().layers)
    model.forward(request_of("dropout"))
    assert not any(layer.training for layer in model.describe().layers)
    model.forward(request_of("dropout", training=True))
    assert all(layer.training for layer in model.describe().layers)


def test_the_seed_fixes_what_is_random(kit: Any) -> None:
    first = run_step(kit, "dropout", RecordOptions())[0]
    assert first == run_step(kit, "dropout", RecordOptions())[0]


def test_info_names_framework_and_budgets(kit: Any) -> None:
    info = hosted(kit, "mlp", store_memory_bytes=7, store_disk_bytes=9).info()
    assert info.framework == kit.backend.name
    assert info.framework_version == kit.backend.version()
    assert (info.store_memory_bytes, info.store_disk_bytes) == (7, 9)
    assert "numpy" in info.packages
    assert info.padiff_version


def test_closing_twice_drops_everything(kit: Any) -> None:
    model = hosted(kit, "mlp")
    model.forward(request_of("mlp"))
    model.close()
    model.close()
    assert model.store_figures().memory_bytes == 0
    with pytest.raises(PadiffError) as raised:
        model.backward(SUM)
    assert raised.value.reason is Reason.OUT_OF_ORDER


def test_the_backend_is_found_from_the_model(kit: Any) -> None:
    assert HostedModel(kit.build("mlp")).backend.name == kit.backend.name
