"""Clipped gradients, by the steps of all parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.clipping import clipping
from padiff_rpc.explain.causes.evidence import SeenStep
from padiff_rpc.per_side import PerSide
from tests.explain.causes.seen import evidence, first, random

GRADIENTS = [random(8, 16, seed=seed) * size for seed, size in enumerate((0.001, 0.1, 0.3, 1.0, 0.02))]
NORM = math.sqrt(sum(float((one**2).sum()) for one in GRADIENTS))


def by_norm(gradient):
    return gradient * min(1.0, 0.05 / float(np.linalg.norm(gradient)))


def case(base, raw):
    """Return the evidence of steps at a rate of 0.1 along what the two make of the gradients."""
    steps = [
        SeenStep(f"p{at}", PerSide(-0.1 * base(one), -0.1 * raw(one)), one, random(8, 16, seed=20 + at))
        for at, one in enumerate(GRADIENTS)
    ]
    before = steps[1].before
    moves = steps[1].moves
    return evidence(
        before + moves.base, before + moves.raw, "weights", before=before, gradient=GRADIENTS[1], steps=steps
    )


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (lambda g: g, "base clips the gradients by their global norm, raw does not"),
        (by_norm, "raw clips each parameter's gradient by its own norm, base has one factor for all"),
    ],
)
def test_the_kind_of_clipping_is_told_from_a_learning_rate(raw, words):
    assert words == first(case(lambda g: g * 0.05 / NORM, raw)).words


def test_elements_cut_off_are_found():
    assert (
        "raw clips each element of the gradients (by value), base does not"
        == first(case(lambda g: g * 0.05 / NORM, lambda g: np.clip(g, -0.05, 0.05))).words
    )


def test_nesterov_is_told_from_a_learning_rate():
    assert "base takes Nesterov's momentum, raw does not" == first(case(lambda g: 1.9 * g, lambda g: g)).words


def test_another_rate_and_a_random_difference_are_no_clipping():
    def unlike(gradient):
        return gradient + 0.1 * random(8, 16, seed=int(abs(gradient[0, 0]) * 1e6)) * np.abs(gradient).mean()

    assert () == tuple(clipping(case(lambda g: g, lambda g: 1.2345 * g)))
    assert () == tuple(clipping(case(lambda g: g, unlike)))
