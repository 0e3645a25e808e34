"""Differences that lie in a part alone."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.parts import parts
from tests.explain.causes.seen import evidence, first, layers, random

X = random(4, 6, 24)


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ((slice(None), -1), "only the last index of axis 1 differs"),
        ((slice(None), slice(0, 2)), "only indices 0 to 1 of axis 1 differ"),
        ((slice(None), slice(None), slice(12, 18)), "only head 2 (of 4) of axis 2 differ"),
    ],
)
def test_the_part_is_named(where, words):
    raw = X.copy()
    raw[where] += random(*X.shape, seed=4)[where]

    assert words in first(evidence(X, raw, layers=layers("Attention", num_heads=4))).words


def test_masked_positions_are_told_by_their_mask():
    mask = np.ones((4, 6))
    mask[0, 4:] = mask[2, 3:] = 0
    raw = np.where(mask[..., None] == 0, random(*X.shape, seed=4), X)

    cause = first(evidence(X, raw, ids={"attention_mask": mask}))
    assert "only positions where attention_mask is 0 differ" == cause.words
    cause = first(evidence(X * mask[..., None], X, ids={"attention_mask": mask}))
    assert cause.evidence.endswith("; there base is zero")


def test_what_both_sides_mask_is_no_part_that_agrees():
    mask = np.ones((4, 6))
    mask[0, 4:] = 0
    masked = X * mask[..., None]

    assert () == parts(evidence(masked, masked * random(*X.shape, seed=4), ids={"attention_mask": mask}))


def test_a_difference_everywhere_lies_in_no_part():
    assert () == parts(evidence(X, X + 1e-4 * random(*X.shape, seed=4), ids={"ids": np.zeros((4, 6))}))
