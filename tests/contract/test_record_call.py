"""A user's own loop over every backend: native calls and losses around the model, recorded as they happen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import Boundary, LossSpec, RecordOptions
from padiff_rpc.tensors.tensor import Tensor


class Heard:
    """Keeps the boundaries of one call; `failing` raises at the first of a phase."""

    def __init__(self, failing: str = "") -> None:
        self.boundaries: list[Boundary] = []
        self._failing = failing

    def observe(self, boundary: Boundary) -> None:
        if boundary.phase == self._failing:
            raise PadiffError("the disk is full", reason=Reason.STORE_FULL)
        self.boundaries.append(boundary)

    def substitute(self, boundary: Boundary) -> Mapping[str, Tensor]:
        return {}

    def trail(self) -> list[tuple[str, str, str]]:
        return [(each.phase, each.route, each.side) for each in self.boundaries]


def call(kit: Any, model: HostedModel, heard: Heard, **options: Any) -> Any:
    outputs, _ = model.record_call((), kit.inputs("mlp", model.model), RecordOptions(**options), heard)
    return outputs


def loss_of(kit: Any, outputs: Any) -> Any:
    return kit.backend.loss(LossSpec("projection", {"seed": 0.0}), kit.flat(outputs))


@pytest.fixture
def model(kit: Any) -> HostedModel:
    return HostedModel(kit.build("mlp"), kit.backend)


def test_a_recorded_call_returns_what_a_bare_one_returns(kit: Any, model: HostedModel) -> None:
    bare = kit.forward("mlp", model.model)
    recorded = call(kit, model, Heard())
    assert kit.array(bare).tobytes() == kit.array(recorded).tobytes()


def test_records_of_several_calls_stay_until_they_are_dropped(kit: Any, model: HostedModel) -> None:
    heard = Heard()
    for _ in range(2):
        call(kit, model, heard)
    ids = [record.id for boundary in heard.boundaries for record in boundary.records]
    assert len(set(ids)) == len(ids) == 16
    assert 16 == len([stream.collect() for stream in model.read_activations(ids)])
    model.drop_records()
    with pytest.raises(PadiffError) as raised:
        next(model.read_activations(ids)).collect()
    assert raised.value.reason is Reason.UNKNOWN_NAME


def test_gradients_add_up_over_calls_and_each_call_hears_its_own(kit: Any, model: HostedModel) -> None:
    outputs = kit.forward("mlp", model.model)
    kit.backward(outputs)
    once = kit.gradients(model.model)
    kit.backend.clear_gradients(model.model)
    first, second = Heard(), Heard()
    results = [call(kit, model, heard) for heard in (first, second)]
    for result in results:
        model.run_backward(loss_of(kit, result))
    twice = kit.gradients(model.model)
    assert {name: (2 * array).tobytes() for name, array in once.items()} == {
        name: array.tobytes() for name, array in twice.items()
    }
    assert first.trail() == second.trail()
    assert ("backward", "fc1", "output") in first.trail()


def test_dropping_the_records_keeps_parameter_gradients_and_stops_listening(kit: Any, model: HostedModel) -> None:
    heard = Heard()
    outputs = call(kit, model, heard)
    model.drop_records()
    model.run_backward(loss_of(kit, outputs))
    assert [] == [entry for entry in heard.trail() if entry[0] == "backward"]
    gradients = kit.gradients(model.model)
    assert {"fc1.weight", "fc1.bias", "fc2.weight"} == set(gradients)
    model.drop_records()
    assert set(gradients) == set(kit.gradients(model.model))


def test_gradients_that_have_not_come_are_told(kit: Any, model: HostedModel) -> None:
    outputs, silent = model.record_call((), kit.inputs("mlp", model.model), RecordOptions(), Heard())
    assert ("fc1", 0, "output", "0") in silent()
    model.run_backward(loss_of(kit, outputs))
    assert () == silent()


def test_only_the_layers_asked_for_are_recorded(kit: Any, model: HostedModel) -> None:
    heard = Heard()
    call(kit, model, heard, routes=("act",))
    assert [("forward", "act", "input"), ("forward", "act", "output")] == heard.trail()


def test_what_the_model_raises_comes_through_as_it_is(kit: Any, model: HostedModel) -> None:
    with pytest.raises(TypeError):
        model.record_call((), {}, RecordOptions(), Heard())
    assert "forward" not in vars(model.model)  # no hook is left


@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_a_failing_recording_is_raised_and_not_lost(kit: Any, model: HostedModel, phase: str) -> None:
    with pytest.raises(PadiffError) as raised:
        model.run_backward(loss_of(kit, call(kit, model, Heard(failing=phase))))
    assert raised.value.reason is Reason.STORE_FULL
