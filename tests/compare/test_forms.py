"""Which shapes are forms of one tensor."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.compare.forms import are_regrouped, in_order, is_broadcast, orders_of_axes, told_order
from padiff_rpc.tensors.tensor import Tensor


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


def test_orders_of_axes_bring_one_shape_into_the_other() -> None:
    assert [(0, 2, 1)] == list(orders_of_axes((2, 4, 3), (2, 3, 4)))
    assert [(0, 2, 3, 1)] == list(orders_of_axes((2, 3, 5, 6), (2, 5, 6, 3)))
    assert [(1, 0)] == list(orders_of_axes((4, 4), (4, 4)))
    assert [] == list(orders_of_axes((2, 3), (2, 3)))


def test_axes_that_are_merged_in_another_order_have_orders() -> None:
    assert [(0, 2, 3, 1), (0, 3, 2, 1)] == list(orders_of_axes((2, 3, 5, 7), (2, 35, 3)))
    assert [(0, 2, 1), (2, 0, 1)] == list(orders_of_axes((2, 3, 5), (10, 3)))
    assert [] == list(orders_of_axes((2, 35, 3), (2, 3, 5, 7)))
    assert (0, 2, 1, 3) in list(orders_of_axes((2, 3, 5, 5), (2, 15, 5)))
    array = np.arange(30, dtype=np.float32).reshape(2, 3, 5)
    merged = in_order(Tensor.from_array(array), (0, 2, 1), (10, 3)).to_array()
    assert np.array_equal(array.transpose(0, 2, 1).reshape(10, 3), merged)
    assert "the axes are in another order: raw's are base's 0, 2, 1, some of them merged" == told_order(
        (0, 2, 1), "raw"
    )


def test_axes_of_one_move_nothing() -> None:
    assert [] == list(orders_of_axes((1, 4, 1), (1, 4, 1)))


@pytest.mark.parametrize(("base", "raw"), [((2, 3), (2, 3, 1)), ((2, 3), (2, 4)), ((2,) * 6, (2,) * 6)])
def test_other_sizes_and_many_axes_have_no_orders(base: tuple[int, ...], raw: tuple[int, ...]) -> None:
    assert [] == list(orders_of_axes(base, raw))


def test_an_order_is_told_in_words_and_carried_out() -> None:
    assert "axes 1 and 2 are swapped" == told_order((0, 2, 1))
    assert "the axes are in another order: base's are raw's 0, 2, 3, 1" == told_order((0, 2, 3, 1))
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    turned = in_order(Tensor.from_array(array), (0, 2, 1), (2, 4, 3)).to_array()
    assert np.array_equal(array.transpose(0, 2, 1), turned)
