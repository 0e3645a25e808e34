"""What a phase asks of the models: records are released, few messages go out, and none for nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.run import release_records
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.tensors.tensor import TensorStream
from tests.align.pairs import hosted


class Asked:
    """A model that notes which records are read and released."""

    def __init__(self, model: HostedModel) -> None:
        self.model = model
        self.read: list[list[int]] = []
        self.released: list[list[int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def read_activations(self, ids: Sequence[int]) -> Iterator[TensorStream]:
        self.read.append(list(ids))
        return self.model.read_activations(ids)

    def release_activations(self, ids: Sequence[int]) -> None:
        self.released.append(list(ids))
        self.model.release_activations(ids)


def run(factory: str, rows: int, **settings: Any) -> tuple[Asked, Asked]:
    sides = Asked(hosted(factory)), Asked(hosted(factory, seed=1))
    inputs = as_inputs({"x": np.ones((rows, 8), np.float32)})
    result = align(sides[0], sides[1], inputs, inputs, AlignSettings(**settings))
    assert result.aligned
    return sides


@pytest.mark.parametrize("single_step", [False, True])
def test_small_records_are_released_together_and_none_stays(single_step: bool) -> None:
    for side in run("deep", 2, single_step=single_step):
        assert 0 == side.model.store_figures().memory_bytes
        assert sum(len(ids) for ids in side.released) > 150
        assert len(side.released) < 10


def test_large_records_are_released_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 16 << 20 == release_records.RELEASE_BYTES
    monkeypatch.setattr(release_records, "RELEASE_BYTES", 16 << 10)
    for side in run("mlp", 1_100):  # more than 16 KiB each
        assert 0 == side.model.store_figures().memory_bytes
        assert {1} == {len(ids) for ids in side.released if ids}


def test_a_healthy_pair_asks_for_no_record() -> None:
    for side in run("deep", 2, single_step=True):
        assert [] == side.read


def test_contents_that_pass_several_layers_are_read_once() -> None:
    sides = Asked(hosted("deep")), Asked(hosted("deep", seed=1))
    inputs = as_inputs({"x": np.ones((2, 8), np.float32)})
    result = align(sides[0], sides[1], inputs, inputs, AlignSettings(assign=False, diff_phase="forward"))
    differing = [pair for pair in result.pairs if pair.stage == "forward" and pair.status == "fail"]
    read = [identifier for ids in sides[0].read for identifier in ids]
    contents = {(pair.metrics.max_abs, pair.metrics.cosine) for pair in differing if pair.metrics is not None}
    assert len(contents) == len(read) < len(differing)
