"""Attention computed anew."""

from __future__ import annotations

import math

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.attention_variants import attention
from tests.explain.causes.seen import evidence, first, layers, random, rounded

Q, K, V = (random(2, 7, 32, seed=seed) for seed in range(3))


def attend(q, k, v, heads=4, scale=None, causal=False, groups=None):
    split = [x.reshape(2, 7, -1, 32 // heads).transpose(0, 2, 1, 3) for x in (q, k, v)]
    if groups is not None:
        split[1:] = [groups(x) for x in split[1:]]
    q, k, v = split
    scores = q @ k.transpose(0, 1, 3, 2) * (scale or 1 / math.sqrt(32 // heads))
    if causal:
        scores = np.where(np.tril(np.ones((7, 7))) > 0, scores, -1e30)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return rounded((weights @ v).transpose(0, 2, 1, 3).reshape(2, 7, 32))


def case(base, raw, k=K, v=V):
    sources = {"q's output.0": Q, "k's output.0": k, "v's output.0": v}
    return evidence(base, raw, sources=sources, layers=layers("Attention", num_heads=4))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (attend(Q, K, V, scale=1.0), "attention's scale: 1 / sqrt(head_dim) in base, 1 in raw"),
        (attend(Q, K, V, causal=True), "attention's mask: no causal mask in base, causal in raw"),
        (attend(K, Q, V), "attention's roles: queries, keys, values in this order in base, keys and queries swapped in raw"),
        (attend(Q, K, V, heads=8), "attention's number of heads: 4 in base, 8 in raw"),
        (
            attend(Q, K, np.roll(V, 16, axis=-1)),
            "attention's heads: heads in order in base, those of v rotated by 2 in raw",
        ),
    ],
)
def test_the_one_thing_that_differs_is_named(raw, words):
    assert words == first(case(attend(Q, K, V), raw)).words


def test_shared_keys_repeated_in_the_wrong_order_are_found():
    k, v = K[..., :16], V[..., :16]
    base = attend(Q, k, v, groups=lambda x: np.repeat(x, 2, axis=1))
    raw = attend(Q, k, v, groups=lambda x: np.tile(x, (1, 2, 1, 1)))

    assert "all key heads repeated in turn in raw" in first(case(base, raw, k, v)).words


def test_an_attention_that_is_off_otherwise_is_not_explained():
    base = attend(Q, K, V)

    assert () == attention(case(base, base + 0.1 * random(2, 7, 32, seed=7)))
