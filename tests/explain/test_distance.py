"""Distances of tensors: relative, by a factor, in few elements, over signs; and the precision that a tensor's numbers betray."""

from __future__ import annotations

import math

import numpy as np
import pytest

from padiff_rpc.explain.distance import distance, flipped_signs, narrowest, share_of_difference
from padiff_rpc.tensors.tensor import DType, Tensor

RANDOM = np.random.RandomState(0)
LONG = RANDOM.standard_normal(200_001)
"""Longer than three blocks."""


def tensor(array: object, dtype: DType | None = None) -> Tensor:
    return Tensor.from_array(np.asarray(array), dtype)


def test_it_is_the_norm_of_the_difference_over_that_of_base() -> None:
    found = distance(tensor(LONG), tensor(LONG * 1.001))
    assert found.relative() == pytest.approx(1e-3, rel=1e-9)
    assert found.factor == pytest.approx(1.001, rel=1e-12)
    assert found.rms == pytest.approx(np.sqrt(np.mean((LONG * 1.001) ** 2)))


def test_tensors_of_other_dtypes_are_compared_in_float64() -> None:
    assert 0 == distance(tensor([0.5, 1.5]), tensor(np.array([0.5, 1.5], np.float16))).relative()
    bits = np.array([0x3F80, 0x4000], np.uint16)
    assert 0 == distance(tensor([1.0, 2.0]), tensor(bits, DType.BF16)).relative()
    assert 0 == distance(tensor([True, False]), tensor([1.0, 0.0])).relative()


def test_zeros_are_near_zeros_only() -> None:
    zero, small = tensor([0.0, 0.0]), tensor([1e-17, 0.0])
    assert 0 == distance(zero, zero).relative()
    assert math.inf == distance(zero, small).relative()
    assert distance(zero, small).relative(least_rms=1e-4) < 1e-12
    assert 0 == distance(tensor(np.zeros((0, 3))), tensor(np.zeros((0, 3)))).relative()


def test_nan_and_lone_infinities_are_infinitely_far() -> None:
    plain, inf, nan = tensor([1.0, 2.0]), tensor([1.0, np.inf]), tensor([1.0, np.nan])
    assert math.inf == distance(plain, inf).relative()
    assert math.inf == distance(inf, tensor([1.0, -np.inf])).relative()
    assert math.inf == distance(plain, nan).relative()
    assert (math.inf, 1) == (distance(nan, nan).relative(), distance(nan, nan).nans)
    assert 0 == distance(inf, inf).relative()


def test_the_share_tells_few_elements_from_all() -> None:
    spread = share_of_difference(tensor(LONG), tensor(LONG + 1e-6 * RANDOM.standard_normal(LONG.size)))
    few = LONG.copy()
    few[[5, 70_000, 150_000]] += 0.1
    assert 0.3 < spread < 0.6
    assert 3 / LONG.size == share_of_difference(tensor(LONG), tensor(few))
    assert 0 == share_of_difference(tensor(LONG), tensor(LONG))


def test_flipped_signs_are_told_near_zero_and_elsewhere() -> None:
    base, raw, exact = [1e-8, -1e-8, 0.0, 2.0, -3.0], [-1e-8, -2e-8, 1e-8, 2.0, 3.0], [0.0, -1e-8, 1e-9, 2.0, -3.0]
    assert (2, 1) == flipped_signs(tensor(base), tensor(raw), tensor(exact), reach=1e-6)


def test_the_narrowest_precision_is_that_of_every_element() -> None:
    single = LONG.astype(np.float32)
    assert None is narrowest(tensor(LONG))
    assert DType.F32 is narrowest(tensor(single.astype(np.float64)))
    assert DType.F16 is narrowest(tensor(LONG.astype(np.float16).astype(np.float64)))
    cut = (single.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    assert DType.BF16 is narrowest(tensor(cut.astype(np.float64)))
    mixed = cut.astype(np.float64)
    mixed[-1] = 0.1
    assert None is narrowest(tensor(mixed))
