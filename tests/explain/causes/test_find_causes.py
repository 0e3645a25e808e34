"""No cause without evidence for it, whatever the difference is; and the better cause before the weaker one."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.explain.causes.find_causes import find_causes
from tests.explain.causes.seen import evidence, layers, random

SHAPES = [(4, 6, 16), (8, 3, 12, 12), (64, 32), (200,)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stage", ["forward", "backward", "grads", "weights", "buffers"])
@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0])
def test_a_random_difference_has_no_cause(shape, stage, size):
    base = random(*shape)
    raw = base + size * random(*shape, seed=1)
    channels = shape[1] if len(shape) > 1 else shape[0]
    given = evidence(
        base,
        raw,
        stage,
        layers=layers("LayerNorm", eps=1e-5, num_heads=4, p=0.1),
        sources={"input.0": random(*shape, seed=2), "fc's output.0": random(*shape, seed=3)},
        parameters={
            "weight": random(shape[-1], seed=4),
            "bias": random(shape[-1], seed=5),
            "running_mean": random(channels),
        },
        ids={"input_ids": np.arange(shape[0], dtype=np.float64) % 2},
        before=random(*shape, seed=6) if stage in ("weights", "buffers") else None,
        gradient=random(*shape, seed=7) if stage == "weights" else None,
    )

    assert [] == find_causes(given)


@pytest.mark.parametrize("stage", ["forward", "loss", "backward", "grads", "weights", "buffers", "weights_before"])
def test_without_tensors_and_without_facts_nothing_is_said(stage):
    assert [] == find_causes(evidence(stage=stage))


def test_what_is_proved_comes_before_what_only_differs():
    x = random(8, 64)
    given = evidence(
        np.maximum(x, 0), np.clip(x, 0, 1.5) * 2, layers=layers("Act"), sources={"input.0": x}
    )  # neither relu nor relu6: no function fits both sides
    assert [] == [cause for cause in find_causes(given) if cause.name == "other function"]

    scores = [cause.score for cause in find_causes(evidence(x, 2 * x))]
    assert scores == sorted(scores, reverse=True)
    assert 0 < len(scores)
