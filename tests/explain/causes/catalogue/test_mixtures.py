"""Mixtures of experts, by the weights of each position."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.mixtures import mixture
from tests.explain.causes.seen import evidence, first, random, rounded

SHARED, *EXPERTS = (random(2, 9, 24, seed=seed) for seed in range(5))
SOURCES = {"shared's output.0": SHARED, **{f"experts.{at}'s output.0": one for at, one in enumerate(EXPERTS)}}
SCORES = random(2, 9, 4, seed=8)


def weights(chosen=2, normalise=True):
    powers = np.exp(SCORES)
    shares = powers / powers.sum(-1, keepdims=True)
    least = np.sort(shares, axis=-1)[..., -chosen, None]
    kept = np.where(shares >= least, shares, 0.0)
    return kept / kept.sum(-1, keepdims=True) if normalise else kept


def mixed(each, shared=1.0):
    return rounded(shared * SHARED + sum(each[..., at, None] * one for at, one in enumerate(EXPERTS)))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (mixed(weights(normalise=False)), "the router's weights are normalised in base alone"),
        (mixed(2.5 * weights()), "the routed parts (experts) are scaled by a constant factor on one side"),
        (mixed(np.roll(weights(), 1, axis=-1)), "the experts are in another order: each gets the weight of another"),
        (mixed(weights(), shared=0.0), "shared's output.0 is left out in raw: it is not added"),
        (mixed(weights(chosen=1)), "base chooses 2 experts for each position (top-k), raw 1"),
    ],
)
def test_what_differs_in_the_weights_is_named(raw, words):
    assert words == first(evidence(mixed(weights()), raw, sources=SOURCES)).words


def test_what_is_no_mixture_on_either_side_has_no_cause():
    base = mixed(weights())

    assert () == mixture(evidence(base, base + 0.1 * random(2, 9, 24, seed=11), sources=SOURCES))
