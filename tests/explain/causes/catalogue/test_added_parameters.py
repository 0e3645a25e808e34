"""Parameters that are added otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.added_parameters import added_parameter
from tests.explain.causes.seen import evidence, first, random, rounded

X, TABLE = random(3, 10, 8), random(1, 10, 8, seed=2)
HELD = {"position": TABLE}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (X + np.roll(TABLE, 1, 1), "raw adds 'position' shifted by +1 position"),
        (X, "raw does not add 'position': it is missing"),
        (np.roll(X, -1, 1) + TABLE, "what 'position' is added to is shifted by -1 position in raw (order)"),
        (
            X[:, [0, *(1 + np.arange(9).reshape(3, 3).T.reshape(-1))]] + TABLE,
            "what 'position' is added to has its rows and columns swapped in raw (order of positions)",
        ),
    ],
)
def test_how_it_is_added_is_named(raw, words):
    assert words == first(evidence(rounded(X + TABLE), rounded(raw, seed=3), parameters=HELD)).words


def test_a_random_difference_has_no_cause():
    assert () == added_parameter(evidence(X + TABLE, X + TABLE + random(3, 10, 8, seed=7), parameters=HELD))
