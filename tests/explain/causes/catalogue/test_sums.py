"""Weighted sums of what a layer took and made inside."""

from __future__ import annotations

import numpy as np

from tests.explain.causes.seen import evidence, first, random, rounded

X, Y = random(4, 6, 16), random(4, 6, 16, seed=1)
SOURCES = {"input.0": X, "fc's output.0": Y, "drop's output.0": Y}


def test_a_residual_that_is_left_out_and_a_scale_that_is_missing_are_named():
    left_out = first(evidence(rounded(X + Y), rounded(Y), sources=SOURCES))
    unscaled = first(evidence(rounded(X + 0.5 * Y), rounded(X + Y), sources=SOURCES))

    assert ("weights of a sum", "input.0: 1.0000 in base, 0 in raw") == (left_out.name, left_out.evidence.split(";")[0])
    assert "drop's output.0: 0.5000 in base, 1.0000 in raw" in unscaled.evidence


def test_a_sum_that_both_sides_mask_is_found():
    mask = np.arange(4 * 6 * 16).reshape(4, 6, 16) % 3 > 0
    cause = first(evidence(mask * rounded(X + Y), mask * rounded(X - Y), sources=SOURCES))

    assert cause.evidence.startswith("drop's output.0: 1.0000 in base, -1.0000 in raw")


def test_a_sum_that_also_holds_something_else_is_no_sum_of_these():
    other = random(4, 6, 16, seed=5)
    given = evidence(rounded(X + Y + 0.1 * other), rounded(X + 0.5 * Y + 0.1 * other), sources=SOURCES)

    from padiff_rpc.explain.causes.catalogue.sums import weighted_sum

    assert () == weighted_sum(given)


def test_a_source_of_the_first_axes_alone_is_spread_over_the_others():
    image, channel = random(2, 8, 4, 4), random(2, 8, seed=3)
    sources = {"conv's output.0": image, "time's output.0": channel}
    cause = first(evidence(rounded(image + channel[..., None, None]), rounded(image), sources=sources))

    assert cause.evidence.startswith("time's output.0: 1.0000 in base, 0 in raw")
