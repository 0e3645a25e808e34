"""Which shapes are forms of one tensor."""

from __future__ import annotations

import pytest

from padiff_rpc.compare.forms import are_regrouped, is_broadcast


@pytest.mark.parametrize(
    ("base", "raw"),
    [
        ((2, 5, 8), (10, 8)),
        ((10, 8), (2, 5, 8)),
        ((2, 4, 5, 5), (8, 5, 5)),
        ((1, 3, 8), (3, 8)),
        ((3, 1, 8), (3, 8)),
        ((2, 3, 4), (6, 4)),
        ((2, 3, 4), (24,)),
        ((), (1, 1)),
        ((2, 3, 20), (6, 4, 5)),
    ],
)
def test_merged_and_split_neighbours_and_axes_of_one_are_regrouped(base: tuple[int, ...], raw: tuple[int, ...]) -> None:
    assert are_regrouped(base, raw)
    assert are_regrouped(raw, base)


@pytest.mark.parametrize(
    ("base", "raw"),
    [
        ((2, 3), (3, 2)),
        ((2, 3), (2, 4)),
        ((2, 3), (2, 3, 2)),
        ((4, 6), (6, 4)),
        ((4, 6), (3, 8)),
        ((3, 1, 8), (3, 8, 1)),
        ((1, 8), (8, 1)),
    ],
)
def test_what_may_be_a_transpose_is_not(base: tuple[int, ...], raw: tuple[int, ...]) -> None:
    assert not are_regrouped(base, raw)


@pytest.mark.parametrize(
    ("narrow", "wide"), [((1, 5, 8), (3, 5, 8)), ((5, 8), (3, 5, 8)), ((1, 1, 8), (3, 5, 8)), ((), (2,))]
)
def test_what_is_repeated_is_broadcast(narrow: tuple[int, ...], wide: tuple[int, ...]) -> None:
    assert is_broadcast(narrow, wide)
    assert not is_broadcast(wide, narrow)


@pytest.mark.parametrize(
    ("narrow", "wide"), [((3, 5), (3, 5)), ((3, 8), (3, 5, 8)), ((1, 5, 8), (3, 1, 8)), ((1, 0), (4, 0)), ((2,), (4,))]
)
def test_equal_shapes_and_others_are_not(narrow: tuple[int, ...], wide: tuple[int, ...]) -> None:
    assert not is_broadcast(narrow, wide)
