"""Gradients that are lost."""

from __future__ import annotations

import numpy as np

from padiff_rpc.explain.causes.catalogue.gradients import tied_parameter
from padiff_rpc.per_side import PerSide
from tests.explain.causes.seen import evidence, first, random


def test_a_gradient_that_does_not_come_and_one_that_is_zero_are_told():
    missing = first(evidence(stage="grads", failure="missing", why="no gradient for fc.weight in raw"))
    cut = first(evidence(random(4, 5), np.zeros((4, 5)), "backward"))

    assert ("missing gradient", "no gradient for fc.weight in raw") == (missing.name, missing.evidence)
    assert "raw's gradient is zero: it is cut off, or masked" == cut.words


def test_a_parameter_that_is_tied_on_one_side_alone_is_found():
    base, raw = random(8, 4), random(8, 4, seed=1)
    tied = PerSide(("embed.weight", "head.weight"), ("embed.weight",))

    cause = first(evidence(base, raw, "grads", tied=tied))

    assert cause.words.startswith("the parameter is tied (shared between layers) in base")
    assert () == tuple(tied_parameter(evidence(base, raw, "grads", tied=PerSide(("a", "b"), ("c", "d")))))
