"""The bound of a gradient's rounding noise: it covers sums that cancel, and hides nothing of a fault beside them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from padiff_rpc.align.stages.gradient_noise import GradientNoise
from padiff_rpc.compare.tolerances import EPSILON
from padiff_rpc.tensors.tensor import DType, TensorSpec
from tests.align.hand_made import judged, link

BIAS, WEIGHT = link("fc.bias"), link("fc.weight")
VECTOR, MATRIX = TensorSpec(DType.F32, (4,)), TensorSpec(DType.F32, (4, 3))
PER_EPSILON = 64.0
EPS = EPSILON[DType.F32]


def test_a_vectors_bound_is_the_mean_of_the_summands_sizes() -> None:
    noise = GradientNoise([], [judged(0, "fc", "output", l1=200.0)])
    assert PER_EPSILON * EPS * 200.0 / 4 == pytest.approx(noise(BIAS, VECTOR))


def test_axes_of_one_make_no_matrix_of_a_vector() -> None:
    noise = GradientNoise([judged(0, "fc", "input", square=1e12)], [judged(0, "fc", "output", l1=200.0)])
    assert noise(BIAS, VECTOR) == noise(WEIGHT, TensorSpec(DType.F32, (1, 1, 4))) > 0


def test_a_matrixs_bound_is_that_of_cauchy_and_schwarz() -> None:
    noise = GradientNoise([judged(0, "fc", "input", square=9.0)], [judged(0, "fc", "output", square=48.0)])
    assert PER_EPSILON * EPS * math.sqrt(9.0 * 48.0 / 12) == pytest.approx(noise(WEIGHT, MATRIX))


def test_all_calls_of_a_layer_add_to_its_bound() -> None:
    forward = [judged(at, "fc", "input", call=at, square=2.0) for at in range(2)]
    backward = [judged(at, "fc", "output", call=at, square=3.0, l1=10.0) for at in range(3)]
    noise = GradientNoise(forward, backward)
    assert PER_EPSILON * EPS * 30.0 / 4 == pytest.approx(noise(BIAS, VECTOR))
    assert PER_EPSILON * EPS * math.sqrt(4.0 * 9.0 / 12) == pytest.approx(noise(WEIGHT, MATRIX))


def test_another_layers_tensors_do_not_add_to_a_bound() -> None:
    noise = GradientNoise(
        [judged(0, "other", "input", square=9.0)], [judged(0, "other", "output", square=9.0, l1=100.0)]
    )
    assert (0.0, 0.0) == (noise(BIAS, VECTOR), noise(WEIGHT, MATRIX))


def test_what_a_layer_returns_in_the_forward_or_sends_back_does_not_count() -> None:
    forward = [judged(0, "fc", "output", square=9.0), judged(1, "fc", "input", square=1.0)]
    backward = [judged(0, "fc", "input", square=9.0, l1=100.0), judged(1, "fc", "output", square=1.0, l1=4.0)]
    noise = GradientNoise(forward, backward)
    assert PER_EPSILON * EPS == pytest.approx(noise(BIAS, VECTOR))
    assert PER_EPSILON * EPS * math.sqrt(1 / 12) == pytest.approx(noise(WEIGHT, MATRIX))


def test_a_weight_whose_layer_took_in_nothing_has_no_bound() -> None:
    noise = GradientNoise([], [judged(0, "fc", "output", square=9.0, l1=100.0)])
    assert 0.0 == noise(WEIGHT, MATRIX)


@pytest.mark.parametrize("dtype", [DType.F16, DType.BF16, DType.F64])
def test_the_bound_goes_with_the_epsilon_of_the_type(dtype: DType) -> None:
    noise = GradientNoise([], [judged(0, "fc", "output", l1=200.0)])
    bound = noise(BIAS, TensorSpec(dtype, (4,)))
    assert noise(BIAS, VECTOR) * EPSILON[dtype] / EPS == pytest.approx(bound)


def test_integers_hold_no_noise() -> None:
    assert 0.0 == GradientNoise([], [judged(0, "fc", "output", l1=200.0)])(BIAS, TensorSpec(DType.I64, (4,)))


@pytest.mark.parametrize("shape", [(), (0,)])
def test_a_scalar_and_an_empty_vector_have_a_bound(shape: tuple[int, ...]) -> None:
    noise = GradientNoise([], [judged(0, "fc", "output", l1=200.0)])
    assert PER_EPSILON * EPS * 200.0 == pytest.approx(noise(BIAS, TensorSpec(DType.F32, shape)))


def test_an_empty_matrix_has_a_bound() -> None:
    noise = GradientNoise([judged(0, "fc", "input", square=9.0)], [judged(0, "fc", "output", square=4.0)])
    assert PER_EPSILON * EPS * 6.0 == pytest.approx(noise(WEIGHT, TensorSpec(DType.F32, (0, 3))))


@pytest.mark.parametrize("sizes", [math.nan, math.inf])
def test_sizes_that_are_not_finite_excuse_nothing(sizes: float) -> None:
    noise = GradientNoise([judged(0, "fc", "input", square=1.0)], [judged(0, "fc", "output", square=sizes, l1=sizes)])
    assert (0.0, 0.0) == (noise(BIAS, VECTOR), noise(WEIGHT, MATRIX))


# -- the healthy pairs that need it, and faults beside them ----------------------------------------------------------------
ROWS = 512


def cancelling(columns: int) -> np.ndarray:
    """Return gradients [rows, columns] of an output whose sums over the rows are zero but for rounding."""
    half = np.random.RandomState(0).standard_normal((ROWS // 2, columns))
    return np.concatenate([half, -half[::-1]]).astype(np.float32)


def bound_of_bias(gradients: np.ndarray) -> float:
    l1 = float(np.abs(gradients).sum())
    return GradientNoise([], [judged(0, "fc", "output", l1=l1)])(BIAS, TensorSpec(DType.F32, gradients.shape[1:]))


def test_a_bias_before_a_normalisation_differs_by_rounding_alone() -> None:
    """Two orders of summation leave different noise, which is no fault; a lost row of the batch is one."""
    gradients = cancelling(8)
    base = np.add.reduce(gradients, 0, np.float32)
    shuffled = gradients[np.random.RandomState(1).permutation(ROWS)]
    raw = np.array([sum(column, np.float32(0.0)) for column in shuffled.T], np.float32)
    bound = bound_of_bias(gradients)
    apart = np.abs(raw - base)
    assert 0 < apart.max() <= bound
    lost = np.abs(gradients[:-1].sum(0, dtype=np.float32) - base)
    assert lost.max() > 100 * bound


def test_a_weight_whose_summands_cancel_differs_by_rounding_alone() -> None:
    gradients = cancelling(4)
    inputs = np.ones((ROWS, 3), np.float32)
    noise = GradientNoise(
        [judged(0, "fc", "input", square=float((inputs**2).sum()))],
        [judged(0, "fc", "output", square=float((gradients.astype(np.float64) ** 2).sum()))],
    )
    bound = noise(WEIGHT, MATRIX)
    order = np.random.RandomState(1).permutation(ROWS)
    base, raw = gradients.T @ inputs, np.zeros((4, 3), np.float32)
    for row in order:
        raw += np.outer(gradients[row], inputs[row])
    assert 0 < np.abs(raw - base).max() <= bound
    scaled = inputs.copy()
    scaled[: ROWS // 2] *= 1.01  # the inputs of half a batch, one hundredth too large
    assert np.abs(gradients.T @ scaled - base).max() > 10 * bound
