"""Functions that are recognised by fitting them to what the layer took."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.other_functions import FUNCTIONS
from padiff_rpc.explain.causes.find_causes import find_causes
from tests.explain.causes.seen import evidence, first, random, rounded

X = 4 * random(8, 5, 32)


@pytest.mark.parametrize(
    ("base", "raw"),
    [
        ("gelu", "gelu by tanh"),
        ("gelu", "gelu by sigmoid(1.702 x)"),
        ("relu", "relu6"),
        ("silu", "gelu"),
        ("hardsigmoid", "hardsigmoid of slope 0.2"),
        ("relu", "no function"),
        ("leaky_relu(0.01)", "leaky_relu(0.2)"),
        ("elu", "selu"),
    ],
)
def test_two_functions_of_one_tensor_are_told_apart(base, raw):
    cause = first(evidence(rounded(FUNCTIONS[base](X)), rounded(FUNCTIONS[raw](X)), sources={"fc's output.0": X}))

    assert f"base computes {base}, raw computes {raw}" == cause.words
    assert "fc's output.0" in cause.evidence


def test_a_slope_of_its_own_is_fitted():
    base, raw = np.where(X > 0, X, 0.01 * X), np.where(X > 0, X, 0.37 * X)

    assert first(evidence(base, raw, sources={"input.0": X})).words.endswith("raw computes leaky_relu(0.37)")


def softmax(x, axis):
    made = np.exp(x - x.max(axis=axis, keepdims=True))
    return made / made.sum(axis=axis, keepdims=True)


def test_the_axis_of_a_softmax_and_its_logarithm_are_told():
    other_axis = evidence(rounded(softmax(X, 2)), rounded(softmax(X, 1)), sources={"input.0": X})
    logarithm = evidence(rounded(softmax(X, 2)), rounded(np.log(softmax(X, 2))), sources={"input.0": X})

    assert "base computes softmax over axis 2, raw computes softmax over axis 1" == first(other_axis).words
    assert first(logarithm).words.endswith("raw computes log_softmax over axis 2")


def test_gate_and_up_that_change_roles_are_found():
    gate, up = random(4, 6, 24), random(4, 6, 24, seed=1)
    silu = FUNCTIONS["silu"]
    given = evidence(
        rounded(silu(gate) * up), rounded(silu(up) * gate), sources={"gate's output.0": gate, "up's output.0": up}
    )

    assert "raw computes silu(up's output.0) x gate's output.0" in first(given).words


def test_a_function_that_one_side_adds_is_found_without_its_source():
    assert "raw applies tanh here, and base does not" == first(evidence(X, rounded(np.tanh(X)))).words
    assert (
        "raw applies a cap, 30 x tanh(x / 30) here, and base does not"
        == first(evidence(9 * X, rounded(30 * np.tanh(9 * X / 30)))).words
    )


def test_a_small_tensor_is_no_softmax_of_a_large_one():
    assert [] == find_causes(evidence(100 * X, 0.01 * random(8, 5, 32, seed=3)))
