"""Inputs of a pair whose forwards call them by other names, or take them by position only."""

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
from padiff_rpc.sequential import align_sequentially

RNG = np.random.default_rng(0)
ARRAYS = {name: RNG.normal(size=(3, 4)).astype("float32") for name in ("x", "other")}


class Plain(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Any, other: Any) -> Any:
        return self.b(self.a(x) * other)


class Renamed(Plain):
    def forward(self, inputs: Any, gate: Any) -> Any:
        return self.b(self.a(inputs) * gate)


class Mixed(Plain):
    def forward(self, other: Any, inputs: Any) -> Any:
        return self.b(self.a(inputs) * other)


class PositionalOnly(Plain):
    def forward(self, inputs: Any, gate: Any, /) -> Any:
        return self.b(self.a(inputs) * gate)


class Starred(Plain):
    def forward(self, *tensors: Any) -> Any:
        return self.b(self.a(tensors[0]) * tensors[1])


class OneAlone(Plain):
    def forward(self, inputs: Any) -> Any:
        return self.b(self.a(inputs))


class Swapped(Plain):
    """Takes the right names, and uses them in each other's place."""

    def forward(self, x: Any, other: Any) -> Any:
        return self.b(self.a(other) * x)


def aligned(raw: nn.Layer, inputs: Any = ARRAYS, base: nn.Layer | None = None) -> Result:
    models = HostedModel(base or Plain()), HostedModel(raw)
    given = as_inputs(inputs)
    return align(*models, given, given, AlignSettings())


@pytest.mark.parametrize(
    ("raw", "note"),
    [
        (Plain(), None),
        (Renamed(), "forward(inputs, gate): given by position: x as inputs, other as gate"),
        (Mixed(), "forward(other, inputs): given by position: x as inputs; by name: other"),
        (PositionalOnly(), "forward(inputs, gate, /): given by position: x as inputs, other as gate"),
        (Starred(), "forward(*tensors): given by position: x as *tensors, other as *tensors"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Layer) else "",
)
@pytest.mark.parametrize("turned", [False, True])
def test_inputs_of_other_names_go_by_position_and_a_note_says_so(raw: nn.Layer, note: str | None, turned: bool) -> None:
    """In whichever order the file has them: base's forward knows the names."""
    result = aligned(raw, dict(reversed(ARRAYS.items())) if turned else ARRAYS)
    assert result.aligned
    told = [each for each in result.notes if each.startswith("inputs of")]
    assert told == ([] if note is None else [f"inputs of raw, {note}"])


def test_names_that_fit_are_never_moved_so_that_a_swap_is_found() -> None:
    result = aligned(Swapped())
    assert not result.aligned
    assert result.first_divergence is not None
    assert result.first_divergence.base.route == ""  # its own code, not that of `a`


def test_a_fault_behind_inputs_that_go_by_position_is_found() -> None:
    class Wrong(Renamed):
        def forward(self, inputs: Any, gate: Any) -> Any:
            return self.b(self.a(inputs) * gate * 1.01)

    result = aligned(Wrong())
    assert not result.aligned
    assert result.first_divergence is not None
    assert result.first_divergence.base.route == ""


def test_names_that_neither_side_knows_go_by_position_on_both() -> None:
    result = aligned(Renamed(), {"arr_0": ARRAYS["x"], "arr_1": ARRAYS["other"]})
    assert result.aligned
    assert [note.partition(",")[0] for note in result.notes if "by position" in note] == [
        "inputs of base",
        "inputs of raw",
    ]


def test_what_cannot_be_placed_is_refused_before_anything_runs() -> None:
    with pytest.raises(PadiffError) as raised:
        aligned(OneAlone())
    assert raised.value.reason is Reason.BAD_INPUTS
    assert "raw's is forward(inputs), base's is forward(x, other)" in raised.value.hint
    assert "--base-inputs and --raw-inputs" in raised.value.hint


def test_one_after_the_other_they_go_where_they_go_at_once() -> None:
    given = as_inputs(dict(reversed(ARRAYS.items())))
    opened = (lambda: HostedModel(Renamed())), (lambda: HostedModel(Plain()))
    result = align_sequentially(*opened, as_inputs(ARRAYS), given, AlignSettings())
    assert result.aligned
    assert result.notes[0] == "inputs of Renamed, forward(inputs, gate): given by position: x as inputs, other as gate"


def test_a_dump_of_base_still_knows_the_order_of_its_forward() -> None:
    given = as_inputs(dict(reversed(ARRAYS.items())))
    result = align_sequentially(
        lambda: HostedModel(Plain()), lambda: HostedModel(Renamed()), given, given, AlignSettings()
    )
    assert result.aligned
    assert any("x as inputs, other as gate" in note for note in result.notes)
