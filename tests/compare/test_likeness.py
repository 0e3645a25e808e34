"""Tensors that carry the same numbers are known by their digests."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.compare.forms import digested
from padiff_rpc.compare.likeness import carry_alike
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.compare.standard import Standard
from padiff_rpc.tensors.tensor import Tensor

X = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)


def alike(base: np.ndarray, raw: np.ndarray) -> bool:
    (one, mine), (other, theirs) = (digested(Tensor.from_array(each)) for each in (base, raw))
    return carry_alike(one.spec, mine, other.spec, theirs, Standard(CompareRules(), "forward", False))


def test_the_same_numbers_in_another_order_are_alike() -> None:
    assert alike(X, X.T)
    assert alike(X, np.sort(X.reshape(-1)) * np.float32(1 + 1e-6))


@pytest.mark.parametrize(
    "other",
    [X * 1.001, -X, np.maximum(X, 0), X[:3], np.where(X == X.max(), 0, X), np.full_like(X, np.nan), X.astype(np.int64)],
)
def test_other_numbers_are_not(other: np.ndarray) -> None:
    assert not alike(X, other.astype(other.dtype if other.dtype == np.int64 else np.float32))


def test_one_number_repeated_tells_nothing() -> None:
    assert not alike(np.ones((2, 3), np.float32), np.ones((3, 2), np.float32))
