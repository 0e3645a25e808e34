"""NaN, overflow and bounds."""

from __future__ import annotations

import numpy as np

from tests.explain.causes.seen import evidence, first, random

X = random(4, 6, 24)


def with_at(where, value):
    made = X.copy()
    made[where] = value
    return made


def test_nan_on_one_side_is_told_and_whole_rows_of_it_are_a_softmax_over_nothing():
    assert "NaN or Inf first shows here, in raw" == first(evidence(X, with_at((0, 0, 0), np.nan))).words
    assert "raw makes NaN of whole rows" in first(evidence(X, with_at((0, 1), np.nan))).words


def test_inf_where_the_other_side_is_beyond_a_half_is_overflow():
    assert (
        "raw overflows the range of float16"
        == first(evidence(with_at((0, 0, 0), 7e4), with_at((0, 0, 0), np.inf))).words
    )


def test_values_cut_off_at_a_bound_are_found():
    cause = first(evidence(X, np.clip(X, -1.5, 1.5)))

    assert ("saturation", "raw cuts values off at -1.5 and 1.5") == (cause.name, cause.words)
