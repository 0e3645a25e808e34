"""A small GPT, in every pairing of frameworks: healthy ones agree, planted bugs are named, in free runs and in single step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.result import Result
from tests.e2e.workers import MODELS, SharedWorkers, start

pytestmark = pytest.mark.e2e
PAIRINGS = [
    ("torch", "paddle"),
    ("paddle", "torch"),
    ("torch", "torch"),
    ("paddle", "paddle"),
    ("torch", "paddle-old"),
]


Run = Callable[..., Result]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Return a function: align two builds of the model. Workers without a bug are shared."""
    shared = SharedWorkers()
    yield partial(aligned, shared)
    shared.close()


def aligned(
    shared: SharedWorkers,
    base: str,
    raw: str,
    raw_args: dict[str, Any] | None = None,
    dtype: str | None = None,
    **settings: Any,
) -> Result:
    files = [MODELS / f"gpt_{environment.partition('-')[0]}.py" for environment in (base, raw)]
    inputs = as_inputs({"ids": np.random.RandomState(0).randint(0, 50, (2, 12))})
    optimizer = parse_optimizer("Adam(lr=1e-3)")
    asked = AlignSettings(base_optimizer=optimizer, raw_optimizer=optimizer, training=True, **settings)
    with (
        shared.lend(files[0], base, dtype=dtype) as base_model,
        (start if raw_args else shared.lend)(
            files[1], raw, dtype=dtype, model_args={"seed": 1, **(raw_args or {})}
        ) as raw_model,
    ):
        return align(base_model, raw_model, inputs, inputs, asked)


@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
@pytest.mark.parametrize(("base", "raw"), PAIRINGS)
def test_a_healthy_pair_is_aligned(run: Run, base: str, raw: str, single_step: bool) -> None:
    result = run(base, raw, single_step=single_step, steps=2)
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    assert result.aligned
    assert {"weights_before", "forward", "loss", "backward", "grads", "weights"} <= {
        pair.stage for pair in result.pairs if pair.status == "pass"
    }


def test_in_float64_the_pair_agrees_to_1e_8(run: Run) -> None:
    result = run("torch", "paddle", dtype="float64", compare=CompareRules(rtol=1e-8), diff_phase="both")
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    assert result.aligned


@pytest.mark.parametrize(
    ("bug", "layer"),
    [
        ("no_scale", "blocks.1.attn"),
        ("no_mask", "blocks.1.attn"),
        ("eps", "blocks.1.ln1"),
        ("tanh", "blocks.1.mlp.1"),
        ("no_residual", "blocks.1"),
    ],
)
def test_a_planted_bug_is_found_at_its_layer(run: Run, bug: str, layer: str) -> None:
    result = run("torch", "paddle", raw_args={"bugs": {"1": bug}})
    assert result.first_divergence is not None
    assert layer == result.first_divergence.raw.route
    assert "forward" == result.first_divergence.stage


@pytest.mark.parametrize(("base", "raw"), [("torch", "paddle"), ("paddle", "torch")])
def test_single_step_names_both_layers_with_a_bug_and_no_other(run: Run, base: str, raw: str) -> None:
    result = run(base, raw, raw_args={"bugs": {"0": "no_scale", "2": "eps"}}, single_step=True)
    assert ["blocks.0.attn", "blocks.2.ln1"] == [divergence.raw.route for divergence in result.divergences]
