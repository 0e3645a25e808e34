"""--sync-random over torch and paddle: dropouts in train mode draw alike, and faults beside them are found at their layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.result import Result
from tests.e2e.workers import MODELS, ROOT, SharedWorkers, start

pytestmark = pytest.mark.e2e
TORCH, PADDLE, MINILM = MODELS / "drops_torch.py", MODELS / "drops_paddle.py", ROOT / "examples" / "minilm"
IMAGES = as_inputs({"x": np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)})


@pytest.fixture(scope="module")
def workers() -> Iterator[SharedWorkers]:
    shared = SharedWorkers()
    yield shared
    shared.close()


def run(base: RemoteModel, raw: RemoteModel, inputs: Any = IMAGES, **settings: Any) -> Result:
    sgd = parse_optimizer("SGD(lr=0.1)")
    asked = {"training": True, "sync_random": True, "base_optimizer": sgd, "raw_optimizer": sgd, "tolerance": "auto"}
    return align(base, raw, inputs, inputs, AlignSettings(**{**asked, **settings}))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_vit_in_train_mode_agrees_over_two_steps(seed: int, workers: SharedWorkers) -> None:
    with (
        workers.lend(TORCH, "torch", factory="vit") as base,
        workers.lend(PADDLE, "paddle", factory="vit") as raw,
    ):
        result = run(base, raw, steps=2, seed=seed)
        assert result.aligned, result.notes
        assert run(base, raw, single_step=True, seed=seed).aligned
        assert run(raw, base, seed=seed).aligned  # the other way round
        assert not run(base, raw, sync_random=False, explain=False).aligned


@pytest.mark.parametrize(
    ("fault", "route", "causes"),
    [
        ("missing", "blocks.1.attn.proj_drop", {"active dropout"}),
        ("rate", "blocks.1.mlp.drop1", {"hyper-parameter"}),
        ("near", "blocks.1.mlp.drop1", {"hyper-parameter", "weights of a sum", "constant factor"}),
        ("downscale", "blocks.1.mlp.drop1", {"downscale_in_infer"}),
        ("place", "blocks.1.mlp", set[str]()),
        ("functional", "blocks.1.mlp", set[str]()),
        ("twice", "blocks.1.mlp", {"active dropout"}),
        ("scale", "blocks.1.attn", set[str]()),
    ],
)
def test_a_fault_beside_the_dropouts_is_found(fault: str, route: str, causes: set[str], workers: SharedWorkers) -> None:
    with (
        workers.lend(TORCH, "torch", factory="vit") as base,
        workers.lend(PADDLE, "paddle", factory="vit", model_args={"fault": fault}) as raw,
    ):
        result = run(base, raw)
    assert result.first_divergence is not None
    assert route == result.first_divergence.base.route
    assert "forward" == result.first_divergence.stage
    assert not causes or result.causes[0].name in causes


def test_minilm_in_train_mode_agrees() -> None:
    ids = np.random.default_rng(0).integers(0, 30522, (3, 12))
    mask = np.ones((3, 12), np.int64)
    mask[1, 7:] = 0
    inputs = as_inputs({"input_ids": ids, "attention_mask": mask})
    with minilm("torch") as base, minilm("paddle") as raw:
        result = run(base, raw, inputs, tolerance="table")
    assert result.aligned, result.notes
    assert any(note.startswith("raw's dropouts take base's draws in embeddings.dropout") for note in result.notes)


def minilm(framework: str) -> RemoteModel:
    file: Path = MINILM / f"{framework}_model.py"
    return start(file, framework, model_args={"dropout": 0.1})
