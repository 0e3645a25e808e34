"""Lower precision inside."""

from __future__ import annotations

import numpy as np

from padiff_rpc.explain.causes.catalogue.precision import precision
from padiff_rpc.per_side import PerSide
from tests.explain.causes.seen import evidence, first, random

X = random(4, 6, 24)


def to_bfloat16(x):
    return (x.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64)


def test_values_on_the_grid_of_a_half_are_told():
    assert "raw computes in bfloat16 here" == first(evidence(X, to_bfloat16(X))).words
    assert "raw computes in float16 here" == first(evidence(X, X.astype(np.float16))).words


def test_in_float64_float32_is_told_by_its_grid_or_by_its_rounding():
    double = np.random.default_rng(0).standard_normal((8, 16))
    dtypes = PerSide("F64", "F64")
    inside = double * (1 + 3e-8 * random(8, 16, seed=2))

    assert "raw computes in float32 here" == first(evidence(double, double.astype(np.float32), dtypes=dtypes)).words
    assert "in float32 inside" in first(evidence(double, inside, dtypes=dtypes)).words


def test_whole_numbers_and_types_that_are_short_anyway_prove_nothing():
    counts = np.arange(48.0).reshape(6, 8)

    assert [] == list(precision(evidence(counts + 0.1, counts)))
    assert [] == list(precision(evidence(X, to_bfloat16(X), dtypes=PerSide("F32", "BF16"))))
