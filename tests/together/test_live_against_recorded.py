"""A live model against a dump, through the same calls: what was recorded here is compared there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
import torch

from padiff_rpc import PadiffError, Reason, RecordedModel, assign_weight, auto_diff, create_model, get_dump_root_path
from tests.together.models import load

T, P = load("simple_torch"), load("simple_paddle")
STRICT: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-4, "compare_mode": "strict"}
X = np.random.default_rng(0).normal(size=(4, 20)).astype("float32")


@pytest.fixture
def dump() -> Path:
    """One step of the tutorial's torch model, without its activation, dumped by a proxy."""
    proxy = create_model(T.Residual(), name="torch_net")
    proxy.update_black_list("act", "all")
    proxy.backward(proxy(torch.as_tensor(X)).mean())
    proxy.try_dump()
    return Path(get_dump_root_path()) / "torch_net"


def test_weights_are_assigned_from_a_dump_and_a_live_model_agrees_with_it(dump: Path) -> None:
    layer = P.Residual()
    assert assign_weight(RecordedModel(dump), layer)
    assert auto_diff(RecordedModel(dump), layer, ({}, {"x": X}), **STRICT)


def test_a_live_model_that_differs_from_the_dump_is_found(dump: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = P.Residual(act=paddle.nn.LeakyReLU(0.5))
    assert not auto_diff(RecordedModel(dump), layer, ({}, {"x": X}), **STRICT)
    out = capsys.readouterr().out
    assert "[AutoDiff]     Route: torch_net\n[AutoDiff]            Residual(raw_model)\n" in out
    assert "left out inside it: act" in out


def test_nothing_is_assigned_to_a_dump(dump: Path) -> None:
    layer = P.Residual()
    with pytest.raises(PadiffError) as raised:
        auto_diff(layer, RecordedModel(dump), ({"x": X}, {}), **STRICT)
    assert raised.value.reason is Reason.BAD_CONFIG
    assert "auto_init=False" in raised.value.hint
    assert assign_weight(RecordedModel(dump), layer)
    assert auto_diff(layer, RecordedModel(dump), ({"x": X}, {}), auto_init=False, **STRICT)
