"""HostedModel over every backend: values and gradients that are put in another's place in a synced run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import Boundary, RecordOptions
from padiff_rpc.tensors.tensor import Tensor
from tests.contract.steps import (
    SYNC,
    hosted,
    request_of,
    run_step,
)
from tests.contract.watcher import Watcher, echo


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
