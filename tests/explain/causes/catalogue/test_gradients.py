"""Gradients that are lost."""

from __future__ import annotations

import numpy as np

from tests.explain.causes.seen import evidence, first, random


def test_a_gradient_that_does_not_come_and_one_that_is_zero_are_told():
    missing = first(evidence(stage="grads", failure="missing", why="no gradient for fc.weight in raw"))
    cut = first(evidence(random(4, 5), np.zeros((4, 5)), "backward"))

    assert ("missing gradient", "no gradient for fc.weight in raw") == (missing.name, missing.evidence)
    assert "raw's gradient is zero: it is cut off, or masked" == cut.words
