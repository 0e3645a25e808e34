"""Losses over another number of elements."""

from __future__ import annotations

import numpy as np

from padiff_rpc.explain.causes.catalogue.loss_reduction import ignored_targets
from tests.explain.causes.seen import evidence, first

LABELS = np.arange(16.0).reshape(2, 8)
LABELS[0, 2:] = -100


def test_a_mean_over_the_ignored_targets_too_is_found():
    cause = first(evidence(2.5, 2.5 * 10 / 16, "loss", ids={"labels": LABELS}))

    assert "base divides the loss by the counted targets alone" in cause.words
    assert "10 of 16 values of labels are not -100" in cause.evidence


def test_a_sum_for_a_mean_is_found_and_any_other_ratio_is_not():
    assert (
        "raw sums the loss, the other side takes the mean"
        == first(evidence(0.5, 8.0, "loss", ids={"labels": LABELS})).words
    )
    assert () == ignored_targets(evidence(2.5, 2.6, "loss", ids={"labels": LABELS}))
