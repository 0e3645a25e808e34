"""Sketches: the distance of two tensors, told from 127 sums of each."""

from __future__ import annotations

import math

import numpy as np
import pytest

from padiff_rpc.tensors.sketch import distance, sketch
from padiff_rpc.tensors.tensor import DType, Tensor


def sketch_of(array: np.ndarray, dtype: DType | None = None) -> np.ndarray:
    tensor = Tensor.from_array(array, dtype)
    return sketch(tensor.stream("x").chunks, tensor.spec)


@pytest.mark.parametrize("shape", [(1,), (127,), (768,), (64, 129), (700, 1024)])
def test_a_small_distance_is_told_within_a_quarter(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    one = rng.standard_normal(shape).astype(np.float32)
    other = np.nextafter(one, np.where(rng.integers(0, 2, shape), np.inf, -np.inf).astype(np.float32))
    true = float(np.linalg.norm((other.astype(np.float64) - one).ravel()))
    assert distance(sketch_of(one), sketch_of(other)) == pytest.approx(true, rel=0.25)


@pytest.mark.parametrize("where", [(slice(None), 5), (7, slice(None)), (slice(0, 3), slice(0, 40))])
def test_a_distance_in_one_channel_or_row_is_told(where: tuple[int | slice, ...]) -> None:
    one = np.random.default_rng(7).standard_normal((900, 1024)).astype(np.float32)
    other = one.copy()
    other[where] += 1e-3
    true = float(np.linalg.norm((other.astype(np.float64) - one).ravel()))
    assert distance(sketch_of(one), sketch_of(other)) == pytest.approx(true, rel=0.5)


def test_equal_tensors_have_no_distance_and_nan_none_that_is_a_number() -> None:
    one = np.arange(300, dtype=np.float32)
    broken = one.copy()
    broken[100] = np.nan
    assert distance(sketch_of(one), sketch_of(one.copy())) == 0.0
    assert math.isnan(distance(sketch_of(one), sketch_of(broken)))
