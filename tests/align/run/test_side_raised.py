"""A model that raises in the midst of a run: what was found before is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.result import Result
from tests.align.pairs import Elsewhere

X = as_inputs({"x": np.random.default_rng(0).normal(size=(5, 6)).astype("float32")})


class Halves(nn.Layer):
    """Adds the columns of what its Linear returns, taken in pieces of two; `wrong`: in two pieces."""

    def __init__(self, width: int, wrong: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(6, width)
        self.width, self._wrong = width, wrong

    def forward(self, x: Any) -> Any:
        hidden = self.fc(x)
        size = self.width // 2 if self._wrong else 2
        total = hidden[:, :size]
        for at in range(size, self.width, size):
            total = total + hidden[:, at : at + size]
        return total


class Net(nn.Layer):
    def __init__(self, width: int = 6, wrong: bool = False, fails: bool = False) -> None:
        super().__init__()
        self.glu = Halves(width, wrong)
        self.out = nn.Linear(2, 3)
        self._fails = fails

    def forward(self, x: Any) -> Any:
        hidden = self.glu(x)
        if self._fails:
            raise ValueError("a branch that was never written")
        return self.out(hidden)


def aligned(base: nn.Layer, raw: nn.Layer, apart: bool, **settings: Any) -> Result:
    models = [HostedModel(model) for model in (base, raw)]
    sides: list[Any] = [Elsewhere(model) for model in models] if apart else models
    return align(sides[0], sides[1], X, X, AlignSettings(**settings))


@pytest.mark.parametrize("apart", [False, True])
def test_a_difference_before_it_is_the_result_and_the_exception_is_noted(apart: bool) -> None:
    result = aligned(Net(), Net(wrong=True), apart)
    assert not result.aligned
    assert result.first_divergence is not None
    assert result.first_divergence.base.route == "glu"
    (words,) = [note for note in result.notes if "raised" in note]
    assert words.startswith("raw: the forward of layer 'out' (Linear) raised: ")
    assert "(in stage forward of step 0); not compared: the rest of the forward, backward" in words
    assert result.figures["stopped_at"]["raised"].startswith("raw: ")


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("side", ["base", "raw"])
@pytest.mark.parametrize("single_step", [False, True])
def test_without_one_the_error_names_the_side_and_how_far_both_agreed(
    apart: bool, side: str, single_step: bool
) -> None:
    nets = [Net(fails=name == side) for name in ("base", "raw")]
    with pytest.raises(PadiffError) as caught:
        aligned(nets[0], nets[1], apart, single_step=single_step)
    assert caught.value.reason is Reason.MODEL_FAILED
    assert caught.value.message.startswith(
        f"{side}: the forward of Net raised: ValueError: a branch that was never written"
    )
    assert caught.value.message.endswith("until then both sides agreed, in 2 layer calls, the last of which was 'glu'")
    assert caught.value.metadata["side"] == side


def test_where_both_raise_both_are_told() -> None:
    with pytest.raises(PadiffError) as caught:
        aligned(Net(fails=True), Net(fails=True), apart=True)
    assert caught.value.message.startswith("base: the forward of Net raised")
    assert "; raw: the forward of Net raised" in caught.value.message
