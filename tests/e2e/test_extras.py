"""What paddle's twin of a network has and torch's lacks: told apart, allowed or excused, and no fault hidden beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.result import Result
from tests.e2e.workers import MODELS, SharedWorkers, start

pytestmark = pytest.mark.e2e
X = np.random.default_rng(0).normal(size=(3, 4, 9)).astype(np.float32)


@pytest.fixture(scope="module")
def shared() -> Iterator[SharedWorkers]:
    workers = SharedWorkers()
    yield workers
    workers.close()


def run(shared: SharedWorkers, raw_args: dict[str, Any] | None = None, **settings: Any) -> Result:
    inputs = as_inputs({"x": X})
    with (
        shared.lend(MODELS / "extras_torch.py", "torch") as base,
        start(MODELS / "extras_paddle.py", "paddle", model_args=raw_args or {}) as raw,
    ):
        return align(base, raw, inputs, inputs, AlignSettings(**settings))


def named(result: Result, status: str) -> list[str]:
    return [extra.name for extra in result.extras if extra.status == status]


def test_only_the_pooler_and_its_output_are_a_difference(shared: SharedWorkers) -> None:
    result = run(shared)
    assert (False, None) == (result.aligned, result.first_divergence)
    assert ["pooler.0.weight", "pooler.0.bias", "output.1"] == named(result, "fails")
    assert ["norm.scale", "norm.bias"] == named(result, "neutral")


def test_a_glob_accepts_them(shared: SharedWorkers) -> None:
    result = run(shared, allow_extra=("pooler",))
    assert result.aligned
    assert ["pooler.0.weight", "pooler.0.bias", "output.1"] == named(result, "allowed")


@pytest.mark.parametrize(
    ("fault", "layer"),
    [
        ({"scaling": 2.02}, "adapted"),
        ({"scale": 1.01}, "norm"),
        ({"statistics": True}, "bn"),
    ],
    ids=str,
)
def test_a_fault_beside_what_is_accepted_is_found(shared: SharedWorkers, fault: dict[str, Any], layer: str) -> None:
    result = run(shared, fault, allow_extra=("*",), training=False, diff_phase="forward")
    assert not result.aligned
    assert result.first_divergence is not None
    assert layer == result.first_divergence.base.route
