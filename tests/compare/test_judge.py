"""Verdicts: each kind of fault is planted, and none passes; what is equal passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from padiff_rpc.compare.rules import CompareMode, CompareRules
from padiff_rpc.result import STAGES
from padiff_rpc.tensors.tensor import DType, Tensor
from tests.compare.streams import bfloat16, by_digests, by_streams, compared, metrics_of, tensor

MODES: tuple[CompareMode, ...] = ("mean", "abs_mean", "strict", "scaled")
ALLOWED = CompareRules(allow_dtype_difference=True)
RNG = np.random.default_rng(11)
VALUES = RNG.normal(size=(4, 5, 6)).astype(np.float32)


def changed(change: float, place: int = 7, values: np.ndarray = VALUES) -> Tensor:
    copy = values.copy()
    copy.reshape(-1)[place] += change
    return tensor(copy)


# -- equal tensors ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("values", [VALUES, np.arange(5), np.array([True, False]), np.float64(3.5), VALUES * 1j])
def test_equal_bytes_pass_by_their_digests(values: np.ndarray, mode: CompareMode) -> None:
    verdict = by_digests(tensor(values), tensor(values), CompareRules(mode))
    assert verdict is not None
    assert (verdict.status, verdict.failure, verdict.why) == ("pass", "", "")
    metrics = metrics_of(verdict)
    assert (metrics.max_abs, metrics.rel_l2, metrics.cosine, metrics.measured) == (0.0, 0.0, 1.0, 0.0)
    assert len(metrics.index) == np.ndim(values)


@pytest.mark.parametrize("mode", MODES)
def test_negative_zero_equals_zero(mode: CompareMode) -> None:
    verdict = compared(tensor(np.array([0.0, -0.0, 1.0])), tensor(np.array([-0.0, 0.0, 1.0])), CompareRules(mode))
    assert (verdict.status, verdict.why) == ("pass", "")


@pytest.mark.parametrize("judge", [by_digests, by_streams])
def test_empty_tensors_count_as_nothing_compared(judge) -> None:  # type: ignore[no-untyped-def]
    verdict = judge(tensor(np.empty((0, 3), np.float32)), tensor(np.empty((0, 3), np.float32)))
    assert (verdict.status, verdict.failure, verdict.metrics) == ("skipped", "", None)
    assert verdict.why.startswith("empty")


# -- shape and type ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("judge", [by_digests, by_streams])
@pytest.mark.parametrize("shape", [(5, 4, 6), (120,), (1, 4, 5, 6)])
def test_another_shape_fails_with_equal_bytes(judge, shape: tuple[int, ...]) -> None:  # type: ignore[no-untyped-def]
    verdict = judge(tensor(VALUES), tensor(VALUES.reshape(shape)))
    assert (verdict.status, verdict.failure) == ("fail", "shape")
    assert "F32[4, 5, 6] in base" in verdict.why


@pytest.mark.parametrize("judge", [by_digests, by_streams])
@pytest.mark.parametrize(
    "raw", [tensor(VALUES.astype(np.float64)), tensor(VALUES.astype(np.float16)), bfloat16(VALUES)]
)
def test_another_floating_type_fails_unless_allowed(judge, raw: Tensor) -> None:  # type: ignore[no-untyped-def]
    base = tensor(VALUES)
    verdict = judge(base, raw)
    assert (verdict.status, verdict.failure) == ("fail", "dtype")
    assert f"F32 in base, {raw.spec.dtype.value} in raw" in verdict.why
    assert compared(base, raw, ALLOWED).status == "pass"
    assert compared(raw, base, ALLOWED).status == "pass"


@pytest.mark.parametrize(
    ("base", "raw"),
    [
        (np.arange(4), np.arange(4.0)),
        (np.arange(2) > 0, np.arange(2)),
        (np.arange(4.0), np.arange(4.0) + 0j),
        (np.arange(4, dtype=np.int64), np.arange(4, dtype=np.uint64)),
    ],
)
def test_different_kinds_of_types_fail_even_when_differences_are_allowed(base: np.ndarray, raw: np.ndarray) -> None:
    assert compared(tensor(base), tensor(raw), ALLOWED).failure == "dtype"
    assert compared(tensor(raw), tensor(base), ALLOWED).failure == "dtype"


def test_integers_of_different_width_compare_exactly_when_allowed() -> None:
    base = np.arange(1000)
    assert compared(tensor(base), tensor(base.astype(np.int32)), ALLOWED).status == "pass"
    assert compared(tensor(base), tensor((base + (base == 700)).astype(np.int32)), ALLOWED).failure == "values"


def test_bfloat16_noise_passes_and_a_wrong_bfloat16_does_not() -> None:
    assert compared(tensor(VALUES), bfloat16(VALUES), ALLOWED).status == "pass"
    assert compared(tensor(VALUES), bfloat16(VALUES * 1.5), ALLOWED).failure == "values"


def test_tolerance_comes_from_the_less_precise_type() -> None:
    fine, coarse = tensor(VALUES.astype(np.float64)), tensor(VALUES)
    nudged = tensor(VALUES.astype(np.float64) * (1 + 1e-7))
    assert compared(fine, nudged).failure == "values"
    assert compared(coarse, nudged, ALLOWED).status == "pass"
    assert compared(nudged, coarse, ALLOWED).status == "pass"


# -- NaN and Inf ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sides", ["base", "raw", "both"])
@pytest.mark.parametrize("judge", [by_digests, by_streams])
def test_nan_always_fails(mode: CompareMode, sides: str, judge) -> None:  # type: ignore[no-untyped-def]
    plain, spoilt = tensor(VALUES), changed(math.nan)
    base, raw = {"base": (spoilt, plain), "raw": (plain, spoilt), "both": (spoilt, spoilt)}[sides]
    verdict = judge(base, raw, CompareRules(mode, atol=1e30, rtol=1.0))
    assert (verdict.status, verdict.failure) == ("fail", "nan")
    where = {"base": "NaN in base (1 elements)", "raw": "NaN in raw (1 elements)"}
    assert verdict.why.startswith(where.get(sides, "NaN on both sides (1 elements)"))
    assert metrics_of(verdict).nan == (2 if sides == "both" else 1)


def test_place_of_a_nan_is_named() -> None:
    verdict = by_streams(tensor(VALUES), changed(math.nan, place=3 * 30 + 2 * 6 + 1))
    assert metrics_of(verdict).index == (3, 2, 1)
    assert metrics_of(verdict).raw_value is not None
    assert verdict.why.endswith(f"first at [3, 2, 1]: {VALUES[3, 2, 1]:.9g} in base, nan in raw")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("noisy", [False, True])
def test_inf_at_the_same_places_passes_and_is_mentioned(mode: CompareMode, noisy: bool) -> None:
    mask = np.where(RNG.random((8, 8)) < 0.5, -np.inf, 0.0).astype(np.float32)
    count = int(np.isinf(mask).sum())
    base, raw = mask.copy(), mask.copy()
    base[mask == 0], raw[mask == 0] = 1.0, 1.0 + 1e-7 * noisy
    verdict = compared(tensor(base), tensor(raw), CompareRules(mode, rtol=1e-6))
    assert (verdict.status, verdict.failure) == ("pass", "")
    assert verdict.why == f"{count} Inf at the same places on both sides, left out of the metrics"
    if mode in ("strict", "scaled"):
        assert metrics_of(verdict).inf == 2 * count


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("raw", [[1, 2, math.inf], [math.inf, 2, 3], [1, -math.inf, 3], [1, math.inf, math.inf]])
def test_inf_at_another_place_or_of_another_sign_fails(mode: CompareMode, raw: list[float]) -> None:
    base = tensor(np.array([1, math.inf, 3], np.float32))
    rules = CompareRules(mode, atol=1e30, rtol=1.0)
    assert compared(base, tensor(np.array(raw, np.float32)), rules).failure == "nan"


@pytest.mark.parametrize("mode", MODES)
def test_wrong_value_beside_matching_infs_fails(mode: CompareMode) -> None:
    base, raw = np.array([-math.inf, 1, 2, 3.0]), np.array([-math.inf, 1, 2, 4.0])
    assert compared(tensor(base), tensor(raw), CompareRules(mode)).failure == "values"


# -- integers and booleans -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_int64_off_by_one_at_2_to_60_fails(mode: CompareMode) -> None:
    base = np.full((2, 3), 1 << 60)
    raw = base.copy()
    raw[1, 2] += 1
    verdict = compared(tensor(base), tensor(raw), CompareRules(mode, atol=10, rtol=1.0))
    assert (verdict.status, verdict.failure) == ("fail", "values")
    assert verdict.why == (
        "1 of 6 integers differ; greatest at [1, 2]: 1152921504606846976 in base, 1152921504606846977 in raw"
    )
    assert (metrics_of(verdict).max_abs, metrics_of(verdict).mismatched) == (1.0, 1)


@pytest.mark.parametrize("mode", MODES)
def test_permuted_integers_and_flipped_booleans_fail(mode: CompareMode) -> None:
    rules = CompareRules(mode, atol=1.0)
    assert compared(tensor(np.array([1, 2, 3])), tensor(np.array([3, 2, 1])), rules).failure == "values"
    assert compared(tensor(np.array([True, False])), tensor(np.array([False, True])), rules).failure == "values"


# -- values ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["strict", "scaled"])
@pytest.mark.parametrize("stage", STAGES)
def test_permuted_values_and_swapped_axes_fail(mode: CompareMode, stage) -> None:  # type: ignore[no-untyped-def]
    rules = CompareRules(mode)
    square = VALUES[:, :4, :4]
    assert compared(tensor(VALUES), tensor(VALUES[::-1].copy()), rules, stage).failure == "values"
    assert compared(tensor(square), tensor(square.swapaxes(0, 1).copy()), rules, stage).failure == "values"


def test_means_alone_are_compared_in_mode_mean() -> None:
    rules, flipped = CompareRules("mean"), tensor(VALUES[::-1].copy())
    assert compared(tensor(VALUES), flipped, CompareRules("mean", rtol=1e-12)).status == "pass"
    shifted = compared(tensor(VALUES), tensor(VALUES + 1), rules)
    assert (shifted.status, shifted.failure) == ("fail", "values")
    base = VALUES.astype(np.float64).mean()
    metrics = metrics_of(shifted)
    assert metrics.base_value == pytest.approx(base, rel=1e-12)
    assert metrics.measured == pytest.approx(1.0, rel=1e-6)
    assert metrics.allowed == pytest.approx(1e-7 * abs(base))
    assert compared(tensor(VALUES), tensor(VALUES - VALUES.mean()), CompareRules("mean", atol=1.0)).status == "pass"


def test_abs_mean_sees_what_mean_does_not() -> None:
    base, raw = np.array([1.0, -1.0]), np.array([2.0, -2.0])
    assert compared(tensor(base), tensor(raw), CompareRules("mean")).status == "pass"
    assert compared(tensor(base), tensor(raw), CompareRules("abs_mean")).failure == "values"


@pytest.mark.parametrize(
    ("atol", "rtol", "status"), [(0.11, 0, "pass"), (0.09, 0, "fail"), (0, 0.06, "pass"), (0, 0.04, "fail")]
)
def test_strict_allows_atol_plus_rtol_of_base(atol: float, rtol: float, status: str) -> None:
    base, raw = np.array([2.0, 5.0]), np.array([2.1, 5.0])
    verdict = compared(tensor(base), tensor(raw), CompareRules("strict", atol=atol, rtol=rtol))
    assert verdict.status == status
    assert metrics_of(verdict).measured == pytest.approx(0.1 / (atol + rtol * 2))


def test_strict_defaults_are_padiffs() -> None:
    base = np.ones(3)
    assert compared(tensor(base), tensor(base * (1 + 0.9e-7)), CompareRules("strict")).status == "pass"
    assert compared(tensor(base), tensor(base * (1 + 1.1e-7)), CompareRules("strict")).status == "fail"
    assert compared(tensor(base * 0), tensor(base * 1e-30), CompareRules("strict")).status == "fail"


@pytest.mark.parametrize("single_step", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_one_wrong_element_of_a_million_fails(stage, single_step: bool) -> None:  # type: ignore[no-untyped-def]
    values = RNG.normal(size=(1000, 1000)).astype(np.float32)
    # Gradients of a whole run may miss single elements at a ReLU's kink: there only one beyond the greatest fails.
    kinked = stage in ("backward", "grads") and not single_step
    spoilt = changed(6.0 if kinked else 1.0, place=123_456, values=values)
    verdict = by_streams(tensor(values), spoilt, stage=stage, single_step=single_step)
    assert (verdict.status, verdict.failure) == ("fail", "values")
    metrics = metrics_of(verdict)
    assert (metrics.index, metrics.mismatched, metrics.total) == ((123, 456), 1, 1_000_000)
    assert metrics.measure == "max_scaled"
    assert "[123, 456]" in verdict.why


def test_small_errors_everywhere_fail_by_their_norm() -> None:
    verdict = compared(tensor(VALUES), tensor(VALUES * np.float32(1.001)))
    metrics = metrics_of(verdict)
    assert verdict.failure == "values"
    assert metrics.measure == "rel_l2"
    assert metrics.measured == pytest.approx(1e-3, rel=1e-2)
    assert metrics.measured > metrics.allowed


def test_rtol_overrides_the_table() -> None:
    raw = tensor(VALUES * np.float32(1.001))
    assert compared(tensor(VALUES), raw, CompareRules(rtol=2e-3)).status == "pass"
    assert compared(tensor(VALUES), raw, CompareRules(rtol=0.5e-3)).status == "fail"
    assert compared(tensor(VALUES), changed(1e-6), CompareRules(rtol=0.0)).status == "fail"


def test_base_of_zeros_demands_zeros() -> None:
    zeros = np.zeros(10, np.float32)
    for rtol in (None, 0.5):
        assert compared(tensor(zeros), changed(1e-20, values=zeros), CompareRules(rtol=rtol)).failure == "values"


def test_raw_of_zeros_fails() -> None:
    assert compared(tensor(VALUES), tensor(VALUES * 0)).failure == "values"


# -- rounding noise ----------------------------------------------------------------------------------------------------------
def test_noise_passes_up_to_the_scale_given_and_says_so() -> None:
    base, raw = tensor(VALUES * np.float32(1e-9)), tensor(-VALUES * np.float32(1e-9))
    gap = 2e-9 * float(np.abs(VALUES).max())
    assert by_digests(base, raw, stage="grads", noise_scale=1.1 * gap) is None
    assert by_streams(base, raw, stage="grads").failure == "values"
    assert by_streams(base, raw, stage="grads", noise_scale=0.9 * gap).failure == "values"
    verdict = by_streams(base, raw, stage="grads", noise_scale=1.1 * gap)
    assert verdict.status == "pass"
    assert verdict.why.startswith("within rounding noise: the greatest difference is")
    assert metrics_of(verdict).measured == pytest.approx(gap)


def test_noise_is_no_excuse_in_padiffs_modes() -> None:
    base, raw = tensor(np.zeros(3)), tensor(np.full(3, 1e-12))
    for mode in ("strict", "mean", "abs_mean"):
        rules = CompareRules(mode)
        verdict = by_digests(base, raw, rules, noise_scale=1.0) or by_streams(base, raw, rules, noise_scale=1.0)
        assert verdict.failure == "values"


def test_atol_is_a_floor_in_mode_scaled() -> None:
    base, raw = tensor(np.zeros(3)), tensor(np.full(3, 1e-6))
    assert compared(base, raw, CompareRules(atol=1e-5)).status == "pass"
    assert compared(base, raw, CompareRules(atol=1e-7)).status == "fail"


# -- other types ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [DType.F8_E4M3, DType.F8_E5M2])
def test_float8_is_compared_by_value(dtype: DType) -> None:
    one, bits = {DType.F8_E4M3: (0x38, 0x40), DType.F8_E5M2: (0x3C, 0x40)}[dtype]
    base = tensor(np.full(4, one, np.uint8), dtype)
    verdict = compared(base, tensor(np.array([one, bits, one, one], np.uint8), dtype))
    assert (verdict.failure, metrics_of(verdict).base_value, metrics_of(verdict).raw_value) == ("values", 1.0, 2.0)


def test_index_of_a_complex_element_is_that_of_the_element() -> None:
    base = np.zeros((2, 2), np.complex64)
    raw = base.copy()
    raw[1, 0] = 1j
    assert metrics_of(compared(tensor(base), tensor(raw))).index == (1, 0)


def test_scalars_are_compared() -> None:
    assert compared(tensor(np.float32(1.0)), tensor(np.float32(1.0000002)), stage="loss").status == "pass"
    verdict = compared(tensor(np.float32(1.0)), tensor(np.float32(1.1)), stage="loss")
    assert (verdict.failure, metrics_of(verdict).index) == ("values", ())
