"""A pack by heads and a transposed square matrix, of torch against paddle: decided by trying, and faults beside them found."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.result import Result
from tests.e2e.workers import MODELS, start

pytestmark = pytest.mark.e2e
TAKEN = {("fits", "q, k, v, in 4 groups with a share of each"), ("fits", "transposed")}


def run(fault: str = "", back: bool = False) -> Result:
    inputs = as_inputs({"x": np.random.RandomState(0).standard_normal((2, 6, 16)).astype(np.float32)})
    with (
        start(MODELS / "packed_torch.py", "torch") as torch_model,
        start(MODELS / "packed_paddle.py", "paddle", model_args={"seed": 1, "fault": fault}) as paddle_model,
    ):
        models = (paddle_model, torch_model) if back else (torch_model, paddle_model)
        return align(*models, inputs, inputs, AlignSettings())


@pytest.mark.parametrize("back", [False, True], ids=["raw packs", "base packs"])
def test_the_layout_is_found_by_trying(back: bool) -> None:
    result = run(back=back)
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    assert result.aligned
    assert TAKEN == {(one["outcome"], one["taken"]) for one in result.figures["tried"]}
    assert "NOT as expected" in result.notes[0]


@pytest.mark.parametrize("fault", ["scale", "heads"])
def test_a_fault_beside_it_is_found_at_its_layer(fault: str) -> None:
    result = run(fault)
    assert TAKEN == {(one["outcome"], one["taken"]) for one in result.figures["tried"]}
    assert result.first_divergence is not None
    assert "layers.1" == result.first_divergence.base.route
