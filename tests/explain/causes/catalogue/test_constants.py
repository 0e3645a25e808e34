"""Constant factors, offsets and signs."""

from __future__ import annotations

import pytest

from padiff_rpc.explain.causes.catalogue.constants import constants
from padiff_rpc.per_side import PerSide
from tests.explain.causes.seen import evidence, first, layers, random, rounded

X = random(8, 6, 64)


@pytest.mark.parametrize(
    ("raw", "name", "shown"),
    [
        (rounded(2 * X), "constant factor", "raw = 2.0000 x base, r = 1.000000"),
        (rounded(X / 8), "constant factor", "one over the root of the last axis, 64"),
        (rounded(-X), "sign", "raw = -1.0000 x base"),
        (rounded(X + 0.25), "offset", "raw = base +0.25 everywhere"),
        (rounded(X * (1 + random(64, seed=1))), "factor by channel", "one number for each of 64"),
        (rounded(X * (1 + 1e-5)), "constant factor", "raw = 1.00001 x base"),
    ],
)
def test_a_constant_is_found_with_its_value(raw, name, shown):
    cause = first(evidence(X, raw))

    assert name == cause.name
    assert shown in cause.evidence


def test_a_bias_that_is_missing_or_twice_is_named():
    bias = random(64, seed=2)
    held = {"q_bias": bias}

    assert "raw does not add 'q_bias'" == first(evidence(X + bias, rounded(X), parameters=held)).words
    assert "raw = base +1.000 x q_bias" == first(evidence(X + bias, rounded(X + 2 * bias), parameters=held)).evidence


def test_a_gradient_that_counts_twice_is_said_so():
    assert "the gradient counts twice in raw" == first(evidence(X, rounded(2 * X), "grads")).words


def test_statistics_that_move_further_show_a_factor_of_what_the_step_changed():
    before, to = random(32), random(32, seed=1)
    given = evidence(0.9 * before + 0.1 * to, 0.1 * before + 0.9 * to, "buffers", before=before)
    layer = layers("BatchNorm2D")
    other = PerSide(layer.base, layer.raw)

    (cause,) = constants(given)
    assert "what the step changed in raw = 9.0000 x what it changed in base" in cause.evidence
    assert other == layer


def test_a_few_elements_prove_nothing():
    assert [] == list(constants(evidence([1.0, 2.0], [2.0, 4.0])))
