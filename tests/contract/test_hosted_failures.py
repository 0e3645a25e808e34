"""HostedModel over every backend: whose fault a failure is, and that it leaves no hook behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Boundary, ForwardRequest, RecordOptions
from padiff_rpc.tensors.tensor import Tensor
from tests.contract.steps import (
    SUM,
    hosted,
    request_of,
    run_step,
)
from tests.contract.watcher import Watcher


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
    kit.backend.forward(model.model, (), kit.inputs("mlp", model.model), True)
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
    kit.backend.forward(model.model, (), kit.inputs("mlp", model.model), True)
    assert len(watcher.boundaries) == forward_count
    model.backward(SUM, watcher)
    count = len(watcher.boundaries)
    outputs = kit.backend.forward(model.model, (), kit.inputs("mlp", model.model), True)
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
    outputs = kit.backend.forward(model.model, (), kit.inputs("mlp", model.model), True)
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
