"""The gradients of a Linear's parameters agree as well as what the Linear got."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from padiff_rpc.align.stages.own_gradients import OwnGradients
from padiff_rpc.model.model import ModelDescription, ParameterInfo
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair
from padiff_rpc.tensors.tensor import DType, TensorSpec
from tests.align.hand_made import described, judged, layer, measured, pair

TORCH, PADDLE = "torch.nn.modules.linear.Linear", "paddle.nn.layer.common.Linear"


def model(class_path: str, class_name: str = "Linear", **parameter: Any) -> ModelDescription:
    weight = ParameterInfo("fc.weight", "parameter", TensorSpec(DType.F32, (2, 2)), True, **parameter)
    return described(replace(layer("fc", class_name), class_path=class_path), parameters=[weight])


def off(error: float, stage: Any = "grads", tensor: str = "weight", **figures: Any) -> Pair:
    metrics = {"rel_l2": error, "max_abs": error, "base_dtype": "F32", "raw_dtype": "F32", **figures}
    return pair(stage, "fc", tensor, metrics=measured(**metrics))


def judge(
    grad: Pair,
    took: float = 1e-7,
    got: float = 1e-7,
    noise: float = 0.0,
    base: ModelDescription | None = None,
    raw: ModelDescription | None = None,
) -> Pair:
    forward = [judged(0, "fc", "input", off(took, "forward", "input.0"))]
    backward = [judged(1, "fc", "output", off(got, "backward", "grad of output.0"))]
    own = OwnGradients(PerSide(base or model(TORCH), raw or model(PADDLE)), forward, backward)
    [found] = own.judge([grad], [noise])
    return found


def test_a_gradient_that_is_a_hundredth_off_fails_where_what_the_layer_got_agrees() -> None:
    found = judge(off(1e-2))
    assert ("fail", "values") == (found.status, found.failure)
    assert found.why.startswith(
        "the relative L2 error is 0.01, though what the layer got agrees to 2e-07: its input, and the"
    )
    assert found.metrics is not None
    assert (1e-2, 2e-3) == (found.metrics.measured, found.metrics.allowed)


def test_transformers_own_linear_counts_as_one() -> None:
    assert "fail" == judge(off(1e-2), base=model("transformers.pytorch_utils.Conv1D", "Conv1D")).status


@pytest.mark.parametrize(("error", "status"), [(1.9e-3, "pass"), (2.1e-3, "fail")])
def test_two_thousandths_are_allowed_in_any_case(error: float, status: str) -> None:
    assert status == judge(off(error)).status


@pytest.mark.parametrize(("took", "got"), [(1e-3, 0.0), (0.0, 1e-3), (5e-4, 5e-4)])
@pytest.mark.parametrize(("error", "status"), [(9e-3, "pass"), (1.1e-2, "fail")])
def test_what_the_layer_got_wrong_its_gradients_may_be_wrong_by(
    took: float, got: float, error: float, status: str
) -> None:
    assert status == judge(off(error), took, got).status


@pytest.mark.parametrize(("noise", "status"), [(1.1e-2, "pass"), (0.9e-2, "fail")])
def test_a_sum_that_cancels_is_as_far_apart_as_its_noise(noise: float, status: str) -> None:
    assert status == judge(off(1e-2), noise=noise, took=0.0, got=0.0).status


def test_the_noise_grows_with_the_error_of_the_summands() -> None:
    assert "pass" == judge(off(1e-2), took=0.0, got=1e-5, noise=2e-4).status
    assert "fail" == judge(off(1e-2), took=0.0, got=1e-7, noise=2e-4).status


@pytest.mark.parametrize(
    "other",
    [
        model("mine.Linear"),
        model("torch.nn.modules.rnn.LSTM", "LSTM"),
        model("torch.nn.modules.sparse.Embedding", "Embedding"),
        model(TORCH, aliases=("head.weight",)),
    ],
    ids=["a user's own", "a recurrent layer", "an embedding", "a tied parameter"],
)
def test_other_layers_and_tied_parameters_keep_the_wide_tolerance(other: ModelDescription) -> None:
    assert "pass" == judge(off(1e-2), base=other).status
    assert "pass" == judge(off(1e-2), raw=other).status


def test_half_precision_keeps_its_tolerance() -> None:
    assert "pass" == judge(off(1e-2, base_dtype="BF16")).status


@pytest.mark.parametrize("grad", [replace(off(1e-2), status="fail"), replace(off(1e-2), metrics=None)])
def test_what_failed_or_was_not_measured_stays_as_it_is(grad: Pair) -> None:
    assert grad == judge(grad)


def test_where_the_boundary_was_not_compared_nothing_is_known() -> None:
    own = OwnGradients(PerSide(model(TORCH), model(PADDLE)), [], [])
    assert [off(1e-2)] == own.judge([off(1e-2)], [0.0])
    unmeasured = [judged(1, "fc", "output", pair("backward", "fc", "grad of output.0", metrics=None))]
    own = OwnGradients(PerSide(model(TORCH), model(PADDLE)), [], unmeasured)
    assert [off(1e-2)] == own.judge([off(1e-2)], [0.0])
