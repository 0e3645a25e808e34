"""Attention computed anew."""

from __future__ import annotations

import math
from dataclasses import replace

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
        (
            attend(K, Q, V),
            "attention's roles: queries, keys, values in this order in base, keys and queries swapped in raw",
        ),
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


PADDING = np.where(np.arange(7) < np.array([5, 7])[:, None], 0.0, -1e4)[:, None, None]


def masked(mask=PADDING, scale=8**-0.5, round_to=None, keep=None):
    q, k, v = (x.reshape(2, 7, 4, 8).transpose(0, 2, 1, 3) for x in (Q, K, V))
    scores = q @ k.transpose(0, 1, 3, 2) * scale + mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    if round_to:
        weights = weights.astype(round_to).astype(float)
    if keep is not None:
        weights = weights * keep
    return rounded((weights @ v).transpose(0, 2, 1, 3).reshape(2, 7, 32))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (masked(0.0), "attention's mask: input.1 in base, none in raw"),
        (masked(-1e4 - PADDING), "attention's mask: input.1 in base, input.1, inverted in raw"),
        (masked(scale=1.00001 / math.sqrt(8)), "attention's scale: 1 / sqrt(head_dim) in base, 0.35355"),
        (
            masked(round_to=np.float16),
            "attention's precision: full precision in base, softmax's results in float16 in raw",
        ),
        (
            masked(keep=(np.random.default_rng(0).random((2, 4, 7, 7)) > 0.1) / 0.9),
            "a dropout is active on the attention's weights in raw",
        ),
    ],
)
def test_what_differs_beside_a_mask_that_the_layer_took_is_named(raw, words):
    given = case(masked(), raw)
    sources = {"input.0": Q, "input.1": PADDING, **given.sources}

    assert first(replace(given, sources=sources)).words.startswith(words)


def test_a_joint_product_that_is_cut_by_head_is_found():
    joint = random(2, 7, 96)
    one = np.moveaxis(joint.reshape(2, 7, 3, 32), 2, 0)
    other = joint.reshape(2, 7, 4, 3, 8).transpose(3, 0, 1, 2, 4).reshape(3, 2, 7, 32)
    given = evidence(
        attend(*one), attend(*other), sources={"qkv's output.0": joint}, layers=layers("Attention", num_heads=4)
    )

    assert "attention's order of queries, keys and values in their joint product (qkv)" in first(given).words


def test_tables_of_a_rotary_embedding_that_the_layer_took_are_used():
    angles = np.outer(np.arange(7), 77.0 ** -(np.arange(4) / 4))
    cos, sin = (np.concatenate([one, one], 1) for one in (np.cos(angles), np.sin(angles)))

    def turned(x, pairs):
        heads = x.reshape(2, 7, 4, 8)
        other = np.concatenate([-heads[..., 4:], heads[..., :4]], -1)
        if pairs:
            other = np.stack([-heads[..., 1::2], heads[..., ::2]], -1).reshape(heads.shape)
        return (heads * cos[:, None] + other * sin[:, None]).reshape(2, 7, 32)

    base, raw = (attend(turned(Q, pairs), turned(K, pairs), V) for pairs in (False, True))
    given = case(base, raw)
    sources = {"input.0": Q, "input.1": cos, "input.2": sin, **given.sources}

    assert "by interleaved pairs in raw" in first(replace(given, sources=sources)).words
