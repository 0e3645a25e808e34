"""A torch model's own optimiser against paddle's: right ones agree for thirty steps, wrong ones are found at their step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import OptimizerSpec
from padiff_rpc.remote.remote_model import RemoteModel
from padiff_rpc.result import Result
from tests.e2e.workers import MODELS, start

pytestmark = pytest.mark.e2e
WRONG = {
    "other_beta2": (0, "the optimisers differ in beta2: 0.95 in base, 0.96 in raw, for all 8 parameters"),
    "other_eps": (0, "the optimisers differ in eps: 1e-08 in base, 1e-06 in raw, for all 8 parameters"),
    "decays_norms": (
        0,
        "the optimisers differ in weight_decay: 0 in base, 0.1 in raw, for 5 of 8 parameters (inp.bias, ",
    ),
    "clips_each": (0, ""),
    "late_schedule": (10, "the optimisers differ in lr: 0.0005 in base, 0.001 in raw, for all 8 parameters"),
}


@pytest.fixture(scope="module")
def sides() -> Iterator[tuple[RemoteModel, RemoteModel]]:
    """Both workers, and all optimisers that they offer."""
    torch, paddle = MODELS / "optim_torch.py", MODELS / "optim_paddle.py"
    with (
        start(torch, "torch", optimizers={"mine": f"{torch}:Scheduled"}) as base,
        start(paddle, "paddle", optimizers={name: f"{paddle}:{name}" for name in ("right", *WRONG)}) as raw,
    ):
        yield base, raw


def run(sides: tuple[RemoteModel, RemoteModel], optimizer: str, steps: int) -> Result:
    inputs = as_inputs({"x": np.random.RandomState(0).standard_normal((8, 8)).astype(np.float32)})
    settings = AlignSettings(base_optimizer=OptimizerSpec("mine"), raw_optimizer=OptimizerSpec(optimizer), steps=steps)
    return align(*sides, inputs, inputs, settings)


def test_right_optimisers_agree_for_thirty_steps(sides: tuple[RemoteModel, RemoteModel]) -> None:
    result = run(sides, "right", 30)
    assert result.aligned, result.divergences
    assert [] == [note for note in result.notes if "optimisers" in note or "left out" in note]
    assert max(one["weights_apart"] for one in result.figures["steps"]) < 1e-5


@pytest.mark.parametrize("optimizer", WRONG)
def test_a_wrong_optimiser_is_found_at_its_step(sides: tuple[RemoteModel, RemoteModel], optimizer: str) -> None:
    step, note = WRONG[optimizer]
    result = run(sides, optimizer, step + 1)
    first = result.first_divergence
    assert first is not None
    assert (step, "weights") == (first.step, first.stage)
    assert note in "\n".join(result.notes)
