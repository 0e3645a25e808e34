"""Losses, by what they send back to the outputs."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.loss_gradients import loss_gradients
from padiff_rpc.per_side import PerSide
from tests.explain.causes.seen import evidence, first, random, rounded

OUTPUT = random(2, 12, 7)
LABELS = np.random.default_rng(3).integers(0, 7, (2, 12))
LABELS[:, ::4] = -1


def cross_entropy(labels=LABELS, smoothing=0.0, count=None, extra=0.0):
    """Return the gradient of a mean over the positions with a label, and of a term that is another share of the softmax."""
    powers = np.exp(OUTPUT)
    softmax = powers / powers.sum(-1, keepdims=True)
    aim = (1 - smoothing) * np.eye(7)[np.maximum(labels, 0)] + smoothing / 7
    return ((softmax - aim) / (count or (labels >= 0).sum()) + extra * softmax) * (labels >= 0)[..., None]


def case(base, raw):
    return evidence(1.0, 2.0, "loss", output=OUTPUT, of_output=PerSide(rounded(base), rounded(raw, seed=8)))


def test_a_sum_for_a_mean_is_a_factor_with_its_number():
    cause = first(case(cross_entropy(), 18 * cross_entropy()))

    assert "raw sums the loss where base takes the mean (reduction), or divides less often" == cause.words
    assert "18.0000 x base's, which is the number of positions that have a gradient, 18" in cause.evidence


def test_a_factor_that_is_no_known_number_is_told_as_it_is():
    assert (
        "raw's gradient of the outputs = 0.3000 x base's, r = 1.000000"
        == first(case(cross_entropy(), 0.3 * cross_entropy())).evidence
    )


def test_smoothing_and_shifted_labels_and_ignored_positions_are_found():
    shifted = np.concatenate([LABELS[:, :1], LABELS[:, :-1]], axis=1)
    masked = np.where(np.arange(12) < 6, LABELS, -1)

    assert (
        "label smoothing of 0.100 in base and of 0 in raw"
        == first(case(cross_entropy(smoothing=0.1), cross_entropy())).words
    )
    assert "the labels are shifted by +1 position in raw" == first(case(cross_entropy(), cross_entropy(shifted))).words
    assert "raw ignores positions that base counts" in first(case(cross_entropy(), cross_entropy(masked))).words


def test_another_denominator_beside_a_second_term_is_found():
    cause = first(case(cross_entropy(extra=1e-2), cross_entropy(count=24, extra=1e-2)))

    assert "another denominator" in cause.words
    assert "each label weighs 1 / 18 in base and 1 / 24 in raw" in cause.evidence


@pytest.mark.parametrize("size", [0.01, 1.0])
def test_a_random_difference_has_no_cause(size):
    base = cross_entropy()
    noise = random(2, 12, 7, seed=4) * np.abs(base).mean() * size * (LABELS >= 0)[..., None]

    assert () == tuple(loss_gradients(case(base, base + noise)))


def test_a_loss_that_only_a_constant_is_added_to_is_told():
    assert "constant" in first(case(cross_entropy(), cross_entropy())).words
