"""Interpolation and pooling."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.resampling import INTERPOLATIONS
from tests.explain.causes.seen import evidence, first, layers, random, rounded

X = random(2, 3, 7, 5)
NAMES = list(INTERPOLATIONS)


def resized(name, size=(11, 8)):
    rows, columns = (INTERPOLATIONS[name](a, b) for a, b in zip(X.shape[2:], size, strict=True))
    return rounded(np.matmul(np.matmul(rows, X), columns.T))


@pytest.mark.parametrize(
    ("base", "raw"), [(NAMES[0], NAMES[1]), (NAMES[0], NAMES[5]), (NAMES[2], NAMES[6]), (NAMES[3], NAMES[0])]
)
def test_another_interpolation_is_named(base, raw):
    cause = first(evidence(resized(base), resized(raw), sources={"pool's output.0": X}))

    assert f"base computes {base}, raw computes {raw}" == cause.words


def test_padding_that_counts_in_a_pooling_is_named():
    x = random(2, 3, 8, 8)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    ones = np.pad(np.ones_like(x), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = [
        sum(array[:, :, i : i + 8 : 2, j : j + 8 : 2] for i in range(3) for j in range(3)) for array in (padded, ones)
    ]
    given = evidence(
        rounded(windows[0] / 9),
        rounded(windows[0] / windows[1]),
        sources={"input.0": x},
        layers=layers("AvgPool2D", kernel_size=3, stride=2, padding=1),
    )

    assert "base computes avg_pool of 3 that counts the padding" in first(given).words
    assert "raw computes avg_pool of 3 that leaves the padding out" in first(given).words
