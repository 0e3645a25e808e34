"""The optimiser's step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.optimizer_update import update
from padiff_rpc.explain.causes.evidence import SeenOptimizer
from padiff_rpc.per_side import PerSide
from tests.explain.causes.seen import evidence, first, random

W, G = random(24, 16), 1e-3 * random(24, 16, seed=1)
LR = 1e-3


def adam(g, eps=1e-8, factor=1.0):
    return -LR * factor * g / (np.abs(g) + eps)


def stepped(base, raw, **changes):
    held = (W + base).astype(np.float32), (W + raw).astype(np.float32)
    return evidence(*held, "weights", before=W, gradient=G, **changes)


@pytest.mark.parametrize(
    ("base", "raw", "name", "words"),
    [
        (adam(G) - 1e-4 * W, adam(G), "weight decay", "raw decays this parameter less than base"),
        (-LR * G, -2 * LR * G, "learning rate", "the learning rates differ"),
        (adam(G), adam(G, 1e-3), "update formula", "raw by Adam's direction with an epsilon of 0.001"),
        (adam(G), adam(G, factor=0.1 / math.sqrt(0.001)), "bias correction", "raw does not correct the bias"),
        (adam(G), adam(G + 0.01 * W), "update formula", "gradient + 0.01 x weights (L2)"),
        (adam(G), 0 * G, "no update", "raw's optimiser does not step this parameter"),
    ],
)
def test_what_the_two_steps_differ_in_is_found(base, raw, name, words):
    cause = first(stepped(base, raw))

    assert name == cause.name
    assert words in cause.words


def test_decay_names_the_product_of_the_optimisers_options():
    known = SeenOptimizer("AdamW", {"lr": LR, "weight_decay": 0.1})
    cause = first(stepped(adam(G) - LR * 0.1 * W, adam(G), optimizers=PerSide(known, None)))

    assert "which is lr x weight_decay = 0.0001" in cause.evidence


def test_options_that_differ_are_named_without_tensors():
    optimizers = PerSide(SeenOptimizer("SGD", {"lr": 0.1}), SeenOptimizer("SGD", {"lr": 0.2}))

    assert "lr=0.1 against 0.2" == first(evidence(stage="weights", optimizers=optimizers)).evidence


def test_a_step_without_its_value_before_says_nothing():
    assert () == update(evidence(W, W + 1e-3, "weights", gradient=G))
