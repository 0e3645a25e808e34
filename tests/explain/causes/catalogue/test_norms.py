"""Normalisations that are recognised by computing them anew."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.explain.causes.catalogue.norms import norms
from tests.explain.causes.seen import evidence, first, layers, random, rounded

X = random(6, 10, 48)
WEIGHT, BIAS = 1 + 0.1 * random(48, seed=1), 0.1 * random(48, seed=2)


def layer_norm(x, eps, weight=1.0, bias=0.0):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


def rms_norm(x, eps, weight=1.0):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def case(base, raw, **changes):
    given = {"sources": {"input.0": X}, "parameters": {"weight": WEIGHT, "bias": BIAS}, "layers": layers("LayerNorm")}
    return evidence(rounded(base), rounded(raw), **{**given, **changes})


@pytest.mark.parametrize(("base", "raw"), [(1e-5, 1e-6), (1e-12, 1e-3), (1e-5, 3e-4)])
def test_an_epsilon_is_fitted(base, raw):
    given = case(
        layer_norm(X, base, WEIGHT, BIAS), layer_norm(X, raw, WEIGHT, BIAS), layers=layers("LayerNorm", eps=raw)
    )
    cause = first(given)

    assert "epsilon" == cause.name
    assert f"base's layer_norm has an epsilon of {base:.6g}, raw's {raw:.6g}" == cause.words


def test_another_normalisation_and_a_lost_affine_part_are_told():
    plain = layer_norm(X, 1e-5, WEIGHT, BIAS)

    assert first(case(plain, layer_norm(X, 1e-5))).words.endswith("raw's is without an affine part")
    assert (
        "base computes layer_norm, raw computes rms_norm" == first(case(plain, rms_norm(X, 1e-5, WEIGHT) + BIAS)).words
    )
    assert first(
        case(rms_norm(X, 1e-6, 1 + WEIGHT), rms_norm(X, 1e-6, WEIGHT), parameters={"weight": WEIGHT})
    ).words == ("base's rms_norm is scaled by 1 + weight, raw's is with its affine part")


def test_running_statistics_against_those_of_the_batch_are_a_mode():
    x = random(8, 6, 5, 5)
    mean, variance = random(6, seed=1).reshape(1, 6, 1, 1), 1 + random(6, seed=2).reshape(1, 6, 1, 1) ** 2
    running = (x - mean) / np.sqrt(variance + 1e-5)
    batch = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
    held = {"running_mean": mean.reshape(6), "running_var": variance.reshape(6), "weight": np.ones(6)}
    given = case(running, batch, sources={"input.0": x}, parameters=held, layers=layers("BatchNorm2d"))

    assert "mode" == first(given).name
    assert "base normalises by the running statistics, raw by the batch" in first(given).words


def test_a_norm_that_is_off_in_another_way_is_not_explained():
    base = layer_norm(X, 1e-5, WEIGHT, BIAS)

    assert () == norms(case(base, base + 0.01 * random(6, 10, 48, seed=5)))
