"""Functional calls inside layers: they say where in a failing layer the difference begins, and never make one fail."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.numpy_framework import functions as numpy_functions
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Pair, Result
from tests.align.pairs import AlignPair, hosted, inputs_of

BOTH = pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])


def of(result: Result, route: str) -> list[Pair]:
    return [pair for pair in result.pairs if pair.base_route == route]


@BOTH
@pytest.mark.parametrize("factory", ["calls", "mlp", "deep", "shared", "tuple_outputs", "bert_like", "conv_net"])
def test_a_healthy_pair_stays_aligned_and_its_calls_are_compared(
    align_pair: AlignPair, factory: str, single_step: bool
) -> None:
    result = align_pair(factory, api_calls=True, single_step=single_step)

    assert result.aligned
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    calls = [pair for pair in result.pairs if "/" in pair.base_route]
    assert {"pass"} == {pair.status for pair in calls}


def test_calls_stand_among_the_layers_in_the_order_in_which_they_ran(align_pair: AlignPair) -> None:
    result = align_pair("calls", api_calls=True)
    forward = [
        (pair.base_route, pair.call)
        for pair in result.pairs
        if pair.stage == "forward" and pair.tensor.startswith("output")
    ]

    first = ["fc", "relu", "multiply", "divide", "divide", "exp", "subtract", "sum", "softmax", "add", "norm"]
    assert [name if name in ("fc", "norm") else f"/{name}" for name in first] == [
        route.removeprefix("gate").removeprefix(".") for route, _ in forward[: len(first)]
    ]
    assert [0, 1, 2, 3] == [call for route, call in forward if route == "gate/divide"]
    assert [("/add", 0), ("head", 0), ("", 0)] == forward[-3:]


@BOTH
def test_without_it_no_call_is_in_the_result(align_pair: AlignPair, single_step: bool) -> None:
    result = align_pair("calls", single_step=single_step)

    assert [] == [pair for pair in result.pairs if "/" in pair.base_route]


# -- planted faults -------------------------------------------------------------------------------------------------------
@BOTH
def test_the_first_call_that_differs_is_named_and_its_layer_is_the_culprit(
    align_pair: AlignPair, single_step: bool
) -> None:
    result = align_pair("calls", raw_args={"gate": "axis"}, api_calls=True, single_step=single_step)

    assert not result.aligned
    [divergence] = result.divergences
    assert ("gate", "gate") == (divergence.base.route, divergence.raw.route)
    assert 0 == divergence.call
    assert "softmax.output.0" == divergence.tensor
    assert "its call 0 of softmax is the first to differ" == divergence.why
    assert "gate/softmax" == divergence.found_at.base_route


@BOTH
def test_another_activation_is_named_on_both_sides(align_pair: AlignPair, single_step: bool) -> None:
    result = align_pair("calls", raw_args={"gate": "gelu"}, api_calls=True, single_step=single_step)

    assert not result.aligned
    assert "gate" == result.divergences[0].base.route
    expected = (
        "its call 0 of multiply is the first to differ of those that both sides make; only base calls relu here; "
        "only raw calls gelu here"
    )
    assert expected == result.divergences[0].why
    assert {"only base calls relu here"} == {pair.why for pair in of(result, "gate/relu")}
    assert {"only raw calls gelu here"} == {pair.why for pair in of(result, "gate/gelu")}


def test_where_no_call_is_known_to_differ_those_of_one_side_are_told(align_pair: AlignPair) -> None:
    result = align_pair("mlp", raw_args={"scale": 1.25}, api_calls=True)
    [divergence] = result.divergences

    assert "body" == divergence.base.route
    assert "multiply.output.0" == divergence.tensor

    result = align_pair("bert_like", raw_args={"nan_output": True}, api_calls=True)
    [divergence] = result.divergences
    assert "" == divergence.base.route
    assert "; base calls add once here, raw 2 times: which correspond cannot be told" in divergence.why


def test_a_layer_whose_child_is_wrong_is_not_blamed_for_calls_spelled_in_another_way(align_pair: AlignPair) -> None:
    result = align_pair("calls", raw_args={"gate": "factor"}, api_calls=True)

    assert "fail" == of(result, "gate/divide")[0].status
    assert "gate.norm" == result.divergences[0].base.route
    assert "output.0" == result.divergences[0].tensor


# -- right pairs that are spelled in another way ---------------------------------------------------------------------------
@BOTH
def test_another_number_of_calls_is_skipped_with_both_numbers(align_pair: AlignPair, single_step: bool) -> None:
    result = align_pair("calls", raw_args={"gate": "spelled"}, api_calls=True, single_step=single_step)

    assert result.aligned
    why = "base calls add 3 times here, raw 4 times: which correspond cannot be told"
    assert {("skipped", why)} == {(pair.status, pair.why) for pair in of(result, "gate/add")}
    assert {("skipped", "only base calls multiply here")} == {
        (pair.status, pair.why) for pair in of(result, "gate/multiply")
    }
    # the numbers after it do not shift, not even in the second call of the layer
    assert ["pass"] * 4 == [pair.status for pair in of(result, "gate/divide")]
    assert ["pass"] == [pair.status for pair in of(result, "/add")]


@BOTH
def test_a_difference_under_an_output_that_agrees_is_skipped(align_pair: AlignPair, single_step: bool) -> None:
    result = align_pair("calls", raw_args={"gate": "order"}, api_calls=True, single_step=single_step)

    assert result.aligned
    why = "differs here, but the outputs of its layer agree (the sides compute it in another way)"
    assert [("skipped", why), ("pass", ""), ("skipped", why), ("pass", "")] == [
        (pair.status, pair.why) for pair in of(result, "gate/divide")
    ]


@BOTH
def test_other_shapes_under_an_output_that_agrees_are_skipped(align_pair: AlignPair, single_step: bool) -> None:
    result = align_pair("calls", raw_args={"gate": "late"}, api_calls=True, single_step=single_step)

    assert result.aligned
    assert [("skipped", "")] * 2 == [(pair.status, pair.failure) for pair in of(result, "gate/subtract")]


def test_a_backward_alone_compares_no_calls(align_pair: AlignPair) -> None:
    result = align_pair("calls", api_calls=True, single_step=True, diff_phase="backward")

    assert result.aligned
    assert [] == [pair for pair in result.pairs if "/" in pair.base_route]


# -- what stays behind ------------------------------------------------------------------------------------------------------
def held() -> dict[str, Any]:
    return {**vars(numpy_functions), **vars(Tensor)}


@BOTH
def test_two_runs_at_once_leave_nothing_behind(align_pair: AlignPair, single_step: bool) -> None:
    """Both sides run in threads of this process, and patch the same functions."""
    before = held()
    for _ in range(5):
        assert align_pair("calls", api_calls=True, single_step=single_step).aligned
    assert before == held()


def test_a_side_that_fails_leaves_nothing_behind() -> None:
    before, threads = held(), set(threading.enumerate())
    base, raw = hosted("calls"), hosted("calls")
    raw.model.gate.norm.eps = "planted"
    inputs = inputs_of("calls")
    with pytest.raises(Exception, match="there are no tensors"):
        align(base, raw, inputs, inputs, AlignSettings(api_calls=True, assign=False))

    assert before == held()
    assert set() == set(threading.enumerate()) - threads
