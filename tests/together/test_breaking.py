"""Ordinary uses that were once answered wrongly: each test was a fault before it was a test."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest
import torch

from padiff_rpc import PadiffError, check_grads, check_params, check_weights, create_model
from tests.together.models import load

T, P = load("simple_torch"), load("simple_paddle")
STRICT: dict[str, Any] = {"atol": 1e-4, "rtol": 0, "compare_mode": "strict"}


def inputs(*shape: int, name: str = "x") -> tuple[dict[str, Any], dict[str, Any]]:
    x = np.random.default_rng(0).normal(size=shape or (4, 20)).astype("float32")
    return {name: torch.as_tensor(x)}, {name: paddle.to_tensor(x)}


def test_each_kind_of_parameter_dump_is_checked_by_itself() -> None:
    one, other = create_model(T.Residual(), name="one"), create_model(T.Residual(), name="other")
    other.model.load_state_dict(one.model.state_dict())
    for proxy in (one, other):
        proxy.backward(proxy(**inputs()[0]).mean())
        proxy.dump_weights(f"{proxy.name}/weights")
        proxy.dump_grads(f"{proxy.name}/grads")
        proxy.dump_params(f"{proxy.name}/params")
    assert check_weights("one/weights", "other/weights")
    assert check_grads("one/grads", "other/grads")
    assert check_params("one/params", "other/params")


def test_the_layer_map_lies_in_each_kind_of_dump() -> None:
    one, other = create_model(T.Attention(), name="one"), create_model(P.Attention(), name="other")
    one.set_layer_map(["attn"])
    for proxy in (one, other):
        proxy.dump_weights(proxy.name)
    with pytest.raises(PadiffError, match="the layer map of 'one' has 1 layers, that of 'other' 0"):
        check_weights("one", "other")
