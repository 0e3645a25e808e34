"""Digests: statistics and hash of raw bytes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import xxhash

from padiff_rpc.tensors.digest import digest
from padiff_rpc.tensors.float64 import BLOCK_ITEMS
from padiff_rpc.tensors.tensor import Digest, DType, Statistics, Tensor, TensorSpec


def digest_of(array: np.ndarray, dtype: DType | None = None) -> Digest:
    tensor = Tensor.from_array(array, dtype)
    return digest(np.frombuffer(tensor.data, np.uint8), tensor.spec)


def test_statistics_over_several_blocks_are_those_of_the_whole() -> None:
    values = np.random.default_rng(0).normal(size=2 * BLOCK_ITEMS + 17).astype(np.float32)
    wide = values.astype(np.float64)
    found = digest_of(values)
    assert found.count == values.size
    assert found.mean == pytest.approx(wide.mean(), rel=1e-12)
    assert found.abs_mean == pytest.approx(np.abs(wide).mean(), rel=1e-12)
    assert found.norm == pytest.approx(np.linalg.norm(wide), rel=1e-12)
    assert (found.min, found.max) == (wide.min(), wide.max())
    assert (found.nan_count, found.inf_count) == (0, 0)
    assert found.hash == xxhash.xxh3_128_digest(values.tobytes())


def test_sums_are_taken_in_float64_whatever_the_type() -> None:
    found = digest_of(np.full(100_000, 0.1, np.float16))
    assert found.mean == pytest.approx(float(np.float16(0.1)), rel=1e-12)
    assert digest_of(np.full(10, 60000, np.float16)).norm == pytest.approx(60000 * math.sqrt(10))


@pytest.mark.parametrize("place", [0, BLOCK_ITEMS - 1, BLOCK_ITEMS, BLOCK_ITEMS + 5])
def test_one_nan_anywhere_makes_every_statistic_nan(place: int) -> None:
    values = np.ones(BLOCK_ITEMS + 6, np.float32)
    values[place] = np.nan
    found = digest_of(values)
    assert all(math.isnan(value) for value in (found.mean, found.abs_mean, found.norm, found.min, found.max))
    assert (found.nan_count, found.inf_count) == (1, 0)


def test_infinities_are_counted_and_stay_in_the_statistics() -> None:
    found = digest_of(np.array([1.0, np.inf, -np.inf, np.inf], np.float32))
    assert (found.nan_count, found.inf_count) == (0, 3)
    assert (found.min, found.max, found.norm, found.abs_mean) == (-math.inf, math.inf, math.inf, math.inf)
    assert math.isnan(found.mean)


def test_finite_numbers_whose_squares_overflow_or_vanish_have_a_norm() -> None:
    assert digest_of(np.array([3e200, -4e200])).norm == pytest.approx(5e200)
    assert digest_of(np.array([3e-200, -4e-200])).norm == pytest.approx(5e-200)
    huge = digest_of(np.full(4, 1.5e308))
    assert huge.mean == pytest.approx(1.5e308)
    assert (huge.min, huge.inf_count) == (1.5e308, 0)
    assert digest_of(np.zeros(3)).norm == 0.0


def test_integers_and_booleans_are_exact() -> None:
    found = digest_of(np.array([-(2**53), 5, 2**53], np.int64))
    assert (found.min, found.max, found.mean) == (-(2.0**53), 2.0**53, pytest.approx(5 / 3))
    found = digest_of(np.array([True, False, True, True]))
    assert (found.mean, found.min, found.max) == (0.75, 0.0, 1.0)


def test_complex_is_summarised_over_both_parts() -> None:
    found = digest_of(np.array([3 + 4j, -1 + 0j], np.complex64))
    assert (found.count, found.mean, found.abs_mean, found.min, found.max) == (2, 1.5, 2.0, -1.0, 4.0)
    assert found.norm == pytest.approx(math.sqrt(26))


def test_bfloat16_and_float8_are_decoded() -> None:
    assert digest_of(np.array([0x3F80, 0xC000], np.uint16), DType.BF16).mean == -0.5
    assert digest_of(np.array([0x38, 0x7F], np.uint8), DType.F8_E4M3).nan_count == 1
    assert digest_of(np.array([0x7C, 0x3C], np.uint8), DType.F8_E5M2).inf_count == 1


def test_an_empty_tensor_is_all_zeros() -> None:
    found = digest(np.empty(0, np.uint8), TensorSpec(DType.F32, (0, 3)))
    assert replace(found, hash=b"") == Digest(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, b"")
    assert len(found.hash) == 16


def test_a_scalar_has_one_element() -> None:
    assert digest_of(np.array(2.5)).mean == 2.5
    assert digest_of(np.array(2.5)).count == 1


def statistics_of(array: np.ndarray, statistics: Statistics) -> Digest:
    tensor = Tensor.from_array(array)
    return digest(np.frombuffer(tensor.data, np.uint8), tensor.spec, statistics)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.complex64])
@pytest.mark.parametrize(
    ("statistics", "held"),
    [(Statistics.MEAN, {"mean"}), (Statistics.ABS_MEAN, {"abs_mean"}), (Statistics.SIZES, {"norm"})],
)
def test_what_is_not_asked_for_is_left_out_and_the_rest_is_the_same(
    statistics: Statistics, held: set[str], dtype: type
) -> None:
    values = (10 * np.random.default_rng(0).normal(size=2 * BLOCK_ITEMS + 17)).astype(dtype)
    whole, found = digest_of(values), statistics_of(values, statistics)
    sums = {"mean", "abs_mean", "norm"}
    assert {name for name in sums if getattr(found, name) is not None} == held
    for name in held:
        rough = dtype is np.float32 and name == "norm"
        assert getattr(found, name) == pytest.approx(getattr(whole, name), rel=1e-5 if rough else 0.0)
    blank = dict.fromkeys(sums)
    assert replace(found, **blank) == replace(whole, **blank)


@pytest.mark.parametrize("statistics", list(Statistics))
def test_nan_and_infinities_are_counted_whatever_is_asked_for(statistics: Statistics) -> None:
    values = np.ones(2 * BLOCK_ITEMS, np.float32)
    values[3], values[BLOCK_ITEMS + 5], values[-1] = np.inf, np.nan, -np.inf
    found = statistics_of(values, statistics)
    assert (found.nan_count, found.inf_count) == (1, 2)
    assert math.isnan(found.min)
    assert math.isnan(found.max)
    assert not found.is_zero


@pytest.mark.parametrize("size", [1e-44, 1e-30, 1e-18, 1e-10, 1.0, 1e14, 1e17, 1e30, 3e38])
def test_norms_of_float32_neither_overflow_nor_vanish(size: float) -> None:
    values = (size * np.random.default_rng(0).uniform(-1.0, 1.0, 3 * BLOCK_ITEMS)).astype(np.float32)
    values[BLOCK_ITEMS : 2 * BLOCK_ITEMS] *= np.float32(1e-3)
    norm = np.linalg.norm(values.astype(np.float64))
    assert statistics_of(values, Statistics.SIZES).norm == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("place", [0, BLOCK_ITEMS + 5])
@pytest.mark.parametrize("statistics", list(Statistics))
def test_one_element_makes_a_tensor_that_is_not_zero(statistics: Statistics, place: int) -> None:
    values = np.zeros(BLOCK_ITEMS + 6, np.float32)
    values[1] = -0.0
    assert statistics_of(values, statistics).is_zero
    values[place] = -1e-45
    assert not statistics_of(values, statistics).is_zero
