"""Comparisons that never came about: each of them is told, so that their absence is no pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.stages.optimizer_movement import Moved
from padiff_rpc.align.verdict.not_compared import not_compared
from padiff_rpc.match.scope import Scope
from padiff_rpc.model.model import OptimizerSpec
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair
from tests.align.hand_made import link, pair

EVERYTHING = Scope((), (link("fc.weight"),), (), (), {}, True)
SGD = OptimizerSpec("SGD", {"lr": 0.1})
BOTH_MOVED = PerSide(True, True)
NONE_MOVED = PerSide(False, False)
NO_OUTPUT = "step 0: no output of the model was compared, so this is no pass"
NO_LAYER_OUTPUT = "step 0: no output of a layer that is not left out was compared, so this is no pass"
NO_GRADIENT = "step 0: no gradient was compared, so this is no pass"
ZERO_GRADIENTS = "step 0: every gradient is zero on both sides, so that no error could show: use another loss"
NO_PARAMETER = "step 0: no parameter was compared after the optimiser's step, so this is no pass"
IDLE = (
    "the optimisers changed no parameter that has a gradient, so this is no pass: are they those of these models, "
    "and is their learning rate above 0?"
)
OUTPUT = pair("forward", "")
GRADIENT = pair("grads", "fc", "weight")
WEIGHT = pair("weights", "fc", "weight")


def lacking(
    *pairs: Pair,
    scope: Scope = EVERYTHING,
    graded: bool = True,
    moves: Sequence[Moved | None] = (BOTH_MOVED,),
    **settings: Any,
) -> list[str]:
    optimizers = {"base_optimizer": SGD, "raw_optimizer": SGD}
    asked = AlignSettings(**{**optimizers, "steps": len(moves), **settings})
    steps = [StepResult(step, graded=graded, moved=moved) for step, moved in enumerate(moves)]
    return not_compared(pairs, scope, asked, steps)


def test_nothing_is_lacking_where_each_kind_was_compared() -> None:
    assert [] == lacking(OUTPUT, GRADIENT, WEIGHT)


def test_comparisons_that_failed_were_made() -> None:
    assert [] == lacking(*(replace(one, status="fail") for one in (OUTPUT, GRADIENT, WEIGHT)))


def test_comparisons_that_were_skipped_were_not_made() -> None:
    skipped = (replace(one, status="skipped") for one in (OUTPUT, GRADIENT, WEIGHT))
    assert [NO_OUTPUT, NO_GRADIENT, NO_PARAMETER] == lacking(*skipped)


def test_one_comparison_of_a_kind_is_enough_beside_others_that_were_skipped() -> None:
    skipped = [replace(one, status="skipped", tensor=f"{one.tensor}.1") for one in (OUTPUT, GRADIENT, WEIGHT)]
    assert [] == lacking(OUTPUT, GRADIENT, WEIGHT, *skipped)


# -- outputs ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "other",
    [pair("forward", "", "input.0"), pair("forward", "fc"), pair("backward", "", "output.0"), pair("loss", "", "loss")],
    ids=["input", "layer", "gradient", "loss"],
)
def test_no_other_tensor_stands_for_an_output_of_the_model(other: Pair) -> None:
    assert [NO_OUTPUT] == lacking(other, GRADIENT, WEIGHT)


def test_an_output_of_a_layer_is_enough_where_the_models_own_are_left_out() -> None:
    scope = replace(EVERYTHING, root=False)
    assert [] == lacking(pair("forward", "fc"), GRADIENT, WEIGHT, scope=scope)


def test_where_the_models_outputs_are_left_out_some_output_is_still_needed() -> None:
    scope = replace(EVERYTHING, root=False)
    assert [NO_LAYER_OUTPUT] == lacking(pair("forward", "fc", "input.0"), GRADIENT, WEIGHT, scope=scope)


def test_a_backward_alone_needs_no_output() -> None:
    assert [] == lacking(GRADIENT, WEIGHT, diff_phase="backward", single_step=True)
    assert [NO_GRADIENT] == lacking(WEIGHT, diff_phase="backward", single_step=True)


# -- gradients -------------------------------------------------------------------------------------------------------------
def test_a_gradient_at_a_boundary_is_enough() -> None:
    assert [] == lacking(OUTPUT, pair("backward", "fc", "grad of input.0"), WEIGHT)


def test_a_loss_is_no_gradient() -> None:
    assert [NO_GRADIENT] == lacking(OUTPUT, pair("loss", "", "loss"), WEIGHT)


def test_gradients_that_are_all_zero_show_nothing() -> None:
    assert [ZERO_GRADIENTS] == lacking(OUTPUT, GRADIENT, WEIGHT, graded=False)


def test_gradients_that_were_not_compared_are_not_called_zero_as_well() -> None:
    assert [NO_GRADIENT] == lacking(OUTPUT, WEIGHT, graded=False)


def test_a_forward_alone_needs_no_gradient_but_an_output() -> None:
    forward: dict[str, Any] = {"diff_phase": "forward", "base_optimizer": None, "raw_optimizer": None}
    assert [] == lacking(OUTPUT, graded=False, moves=[None], **forward)
    assert [NO_OUTPUT] == lacking(graded=False, moves=[None], **forward)


# -- parameters after the step ---------------------------------------------------------------------------------------------
def test_without_an_optimiser_no_parameter_is_needed_but_a_gradient() -> None:
    assert [] == lacking(OUTPUT, GRADIENT, moves=[None], base_optimizer=None, raw_optimizer=None)
    assert [NO_GRADIENT] == lacking(OUTPUT, moves=[None], base_optimizer=None, raw_optimizer=None)


def test_selections_that_keep_no_parameter_need_none() -> None:
    skipped = (pair("weights_before", "fc", "weight", "skipped"),)
    scope = replace(EVERYTHING, links=(link("fc.mean", kind="buffer"),), skipped=skipped)
    assert [] == lacking(OUTPUT, GRADIENT, scope=scope)


def test_selections_that_keep_a_parameter_need_one() -> None:
    links = (link("fc.mean", kind="buffer"), link("fc.weight"))
    scope = replace(EVERYTHING, links=links, skipped=(pair("weights_before", "fc", "bias", "skipped"),))
    assert [NO_PARAMETER] == lacking(OUTPUT, GRADIENT, scope=scope)


def test_models_without_selections_need_a_parameter_even_where_none_is_linked() -> None:
    assert [NO_PARAMETER] == lacking(OUTPUT, GRADIENT, scope=replace(EVERYTHING, links=()))


def test_parameters_before_the_step_do_not_count() -> None:
    assert [NO_PARAMETER] == lacking(OUTPUT, GRADIENT, pair("weights_before", "fc", "weight"))


# -- each step by itself ---------------------------------------------------------------------------------------------------
def test_each_step_needs_its_own_comparisons() -> None:
    later = [replace(one, step=1) for one in (OUTPUT, GRADIENT, WEIGHT)]
    moves = [BOTH_MOVED, BOTH_MOVED]
    assert [] == lacking(OUTPUT, GRADIENT, WEIGHT, *later, moves=moves)
    assert [text.replace("step 0", "step 1") for text in (NO_OUTPUT, NO_GRADIENT, NO_PARAMETER)] == lacking(
        OUTPUT, GRADIENT, WEIGHT, moves=moves
    )


# -- optimisers that change nothing ----------------------------------------------------------------------------------------
def moving(*moves: Moved | None) -> list[str]:
    pairs = [replace(one, step=step) for step in range(len(moves)) for one in (OUTPUT, GRADIENT, WEIGHT)]
    return lacking(*pairs, moves=moves)


def test_an_optimiser_that_alone_changed_nothing_is_named() -> None:
    assert ["step 0: base's optimiser changed no parameter, raw's did, so this is no pass"] == moving(
        PerSide(False, True)
    )
    assert ["step 0: raw's optimiser changed no parameter, base's did, so this is no pass"] == moving(
        PerSide(True, False)
    )


def test_two_optimisers_that_never_change_anything_are_no_pass() -> None:
    assert [IDLE] == moving(NONE_MOVED)
    assert [IDLE] == moving(NONE_MOVED, NONE_MOVED)


def test_a_warm_up_that_begins_at_zero_is_a_pass() -> None:
    assert [] == moving(NONE_MOVED, BOTH_MOVED)


def test_beside_a_warm_up_an_optimiser_that_stays_idle_alone_is_named() -> None:
    text = "step 1: raw's optimiser changed no parameter, base's did, so this is no pass"
    assert [text] == moving(NONE_MOVED, PerSide(True, False))


def test_a_side_without_gradients_has_no_idle_optimiser() -> None:
    assert [] == moving(PerSide(None, True))
    assert [] == moving(PerSide(None, None))


def test_without_optimisers_none_is_idle() -> None:
    assert [] == moving(None)
