"""The padding row of embeddings."""

from __future__ import annotations

import numpy as np

from tests.explain.causes.seen import evidence, first, layers, random

TABLE = random(20, 8)
IDS = np.random.default_rng(0).integers(0, 20, (4, 6)).astype(np.float64)
IDS[0, 4:] = 0


def test_zeros_at_padding_idx_are_named_with_paddles_habit():
    base = TABLE[IDS.astype(int)]
    raw = np.where(IDS[..., None] == 0, 0.0, base)

    cause = first(evidence(base, raw, ids={"input_ids": IDS}, layers=layers("Embedding")))
    assert "padding_idx" == cause.name
    assert "paddle returns zeros at padding_idx, torch the row" in cause.words


def test_a_row_that_one_side_alone_trains_is_named():
    gradient = random(20, 8, seed=3)
    base = gradient.copy()
    base[0] = 0

    grads = first(evidence(base, gradient, "grads", layers=layers("Embedding")))
    weights = first(
        evidence(TABLE - 0.1 * base, TABLE - 0.1 * gradient, "weights", before=TABLE, layers=layers("Embedding"))
    )
    assert "base treats index 0 as padding (padding_idx), raw trains its row" == grads.words == weights.words
    assert "the update of row 0 is zero in base and is not in raw" in weights.evidence
