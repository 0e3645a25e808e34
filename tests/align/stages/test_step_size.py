"""How far base's optimiser moved each parameter, measured."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, cast

import numpy as np
import pytest

from padiff_rpc.align.sides import Traffic
from padiff_rpc.align.stages.step_size import StepSize, StepSizes
from padiff_rpc.model.model import Model, What
from padiff_rpc.tensors.tensor import DType, Tensor, TensorStream
from tests.align.hand_made import HeldModel


class InPieces(HeldModel):
    """A model whose tensors come in pieces of 8 bytes, each in memory that the next one takes."""

    def read_parameters(
        self, names: Sequence[str], what: What = "value", transposed: Collection[str] = ()
    ) -> Iterator[TensorStream]:
        for stream in super().read_parameters(names, what, transposed):
            yield TensorStream(stream.name, stream.spec, _pieces(stream))


def _pieces(stream: TensorStream) -> Iterator[memoryview]:
    memory = bytearray(8)
    whole = b"".join(stream.chunks)
    for start in range(0, len(whole), 8):
        piece = whole[start : start + 8]
        memory[: len(piece)] = piece
        yield memoryview(memory)[: len(piece)]


def sizes(model: HeldModel, names: Sequence[str], after: dict[str, Any]) -> dict[str, StepSize]:
    """Return how far the model's parameters go to the values of `after`."""
    measured = StepSizes(cast("Model", model), Traffic())
    measured.remember(names)
    for name, value in after.items():
        model.set(name, value)
    return measured.measure(names)


@pytest.mark.parametrize("model", [HeldModel, InPieces], ids=["whole", "in pieces"])
def test_a_step_is_told_by_its_norm_and_its_largest_element(model: type[HeldModel]) -> None:
    found = sizes(model({"w": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}), ["w"], {"w": [[1, 5], [3, 0], [5, 6]]})
    assert {"w": StepSize(5.0, 4.0)} == found


@pytest.mark.parametrize("model", [HeldModel, InPieces], ids=["whole", "in pieces"])
def test_each_parameter_is_held_against_its_own_values(model: type[HeldModel]) -> None:
    held = model({"a": [1.0, 1.0, 1.0], "b": [[2.0]], "c": np.float32(3.0)})
    found = sizes(held, ["c", "a", "b"], {"a": [1.0, 1.0, 3.0], "c": np.float32(-1.0)})
    assert {"c": StepSize(4.0, 4.0), "a": StepSize(2.0, 2.0), "b": StepSize(0.0, 0.0)} == found


def test_parameters_that_were_not_named_are_not_read() -> None:
    held = HeldModel({"a": [1.0], "b": [1.0]})
    assert ["a"] == list(sizes(held, ["a"], {"b": [9.0]}))
    assert [["a"], ["a"]] == held.asked


def test_an_empty_parameter_does_not_move() -> None:
    assert {"a": StepSize(0.0, 0.0)} == sizes(HeldModel({"a": np.zeros((0, 3))}), ["a"], {})


def test_a_step_that_is_small_against_the_values_is_measured_in_float64() -> None:
    before = np.array([1.0, -1.0], np.float32)
    after = np.nextafter(before, np.float32(2.0))
    [found] = sizes(HeldModel({"a": before}), ["a"], {"a": after}).values()
    ulps = np.abs(after.astype(np.float64) - before.astype(np.float64))
    assert (math.hypot(*ulps), ulps.max()) == (found.norm, found.largest)


def test_bfloat16_is_read_as_numbers_and_not_as_its_bytes() -> None:
    before = Tensor.from_array(np.array([0x3F80, 0x4000], np.uint16), DType.BF16)  # 1, 2
    after = Tensor.from_array(np.array([0x4040, 0x4000], np.uint16), DType.BF16)  # 3, 2
    assert {"a": StepSize(2.0, 2.0)} == sizes(HeldModel({"a": before}), ["a"], {"a": after})


def test_a_step_to_nan_is_no_small_step() -> None:
    [found] = sizes(HeldModel({"a": [1.0, 2.0]}), ["a"], {"a": [np.nan, 2.0]}).values()
    assert math.isnan(found.norm)


def test_each_step_is_measured_from_the_one_before() -> None:
    model = HeldModel({"a": [0.0]})
    measured = StepSizes(cast("Model", model), Traffic())
    moved = []
    for value in (1.0, 3.0, 3.0):
        measured.remember(["a"])
        model.set("a", [value])
        moved.append(measured.measure(["a"])["a"].norm)
    assert [1.0, 2.0, 0.0] == moved


def test_what_is_read_counts_as_traffic_and_the_file_is_closed() -> None:
    traffic = Traffic()
    measured = StepSizes(cast("Model", HeldModel({"a": [0.0, 0.0, 0.0]})), traffic)
    measured.remember(["a"])
    assert 12 == traffic.bytes_moved
    file = measured._file
    assert file is not None
    measured.measure(["a"])
    assert 24 == traffic.bytes_moved
    assert file.closed
