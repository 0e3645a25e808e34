"""HostedModel over every backend: one layer runs alone, on given tensors and in a given dtype, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import ForwardRequest, RecordOptions
from padiff_rpc.model.replaying import Replaying, ReplayRequest, ReplayResult
from padiff_rpc.tensors.tensor import DType, Tensor, collect_all
from tests.contract.steps import PROJECTION, SUM, all_bytes, hosted, inputs_of, names_of, request_of
from tests.contract.watcher import Watcher

LAST = {"mlp": "fc2", "embedding": "fc", "residual": "fc", "norm": "bn", "inplace": "relu", "tied": "b"}
"""A layer in each of these models that others run before."""


def asked(name: str, route: str = "", **options: Any) -> ReplayRequest:
    return ReplayRequest(request_of(name, gradients=False), route, **options)


def values(model: HostedModel, records: Any) -> dict[str, np.ndarray]:
    found = collect_all(model.read_activations([record.id for record in records]))
    return {record.name: found[str(record.id)].to_array() for record in records}


def side(model: HostedModel, result: ReplayResult, phase: Any, which: Any) -> dict[str, np.ndarray]:
    return values(model, result.at(phase, which).records)


def state(model: HostedModel) -> tuple[Any, ...]:
    """All that a replay must leave alone."""
    modes = [layer.training for layer in model.describe().layers]
    held = [dict(vars(model.native_layer(layer.route))) for layer in model.describe().layers]
    return all_bytes(model), all_bytes(model, "gradient"), model.memory(), modes, [list(each) for each in held]


def test_a_hosted_model_can_replay(kit: Any) -> None:
    assert isinstance(hosted(kit, "mlp"), Replaying)


def test_every_call_alone_takes_and_gives_what_the_step_did(kit: Any, model_name: str) -> None:
    model = hosted(kit, model_name)
    watcher = Watcher(model)
    model.forward(request_of(model_name, RecordOptions(), gradients=False), watcher)
    for boundary in watcher.boundaries:
        result = hosted(kit, model_name).replay(asked(model_name, boundary.route, call=boundary.call))
        replayed = result.at("forward", boundary.side)
        assert [(record.name, record.spec) for record in boundary.records] == [
            (record.name, record.spec) for record in replayed.records
        ]
        if model_name not in (
            "norm",
            "inplace",
        ):  # statistics move on, and arguments are changed after they were recorded
            assert [record.digest.hash for record in boundary.records] == [
                record.digest.hash for record in replayed.records
            ]


def test_a_replay_leaves_no_trace_in_the_middle_of_an_alignment(kit: Any, model_name: str) -> None:
    model = hosted(kit, model_name)
    watcher = Watcher(model)
    model.forward(request_of(model_name, RecordOptions()), watcher)
    if model_name != "dropout":
        model.backward(PROJECTION)
    before, records = state(model), [record.id for record in watcher.records.values()]
    kit.backend.seed(11)
    draw = np.random.rand()
    kit.backend.seed(11)
    for dtype in ("float64", "float32", None):
        for route in ("", LAST.get(model_name, "")):
            model.replay(asked(model_name, route, dtype=dtype, seed=2))
            assert before == state(model)
    assert draw == np.random.rand()
    assert len(records) == len(list(model.read_activations(records)))  # the step's records are still there


def test_the_next_step_is_the_same_with_and_without_a_replay(kit: Any, model_name: str) -> None:
    def step(replays: bool) -> tuple[Any, ...]:
        model = hosted(kit, model_name)
        if replays:
            model.replay(asked(model_name, LAST.get(model_name, ""), dtype="float64"))
        result = model.forward(request_of(model_name))
        outputs = [record.digest.hash for record in result.outputs]
        if model_name != "dropout":
            model.backward(PROJECTION)
        return outputs, all_bytes(model), all_bytes(model, "gradient")

    assert step(replays=False) == step(replays=True)


def test_in_float64_a_replay_is_that_of_a_model_cast_to_float64(kit: Any, model_name: str) -> None:
    if model_name == "dropout":
        return  # its mask is drawn in another way in float64
    double = HostedModel(kit.backend.prepare(kit.build(model_name), None, "float64"), kit.backend)
    watcher = Watcher(double)
    inputs = {
        name: Tensor.from_array(tensor.to_array().astype(np.float64)) if tensor.spec.dtype.is_floating else tensor
        for name, tensor in inputs_of(model_name).items()
    }
    double.forward(ForwardRequest(inputs, seed=3), watcher)
    double.backward(PROJECTION, watcher)
    model = hosted(kit, model_name)
    result = model.replay(asked(model_name, dtype="float64"))
    outputs = side(model, result, "forward", "output")
    assert outputs
    for name, array in outputs.items():
        np.testing.assert_array_equal(watcher.array("forward", "", "output", name), array)
        assert array.dtype in (np.float64, np.int64)
    gradients = collect_all(double.read_parameters(names_of(double), "gradient"))
    found = values(model, result.parameters)
    assert set(gradients) == set(found)
    for name, array in found.items():
        np.testing.assert_array_equal(gradients[name].to_array(), array)


def test_given_tensors_take_the_places_of_those_that_reach_the_layer(kit: Any) -> None:
    model = hosted(kit, "shared")
    given = np.linspace(-1, 1, 12).reshape(3, 4)
    rows = {"0": Tensor.from_array(np.repeat(given, 2, 0)[:5])}
    result = model.replay(asked("shared", "fc", call=1, dtype="float64", inputs=rows))
    np.testing.assert_array_equal(rows["0"].to_array(), side(model, result, "forward", "input")["0"])
    own = model.replay(asked("shared", "fc", call=1, inputs=rows))
    assert DType.F32 == own.at("forward", "input").records[0].spec.dtype
    np.testing.assert_allclose(
        side(model, own, "forward", "output")["0"], side(model, result, "forward", "output")["0"], rtol=1e-5
    )


def test_given_values_take_the_places_of_parameters_meanwhile(kit: Any) -> None:
    model = hosted(kit, "tied")
    before = state(model)
    values = np.linspace(-1, 1, 16).reshape(4, 4) / 3
    given = {"b.weight": Tensor.from_array(values), "a.bias": Tensor.from_array(np.zeros(4))}
    result = model.replay(asked("tied", dtype="float64", parameters=given))
    x = inputs_of("tied")["x"].to_array().astype(np.float64)
    bias = collect_all(model.read_parameters(["b.bias"]))["b.bias"].to_array()
    weight = values if kit.backend.name == "paddle" else values.T
    expected = (x @ weight) @ weight + bias
    np.testing.assert_allclose(expected, side(model, result, "forward", "output")["0"], rtol=1e-12)
    assert before == state(model)


def test_the_gradients_of_a_call_are_those_of_its_projection(kit: Any) -> None:
    """Against differences of the forward in float64: the projection is linear in the outputs."""
    model = hosted(kit, "mlp")
    x = 0.3 * np.cos(np.arange(8.0)).reshape(1, 8)

    def projected(array: np.ndarray) -> float:
        from padiff_rpc.model.losses_and_optimizers import projection_weights

        inputs = {"0": Tensor.from_array(np.repeat(array, 5, 0))}
        result = model.replay(asked("mlp", "act", dtype="float64", inputs=inputs, seed=4))
        output = side(model, result, "forward", "output")["0"].reshape(-1)
        return float(output @ projection_weights(0, output.size, 4) / np.sqrt(output.size))

    inputs = {"0": Tensor.from_array(np.repeat(x, 5, 0))}
    result = model.replay(asked("mlp", "act", dtype="float64", inputs=inputs, seed=4))
    gradient = side(model, result, "backward", "input")["0"].sum(0)
    for at in range(8):
        moved = np.zeros((1, 8))
        moved[0, at] = 1e-5
        assert (projected(x + moved) - projected(x - moved)) / 2e-5 == pytest.approx(gradient[at], rel=1e-6)


def test_a_replay_can_end_after_the_forward(kit: Any) -> None:
    result = hosted(kit, "mlp").replay(asked("mlp", "act", backward=False))
    assert ["input", "output"] == [each.side for each in result.boundaries]
    assert () == result.parameters


def test_inner_layers_are_recorded_where_they_are_asked_for(kit: Any) -> None:
    model = hosted(kit, "mlp")
    result = model.replay(asked("mlp", "", dtype="float64", inner=("act",)))
    assert ["", "act", "act", ""] == [each.route for each in result.boundaries if each.phase == "forward"]
    assert {"", "act"} == {each.route for each in result.boundaries if each.phase == "backward"}
    assert "" == result.route


def test_a_parameter_is_named_as_the_description_names_it(kit: Any) -> None:
    model = hosted(kit, "tied")
    assert ["a.weight", "b.bias"] == [record.name for record in model.replay(asked("tied", "b")).parameters]
    assert ["scale"] == [record.name for record in hosted(kit, "extras").replay(asked("extras")).parameters]


def test_the_projection_can_take_some_of_the_outputs(kit: Any) -> None:
    model = hosted(kit, "nested")

    def gradient(**options: Any) -> np.ndarray:
        return side(model, model.replay(asked("nested", **options)), "backward", "input")["x"]

    assert not np.array_equal(gradient(), gradient(outputs=("past.0", "logits")))
    with pytest.raises(PadiffError, match="'logitz'"):
        gradient(outputs=("logitz",))


def test_what_cannot_be_asked_is_refused_and_changes_nothing(kit: Any) -> None:
    model = hosted(kit, "shared")
    before, kept = state(model), model.store_figures().memory_bytes
    wrong = Tensor.from_array(np.zeros((5, 3), np.float32))
    whole = Tensor.from_array(np.zeros((5, 4), np.int64))
    for options, reason, text in (
        ({"route": "fx"}, Reason.UNKNOWN_NAME, "'fx'"),
        ({"route": "fc", "inner": ("fx",)}, Reason.UNKNOWN_NAME, "'fx'"),
        ({"route": "fc", "call": 3}, Reason.UNKNOWN_NAME, "called it 3 times"),
        ({"route": "fc", "dtype": "float8"}, Reason.BAD_CONFIG, "float8"),
        ({"route": "fc", "inputs": {"1": wrong}}, Reason.UNKNOWN_NAME, "'1'"),
        ({"route": "fc", "inputs": {"0": wrong}}, Reason.BAD_TENSOR, "cannot be"),
        ({"route": "fc", "inputs": {"0": whole}}, Reason.BAD_TENSOR, "cannot be"),
        ({"route": "fc", "parameters": {"fc.weight": wrong}}, Reason.BAD_TENSOR, "cannot be"),
        ({"route": "fc", "parameters": {"weight": wrong}}, Reason.UNKNOWN_NAME, "'weight'"),
    ):
        with pytest.raises(PadiffError, match=text) as raised:
            model.replay(asked("shared", **options))
        assert reason is raised.value.reason
        assert before == state(model)
    assert kept == model.store_figures().memory_bytes


def test_a_layer_that_raises_in_float64_leaves_the_model_as_it_was(kit: Any) -> None:
    model = hosted(kit, "norm")
    layer = model.native_layer("bn")
    plain = layer.forward

    def narrow(x: Any) -> Any:
        plain(x)  # which moves the statistics
        if kit.backend.spec(x).dtype is DType.F64:
            raise ValueError("no float64 here")
        return plain(x)

    layer.forward = narrow
    before = state(model)
    with pytest.raises(PadiffError, match="no float64 here") as raised:
        model.replay(asked("norm", "bn", dtype="float64"))
    assert Reason.MODEL_FAILED is raised.value.reason
    assert before == state(model)
    assert model.replay(asked("norm", "bn")).parameters


def test_a_model_that_swallows_failures_hides_none(kit: Any) -> None:
    model = hosted(kit, "mlp")
    plain = model.model.forward

    def careless(x: Any) -> Any:
        try:
            return plain(x)
        except Exception:  # noqa: BLE001
            return x

    model.model.forward = careless
    assert model.replay(asked("mlp", "fc2")).parameters
    with pytest.raises(PadiffError, match="cannot be"):
        model.replay(asked("mlp", "fc2", inputs={"0": Tensor.from_array(np.zeros((1, 1), np.float32))}))


def test_a_replay_drops_the_graph_of_the_step(kit: Any) -> None:
    model = hosted(kit, "mlp")
    model.forward(request_of("mlp"))
    model.replay(asked("mlp", "act"))
    with pytest.raises(PadiffError) as raised:
        model.backward(SUM)
    assert Reason.OUT_OF_ORDER is raised.value.reason


def test_its_records_are_released_as_those_of_a_step(kit: Any) -> None:
    model = hosted(kit, "mlp")
    result = model.replay(asked("mlp"))
    assert model.store_figures().memory_bytes
    model.release_activations(result.record_ids())
    assert 0 == model.store_figures().memory_bytes


def test_the_mode_that_the_request_wants_holds_for_the_replay_alone(kit: Any) -> None:
    model = hosted(kit, "dropout")
    request = ForwardRequest(inputs_of("dropout"), training=False, seed=3)
    result = model.replay(ReplayRequest(request, "drop"))
    assert model.describe().layer("drop").training
    taken, given = (result.at("forward", which).records[0].digest.hash for which in ("input", "output"))
    assert taken == given
