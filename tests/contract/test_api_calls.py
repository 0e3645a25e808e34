"""Functional calls of a model's own code: what is recorded of them, over every backend, and that nothing stays behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.model import Boundary, ForwardRequest, LossSpec, RecordOptions
from padiff_rpc.tensors.tensor import Tensor, collect_all
from tests.contract.watcher import Watcher

OWN = [
    "/relu",
    "/add",
    "/multiply",
    "/subtract",
    "/add",
    "/matmul",
    "/softmax",
    "inner/exp",
    "inner/multiply",
    "/gelu",
    "/concat",
    "/divide",
    "/mean",
]
"""The functional calls of the zoo's functional(), in order."""


def request(**options: Any) -> ForwardRequest:
    x = Tensor.from_array(np.cos(0.9 * np.arange(20)).astype(np.float32).reshape(5, 4))
    record = RecordOptions(**{"api_calls": True, **options})
    return ForwardRequest({"x": x}, seed=3, record=record)


def run(kit: Any, name: str = "functional", answer: Any = None, **options: Any) -> Any:
    model = HostedModel(kit.build(name), kit.backend)
    watcher = Watcher(model, answer)
    model.forward(request(**options), watcher)
    return watcher


def api_routes(boundaries: list[Boundary]) -> list[str]:
    return [boundary.route for boundary in boundaries if boundary.api]


def snapshot(kit: Any) -> dict[tuple[str, str], int]:
    """What the framework, and the zoo's module, hold under every name: modules and the tensor class."""
    root = {"torch": "torch", "paddle": "paddle", "numpy": "padiff_rpc.numpy_framework"}[kit.backend.name]
    held = {
        (name, attribute): id(value)
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == root or name.startswith(root) or module is kit.zoo
        for attribute, value in list(getattr(module, "__dict__", {}).items())
        if callable(value)
    }
    tensor = type(kit.native(np.zeros(1, np.float32), kit.build("mlp")))
    held.update((("Tensor", attribute), id(value)) for attribute, value in vars(tensor).items())
    return held


@contextmanager
def looking_inside(kit: Any, look: Any) -> Iterator[None]:
    """Call `look` while a forward runs, before any layer."""
    plain = kit.backend.forward

    def spy(*args: Any) -> Any:
        look()
        return plain(*args)

    kit.backend.forward = spy  # the backend object is the session's
    try:
        yield
    finally:
        del kit.backend.forward


def test_calls_in_a_layers_own_forward_are_told_in_order_by_canonical_names(kit: Any) -> None:
    watcher = run(kit)

    assert OWN == api_routes(watcher.boundaries)


def test_a_call_knows_its_layer_its_number_and_its_place(kit: Any) -> None:
    watcher = run(kit)
    adds = [boundary for boundary in watcher.boundaries if boundary.route == "/add"]
    [exp] = [boundary for boundary in watcher.boundaries if boundary.route == "inner/exp"]

    assert [0, 1] == [boundary.call for boundary in adds]
    assert [("", 0), ("", 0)] == [boundary.caller for boundary in adds]
    assert ("inner", 0) == exp.caller
    assert ("forward", "output", True) == (exp.phase, exp.side, exp.api)
    assert list(range(len(watcher.boundaries))) == [boundary.seq for boundary in watcher.boundaries]


def test_what_a_call_returned_is_recorded_as_it_was_then(kit: Any) -> None:
    watcher = run(kit)
    x = np.cos(0.9 * np.arange(20)).astype(np.float32).reshape(5, 4)
    before = watcher.array("forward", "/subtract", "output")

    np.testing.assert_allclose(np.ones(5), watcher.array("forward", "/softmax", "output").sum(axis=-1), rtol=1e-5)
    # h += x may change the memory that the subtraction returned
    np.testing.assert_array_equal(before + x, watcher.array("forward", "/add", "output", call=1))
    np.testing.assert_array_equal(
        watcher.array("forward", "", "output", name="mean"), watcher.array("forward", "/mean", "output")
    )


def test_nothing_is_told_when_it_is_not_asked_for(kit: Any) -> None:
    assert [] == api_routes(run(kit, api_calls=False).boundaries)


def test_layers_boundaries_are_the_same_with_and_without(kit: Any) -> None:
    def layers(boundaries: list[Boundary]) -> list[Any]:
        return [
            (each.route, each.call, each.side, each.caller, [(r.name, r.digest) for r in each.records])
            for each in boundaries
            if not each.api
        ]

    assert layers(run(kit, api_calls=False).boundaries) == layers(run(kit).boundaries)


@pytest.mark.parametrize("routes", [("", "fc", "act"), ("",)], ids=["inner left out", "only the root"])
def test_calls_inside_a_layer_that_is_not_recorded_are_nobodys(kit: Any, routes: tuple[str, ...]) -> None:
    watcher = run(kit, routes=routes)

    assert [route for route in OWN if not route.startswith("inner")] == api_routes(watcher.boundaries)
    assert {("", 0)} == {each.caller for each in watcher.boundaries if each.route and each.side == "output"}


def test_a_layer_inside_one_that_is_not_recorded_counts_the_recorded_one_as_its_caller(kit: Any) -> None:
    watcher = run(kit, "nested", routes=("", "pack"))

    assert {("", 0)} == {each.caller for each in watcher.boundaries if each.route == "pack"}


def test_the_insides_of_the_frameworks_own_layers_are_not_told(kit: Any) -> None:
    assert [] == api_routes(run(kit, "mlp").boundaries)


def test_a_synced_run_asks_for_no_substitutes_of_calls(kit: Any) -> None:
    asked: list[Boundary] = []

    def answer(boundary: Boundary, values: dict[str, Tensor]) -> dict[str, Tensor]:
        asked.append(boundary)
        return values

    watcher = run(kit, answer=answer, sync=True)

    assert OWN == api_routes(watcher.boundaries)
    assert [each for each in watcher.boundaries if not each.api] == asked


@pytest.mark.parametrize("sync", [False, True], ids=["free", "synced"])
def test_outputs_and_gradients_have_the_same_bits_with_and_without(kit: Any, sync: bool) -> None:
    def step(api_calls: bool) -> tuple[dict[Any, bytes], dict[str, bytes], list[Any]]:
        model = HostedModel(kit.build("functional"), kit.backend)
        watcher = Watcher(model, (lambda boundary, values: values) if sync else None)
        model.forward(request(api_calls=api_calls, sync=sync), watcher)
        model.backward(LossSpec("projection", {"seed": 0.0}), watcher)
        names = [info.name for info in model.describe().parameters]
        gradients = {name: bytes(t.data) for name, t in collect_all(model.read_parameters(names, "gradient")).items()}
        values = {key: bytes(tensor.data) for key, tensor in watcher.values.items() if "/" not in key[1]}
        return values, gradients, watcher.trail("backward")

    assert step(False) == step(True)


def test_while_it_is_off_no_functional_call_of_the_framework_is_touched(kit: Any) -> None:
    """Paddle's `register_hook` is no such call: recording stands in for it, so that a user's own hooks keep their effect."""
    before, seen = snapshot(kit), []
    with looking_inside(kit, lambda: seen.append(snapshot(kit))):
        run(kit, api_calls=False)

    [during] = seen
    touched = {name for name, held in during.items() if before.get(name) != held}
    assert touched <= ({("Tensor", "register_hook")} if kit.backend.name == "paddle" else set())
    assert set(before) == set(during)


def test_after_a_run_every_attribute_is_what_it_was(kit: Any) -> None:
    before = snapshot(kit)
    run(kit)

    assert before == snapshot(kit)


def test_after_a_forward_that_raises_every_attribute_is_what_it_was(kit: Any) -> None:
    model = HostedModel(kit.build("failing"), kit.backend)
    before, activation = snapshot(kit), model.model.activation
    watcher = Watcher(model)
    with pytest.raises(PadiffError) as caught:
        model.forward(request(), watcher)

    assert Reason.MODEL_FAILED is caught.value.reason
    assert "inner" == caught.value.metadata["layer"]
    assert OWN[:8] == api_routes(watcher.boundaries)
    assert before == snapshot(kit)
    assert model.model.activation is activation


def test_an_error_of_the_observer_at_a_call_ends_the_run(kit: Any) -> None:
    class Failing:
        def observe(self, boundary: Boundary) -> None:
            if boundary.api:
                raise PadiffError("planted", reason=Reason.STORE_FULL)

        def substitute(self, boundary: Boundary) -> dict[str, Tensor]:
            return {}

    before = snapshot(kit)
    model = HostedModel(kit.build("functional"), kit.backend)
    with pytest.raises(PadiffError) as caught:
        model.forward(request(), Failing())

    assert Reason.STORE_FULL is caught.value.reason
    assert before == snapshot(kit)
