"""Perturbing by the last bit: small, in both directions, and undone by doing it again."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.tensors.perturb import can_perturb, perturb
from padiff_rpc.tensors.tensor import DType

TYPES = {DType.F64: np.uint64, DType.F32: np.uint32, DType.F16: np.uint16, DType.BF16: np.uint16}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("seed", [0, 3, -2])
def test_twice_is_never_for_every_pattern_of_bits(dtype: DType, seed: int) -> None:
    kind = TYPES[dtype]
    items = np.random.default_rng(1).integers(0, np.iinfo(kind).max, 200_001, dtype=kind, endpoint=True)
    before = items.copy()
    perturb(items.view(np.uint8), dtype, seed)
    assert (items != before).mean() > 0.9
    perturb(items.view(np.uint8), dtype, seed)
    assert np.array_equal(items, before)


def test_each_element_moves_to_a_neighbour_half_of_them_up() -> None:
    values = np.full(100_000, 1.0, np.float32)
    moved = values.copy()
    perturb(moved.view(np.uint8), DType.F32, 5)
    assert set(np.unique(moved)) == {
        np.nextafter(np.float32(1), np.float32(0)),
        np.nextafter(np.float32(1), np.float32(2)),
    }
    assert (moved > 1).mean() == pytest.approx(0.5, abs=0.02)


def test_what_is_no_normal_number_stays() -> None:
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, np.finfo(np.float32).max], np.float32)
    moved = values.copy()
    for seed in range(20):
        perturb(moved.view(np.uint8), DType.F32, seed)
        assert np.isfinite(moved[6])
        assert np.array_equal(moved[:6].view(np.uint32), values[:6].view(np.uint32))
        perturb(moved.view(np.uint8), DType.F32, seed)


def test_integers_are_left_alone() -> None:
    values = np.arange(9)
    perturb(values.view(np.uint8), DType.I64, 1)
    assert not can_perturb(DType.I64)
    assert np.array_equal(values, np.arange(9))
