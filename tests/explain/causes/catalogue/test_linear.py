"""Products with the layer's matrix."""

from __future__ import annotations

from tests.explain.causes.seen import evidence, first, random, rounded

X, W, B = random(5, 7, 16), random(16, 16, seed=1), random(16, seed=2)


def test_a_square_matrix_that_is_not_transposed_is_found():
    held = {"weight": W, "bias": B}
    given = evidence(rounded(X @ W.T + B), rounded(X @ W + B), sources={"input.0": X}, parameters=held)

    assert "base computes x @ weight transposed + bias, raw computes x @ weight + bias" == first(given).words
