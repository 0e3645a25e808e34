"""Masks are compared by the positions that they mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.compare.forms import digested
from padiff_rpc.compare.masks import compare_masks, may_be_masks
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.compare.standard import Standard
from padiff_rpc.result import Verdict
from padiff_rpc.tensors.tensor import DType, Tensor

STANDARD = Standard(CompareRules(), "forward", False)
AT = np.array([[False, False, True], [False, True, True]])
OTHERWISE = Verdict.skip("other forms")


def added(at: np.ndarray, value: float, dtype: Any = np.float32) -> np.ndarray:
    return np.where(at, value, 0.0).astype(dtype)


def may(base: np.ndarray, raw: np.ndarray) -> bool:
    (one, mine), (other, theirs) = (digested(Tensor.from_array(each)) for each in (base, raw))
    return may_be_masks(one.spec, mine, other.spec, theirs)


def verdict(base: np.ndarray, raw: np.ndarray, otherwise: Verdict | None = OTHERWISE) -> Verdict | None:
    assert may(base, raw)
    return compare_masks(Tensor.from_array(base), Tensor.from_array(raw), STANDARD, otherwise)


LARGE = [-np.inf, -1e4, -3.4e38, float(np.finfo(np.float32).min), -1e9, -100.0]


@pytest.mark.parametrize("value", LARGE)
def test_any_large_negative_number_masks(value: float) -> None:
    found = verdict(added(AT, -1e4), added(AT, value))
    assert found is not None
    assert ("pass", "compared as masks: both mark 3 of 6 positions") == (found.status, found.why)


@pytest.mark.parametrize("value", LARGE)
def test_another_position_fails_and_is_counted(value: float) -> None:
    other = AT.copy()
    other[0, 1] = True
    found = verdict(added(AT, -1e4), added(other, value))
    assert found is not None
    assert ("fail", "values") == (found.status, found.failure)
    assert "masks other positions: 1 of 6 positions differ, the first at [0, 1], which raw alone marks" == found.why


def test_the_least_number_of_a_half_and_a_sum_of_masks_mask() -> None:
    least = added(AT, float(np.finfo(np.float16).min), np.float16)
    found = verdict(least, added(AT, -1e9) + added(AT, -1e9))
    assert found is not None
    assert "pass" == found.status


def test_flags_of_several_types_are_one_mask() -> None:
    found = verdict(AT, AT.astype(np.int8))
    assert found is not None
    assert ("pass", "compared as masks: both mark 3 of 6 positions") == (found.status, found.why)


def test_inverted_flags_fail_and_say_so() -> None:
    found = verdict(AT, ~AT)
    assert found is not None
    assert ("fail", "the mask is inverted: it is set on each side where the other's is not") == (
        found.status,
        found.why,
    )


@pytest.mark.parametrize("flags", [AT, ~AT])
def test_flags_against_numbers_do_not_pass_since_a_flag_may_mask_or_keep(flags: np.ndarray) -> None:
    found = verdict(flags, added(AT, -np.inf))
    assert found is not None
    assert (
        "skipped",
        "masks in different forms, which tell the same positions: BOOL[2, 3] in base, F32[2, 3] in raw",
    ) == (
        found.status,
        found.why,
    )


def test_flags_against_numbers_at_other_positions_fail() -> None:
    other = AT.copy()
    other[1, 0] = True
    found = verdict(other, added(AT, -np.inf))
    assert found is not None
    assert "fail" == found.status
    assert "1 of 6 positions differ, the first at [1, 0], which base alone marks" in found.why


def test_a_mask_of_another_width_is_broadcast_or_cut() -> None:
    wide = added(np.stack([AT, AT])[:, None], -np.inf)
    found = verdict(added(AT, -1e4)[None, None], wide)
    assert found is not None
    assert "pass" == found.status
    triangle = np.triu(np.ones((8, 8), bool), 1)
    found = verdict(added(triangle, -np.inf), added(triangle[:5, :5], -1e4))
    assert found is not None
    assert ("pass", "compared as masks: both mark 10 of the 25 positions that both have") == (found.status, found.why)
    shifted = np.triu(np.ones((5, 5), bool))
    found = verdict(added(triangle, -np.inf), added(shifted, -1e4))
    assert found is not None
    assert "5 of the 25 positions that both have differ, the first at [0, 0], which raw alone marks" in found.why


def test_shapes_that_have_nothing_in_common_are_not_compared() -> None:
    assert verdict(AT, np.ones((7, 2, 3, 4), np.int64)) is OTHERWISE


def test_what_holds_other_numbers_is_no_mask() -> None:
    scores = added(AT, -1e4)
    scores[0, 0] = -3.0
    assert verdict(scores, added(AT, -1e4), None) is None


@pytest.mark.parametrize(
    "other",
    [added(AT, -50.0), added(AT, 1e4), np.zeros((2, 3), np.float32), added(AT, np.nan), AT.astype(np.int64) * 3],
)
def test_neither_small_numbers_nor_large_ones_nor_zeros_mask(other: np.ndarray) -> None:
    assert not may(added(AT, -1e4), other)


def test_numbers_of_0_and_1_in_one_form_are_compared_plainly() -> None:
    assert not may(AT.astype(np.int64), (~AT).astype(np.int64))


def test_a_mask_in_bfloat16_is_read() -> None:
    bits = (added(AT, -1e9).view(np.uint32) >> 16).astype(np.uint16)
    found = compare_masks(Tensor.from_array(bits, DType.BF16), Tensor.from_array(added(AT, -np.inf)), STANDARD, None)
    assert found is not None
    assert "pass" == found.status


ALL = np.ones((2, 3), np.float32)
NONE = np.zeros((2, 1, 1, 3), np.float32)


def test_a_mask_that_keeps_all_and_one_that_adds_nothing_tell_the_same() -> None:
    found = verdict(ALL, NONE)
    assert found is not None
    assert "skipped" == found.status
    assert "masks in different forms, which tell the same positions" in found.why


def test_a_mask_that_adds_something_is_told_from_one_that_keeps_all() -> None:
    other = NONE.copy()
    other[1, 0, 0, 2] = -1e4
    found = verdict(ALL, other, None)
    assert found is not None
    assert "fail" == found.status


def test_zeros_in_one_shape_are_numbers_and_no_mask() -> None:
    assert not may(ALL, np.zeros_like(ALL))


# -- scores to which a mask was added -------------------------------------------------------------------------------------
SCORES = np.array([[0.5, -2.0, 1.0], [3.0, -0.25, 0.125]], np.float32)


def scores(value: float, at: np.ndarray = AT, change: float = 0.0) -> np.ndarray:
    return (SCORES + np.float32(change) + np.where(at, value, 0.0)).astype(np.float32)


@pytest.mark.parametrize("value", [-np.inf, -3.4e38, -1e9])
def test_scores_are_compared_where_no_mask_was_added(value: float) -> None:
    found = verdict(scores(-1e4), scores(value))
    assert found is not None
    assert ("pass", "compared where neither side masks: both mask 3 of 6 positions") == (found.status, found.why)


def test_scores_that_differ_where_no_mask_was_added_fail() -> None:
    found = verdict(scores(-1e4), scores(-np.inf, change=0.01))
    assert found is not None
    assert ("fail", "values") == (found.status, found.failure)
    assert "both mask 3 of 6 positions" in found.why


def test_scores_that_are_masked_elsewhere_fail_and_tell_where() -> None:
    other = AT.copy()
    other[0, 0] = True
    found = verdict(scores(-1e4), scores(-1e4, other))
    assert found is not None
    assert "fail" == found.status
    assert "1 of 6 positions differ, the first at [0, 0], which raw alone marks" in found.why


def test_numbers_that_run_on_to_large_ones_are_no_masked_scores() -> None:
    """Nothing tells them from numbers that a mask made."""
    ramp = np.array([-5000.0, -2000.0, -500.0, 1.0], np.float32)
    assert verdict(ramp, ramp * 2) is OTHERWISE
    assert not may(ramp, -ramp)
