"""Inputs as a JSON skeleton and tensors."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.inputs_as_json import INPUTS_JSON_LIMIT_BYTES, inputs_from_json, inputs_to_json
from padiff_rpc.tensors.tensor import Tensor

A, B = Tensor.from_array(np.arange(3.0)), Tensor.from_array(np.array(True))


@pytest.mark.parametrize(
    "inputs",
    [
        {},
        {"x": A},
        {"ids": A, "mask": None, "flag": True, "count": 3, "rate": 2.0, "text": 'a "ü" b'},
        {"past": ((A, B), [A, (1, None)]), "options": {"deep": {"x": B, "n": []}}, "none": (), "empty": {}},
        {"infinite": [math.inf, -math.inf], "big": 2**80},
        {"odd": {"$tensor": "x"}, "odder": {"$tuple": [1], "y": A}, "oddest": {"$dict": {"$float": "nan"}}},
        {"a.b": A, "a": {"b": B}},
    ],
)
def test_inputs_come_back(inputs: dict[str, Any]) -> None:
    text, tensors = inputs_to_json(inputs)
    assert repr(inputs) == repr(inputs_from_json(text, tensors))


def test_tensors_are_named_after_their_place() -> None:
    _, tensors = inputs_to_json({"x": A, "past": [(A, B)]})
    assert ["x", "past.0.0", "past.0.1"] == list(tensors)


def test_not_a_number_survives_and_the_text_is_plain_json() -> None:
    text, tensors = inputs_to_json({"x": math.nan})
    assert "NaN" not in text
    assert math.isnan(inputs_from_json(text, tensors)["x"])


@pytest.mark.parametrize(
    ("inputs", "place"),
    [
        ({"x": np.zeros(2)}, "'x' is a ndarray"),
        ({"x": [object()]}, "'x.0' is a object"),
        ({"x": {"y": {1: 2}}}, "'x.y' has the key 1"),
        ({"x": b"bytes"}, "'x' is a bytes"),
        ({"x": {1, 2}}, "'x' is a set"),
    ],
)
def test_what_cannot_travel_is_refused_with_its_place(inputs: dict[str, Any], place: str) -> None:
    with pytest.raises(PadiffError, match=place) as caught:
        inputs_to_json(inputs)
    assert Reason.BAD_INPUTS is caught.value.reason


def test_long_lists_belong_into_tensors() -> None:
    with pytest.raises(PadiffError, match="limit") as caught:
        inputs_to_json({"x": list(range(INPUTS_JSON_LIMIT_BYTES // 4))})
    assert "arrays" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[1]",
        json.dumps({"x": {"$tensor": "missing"}}),
        json.dumps({"x": {"$tensor": ["a"]}}),
        json.dumps({"x": {"$tuple": 3}}),
        json.dumps({"x": {"$float": "many"}}),
        json.dumps({"x": {"$dict": [1]}}),
        json.dumps({"x": 1}),  # the tensor that came is not named
        "[" * 100_000,
        '{"x": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
)
def test_a_skeleton_that_makes_no_sense_is_bad_inputs(text: str) -> None:
    with pytest.raises(PadiffError) as caught:
        inputs_from_json(text, {"x": A})
    assert Reason.BAD_INPUTS is caught.value.reason
