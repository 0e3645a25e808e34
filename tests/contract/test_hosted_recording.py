"""HostedModel over every backend: what is recorded, and that recording changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import LossSpec, RecordOptions
from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.tensor import collect_all
from tests.contract.steps import (
    PROJECTION,
    SUM,
    SYNC,
    hosted,
    inputs_of,
    names_of,
    request_of,
    run_step,
)
from tests.contract.watcher import Watcher, echo


# -- recording changes nothing ------------------------------------------------------------------------------------
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
