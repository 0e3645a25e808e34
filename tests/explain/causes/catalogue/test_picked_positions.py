"""Positions that are picked out of a tensor."""

from __future__ import annotations

import numpy as np

from padiff_rpc.explain.causes.catalogue.picked_positions import picked_positions
from tests.explain.causes.seen import evidence, first, random, rounded

X = random(3, 8, 16)
SOURCES = {"input.0": X}
BASE = X[np.arange(3), [6, 4, 2]]


def test_positions_one_further_and_a_mean_are_told():
    further = first(evidence(BASE, X[np.arange(3), [7, 5, 3]], sources=SOURCES))
    mean = first(evidence(BASE, rounded(X.mean(1)), sources=SOURCES))

    assert "raw takes the position one further, a shift of the index" == further.words
    assert "of input.0, base takes positions [6, 4, 2], raw positions [7, 5, 3]" == further.evidence
    assert "raw takes the mean over the positions, base one of them" == mean.words


def test_a_random_difference_has_no_cause():
    assert () == picked_positions(evidence(BASE, BASE + 0.1 * random(3, 16, seed=4), sources=SOURCES))
