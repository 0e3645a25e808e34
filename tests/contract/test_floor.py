"""measure_floor() on every backend: nothing of the model changes, and the next step's digests tell how far it moved."""

from __future__ import annotations

from typing import Any

import pytest

from padiff_rpc.model.model import ForwardRequest, RecordOptions
from padiff_rpc.tensors.tensor import told
from tests.contract.steps import PROJECTION, all_bytes, hosted, inputs_of, names_of, request_of
from tests.contract.watcher import Watcher


@pytest.mark.parametrize(
    "name", ["mlp", "shared", "tied", "keyword", "inplace", "norm", "embedding", "residual", "extras"]
)
def test_a_floor_leaves_parameters_and_buffers_as_they_were(kit: Any, name: str) -> None:
    model = hosted(kit, name)
    before = all_bytes(model)
    model.measure_floor(request_of(name), PROJECTION)
    assert all_bytes(model) == before


@pytest.mark.parametrize("name", ["mlp", "shared", "tied", "norm", "embedding", "residual"])
def test_the_next_step_tells_how_far_each_tensor_moves(kit: Any, name: str) -> None:
    model = hosted(kit, name)
    model.measure_floor(request_of(name), PROJECTION)
    watcher = Watcher(model)
    model.forward(request_of(name), watcher)
    model.backward(PROJECTION, watcher)
    records = [record for boundary in watcher.boundaries for record in boundary.records]
    floating = [record.digest for record in records if record.spec.dtype.is_floating]
    gradients = model.digest_parameters(names_of(model), "gradient").values()
    assert floating
    assert gradients
    for one in (*floating, *gradients):
        assert one.floor is not None
        assert 0 <= one.floor <= 1e-4 * told(one.norm) or told(one.norm) < 1e-5
    outputs = [record.digest for record in watcher.boundaries[-1].records]
    assert all(told(one.floor) > 1e-9 * told(one.norm) for one in outputs)


def test_only_the_next_step_has_the_floor(kit: Any) -> None:
    model = hosted(kit, "mlp")
    model.measure_floor(request_of("mlp"), None)
    for expected in (True, False):
        watcher = Watcher(model)
        model.forward(request_of("mlp"), watcher)
        digests = [record.digest for boundary in watcher.boundaries for record in boundary.records]
        assert {one.floor is not None for one in digests} == {expected}


def test_a_step_after_a_floor_is_the_same_as_without(kit: Any) -> None:
    results = []
    for measures in (False, True):
        model = hosted(kit, "norm")
        if measures:
            model.measure_floor(request_of("norm"), PROJECTION)
        outputs = model.forward(ForwardRequest(inputs_of("norm"), seed=3, record=RecordOptions())).outputs
        model.backward(PROJECTION)
        results.append(([record.digest.hash for record in outputs], all_bytes(model), all_bytes(model, "gradient")))
    assert results[0] == results[1]
