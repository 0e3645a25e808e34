"""An alignment takes the AOA statements that raw's own class gives, and finds out where they are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result

X = as_inputs({"x": np.random.RandomState(0).standard_normal((3, 4)).astype(np.float32)})


class Two(nn.Layer):
    """Two Linears of one shape whose results are subtracted, so that it matters which is which."""

    def __init__(self, first: str, second: str, kind: Any) -> None:
        super().__init__()
        self.names = (first, second)
        for name in self.names:
            setattr(self, name, kind(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        first, second = (getattr(self, name)(x) for name in self.names)
        return first - second * 2.0


class Stated(Two):
    """A model whose class states which Linear is which."""

    config: Any = None

    def _gen_aoa_config(self, config: Any) -> Any:
        return {"aoa_statements": config}


def aligned(statements: list[str]) -> Result:
    base, raw = Two("left", "right", nn.Linear), Stated("one", "two", nn.LinearIO)
    raw.config = statements
    settings = AlignSettings(raw_statements=True)
    return align(HostedModel(base), HostedModel(raw), X, X, settings)


def statements(first: str, second: str) -> list[str]:
    pairs = (("left", first), ("right", second))
    return [
        line
        for mine, theirs in pairs
        for line in (f"{mine}.weight^T -> {theirs}.weight", f"{mine}.bias -> {theirs}.bias")
    ]


def test_right_statements_align() -> None:
    result = aligned(statements("one", "two"))

    assert result.aligned, result.notes
    assert result.settings["raw_statements"] is True


def test_wrong_statements_are_followed_and_the_difference_is_found() -> None:
    assert not aligned(statements("two", "one")).aligned


def test_a_statement_that_forgets_a_transposition_is_followed_and_the_difference_is_found() -> None:
    wrong = [line.replace("^T", "") for line in statements("one", "two")]

    assert not aligned(wrong).aligned
