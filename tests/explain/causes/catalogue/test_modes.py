"""Dropout and modes."""

from __future__ import annotations

import numpy as np

from padiff_rpc.explain.causes.catalogue.modes import modes
from tests.explain.causes.seen import evidence, first, layers, random, rounded

X = random(8, 6, 48)
KEPT = np.random.default_rng(1).random(X.shape) > 0.1


def test_dropouts_zeros_and_factor_show_it_active():
    cause = first(evidence(X, rounded(np.where(KEPT, X / 0.9, 0.0))))

    assert ("active dropout", "a dropout is active in raw alone") == (cause.name, cause.words)


def test_two_draws_of_one_dropout_are_told():
    other = np.random.default_rng(2).random(X.shape) > 0.1
    cause = first(evidence(np.where(KEPT, X / 0.9, 0.0), np.where(other, X / 0.9, 0.0)))

    assert "both sides drop elements, each by its own random numbers" == cause.words


def test_the_factor_of_downscale_in_infer_is_told_by_the_rate():
    cause = first(evidence(X, rounded(0.7 * X), layers=layers("Dropout", p=0.3)))

    assert "downscale_in_infer" == cause.name
    assert "constant factor" == first(evidence(X, rounded(0.7 * X), layers=layers("Linear"))).name


def test_two_modes_are_a_cause_of_layers_that_heed_them_alone():
    given = layers("BatchNorm1D", raw_training=True)

    assert "raw trains and base evaluates" == first(evidence(layers=given)).words
    assert () == modes(evidence(layers=layers("Linear", raw_training=True)))


def test_zeros_of_a_relu_are_no_dropout():
    assert () == modes(evidence(X, np.maximum(X, 0.0)))
