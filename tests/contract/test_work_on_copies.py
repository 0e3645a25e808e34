"""work_on() on every backend: float64 for a while, and nothing left of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.model.model import ForwardRequest
from padiff_rpc.tensors.tensor import DType, Tensor, collect_all
from tests.contract.steps import PROJECTION, all_bytes, hosted, inputs_of, names_of, request_of

MODELS = ["mlp", "shared", "tied", "norm", "embedding", "residual", "extras"]


def in_float64(name: str) -> ForwardRequest:
    inputs = {
        key: Tensor.from_array(one.to_array().astype(np.float64)) if one.spec.dtype.is_floating else one
        for key, one in inputs_of(name).items()
    }
    return ForwardRequest(inputs, seed=3)


@pytest.mark.parametrize("name", MODELS)
def test_all_that_is_computed_is_float64_and_all_is_put_back(kit: Any, name: str) -> None:
    model = hosted(kit, name)
    model.forward(request_of(name))
    model.backward(PROJECTION)
    before = all_bytes(model), all_bytes(model, "gradient")
    model.work_on("float64")
    floating = [info.spec.dtype for info in model.describe().parameters if info.spec.dtype.is_floating]
    outputs = model.forward(in_float64(name)).outputs
    model.backward(PROJECTION)
    streams = model.read_parameters(names_of(model))
    model.write_parameters(tensor.stream(key) for key, tensor in collect_all(streams).items())
    assert {DType.F64} == {*floating, *(record.spec.dtype for record in outputs)}
    model.work_on(None)
    assert before == (all_bytes(model), all_bytes(model, "gradient"))


def test_a_step_afterwards_is_as_if_nothing_had_been(kit: Any) -> None:
    found = []
    for detour in (False, True):
        model = hosted(kit, "norm")
        if detour:
            model.work_on("float64")
            model.work_on("float64")
            model.forward(in_float64("norm"))
            model.reset()
        outputs = model.forward(request_of("norm")).outputs
        model.backward(PROJECTION)
        found.append(([record.digest.hash for record in outputs], all_bytes(model), all_bytes(model, "gradient")))
    assert found[0] == found[1]
