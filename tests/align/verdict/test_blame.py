"""Blame: which layers introduce a difference, and which failures only follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.stages.judge_api_calls import ApiFindings
from padiff_rpc.align.stages.one_sided import MissingGradient
from padiff_rpc.align.verdict.blame import Blame
from padiff_rpc.model.model import BoundarySide, LayerCall
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Divergence, Failure, Stage
from tests.align.hand_made import described, failing, judged, layer, measured, pair

ROUTES = ("", "stem", "block", "block.fc1", "block.act", "block.fc2", "head")
BASE = described(*(layer(route, "Net" if not route else "Linear") for route in ROUTES))
RAW = described(*(layer(f"r.{route}" if route else "", "Linear", bias=True) for route in ROUTES))
TO_RAW = {route: f"r.{route}" if route else "" for route in ROUTES}
OWN_OUTPUT = "its inputs agree, its output does not"
AFTER_LAST_CHILD = "its inputs and children agree until here: its own code after its last child changes the output"
OWN_GRADIENT = "the gradients of its outputs agree, what it sends back to its input does not"
OWN_PARAMETER = "the gradients at its boundary agree, that of its own parameter does not"
OWN_STEP = "its parameter's gradient agrees, the optimiser's step does not"
ROOT: LayerCall = ("", 0)
BLOCK: LayerCall = ("block", 0)


def divergences(
    found: StepResult, single_step: bool = True, hidden: Mapping[str, Sequence[str]] | None = None
) -> list[Divergence]:
    return Blame(PerSide(BASE, RAW), TO_RAW, hidden).divergences(found, single_step)


def blamed(found: StepResult, single_step: bool = True) -> list[tuple[Stage, str]]:
    return [(one.stage, one.base.route) for one in divergences(found, single_step)]


def whys(found: StepResult, **settings: Any) -> list[tuple[str, str]]:
    return [(one.base.route, one.why) for one in divergences(found, **settings)]


def out(seq: int, route: str, failure: Failure | None = None, **more: Any) -> Any:
    one = pair("forward", route) if failure is None else failing("forward", route, failure=failure)
    return judged(seq, route, "output", one, **more)


def into(seq: int, route: str, failure: Failure | None = None, **more: Any) -> Any:
    one = pair("forward", route, "input.0") if failure is None else failing("forward", route, "input.0", failure)
    return judged(seq, route, "input", one, **more)


def grad(seq: int, route: str, side: BoundarySide, failure: Failure | None = None, **more: Any) -> Any:
    name = f"grad of {side}.0"
    one = pair("backward", route, name) if failure is None else failing("backward", route, name, failure)
    return judged(seq, route, side, one, **more)


def missing(
    route: str, side: BoundarySide, at: float, caller: LayerCall | None = ROOT, detached: bool = False
) -> MissingGradient:
    found = failing("backward", route, f"grad of {side}.0", "missing")
    return MissingGradient(found, (route, 0), caller, side, at, detached)


# -- nothing, or the first alone -------------------------------------------------------------------------------------------
def test_nobody_is_blamed_where_nothing_fails() -> None:
    found = StepResult(0, [into(0, "stem"), out(1, "stem")], [grad(0, "stem", "input")], [pair("weights", "stem")])
    assert [] == divergences(found)


def test_without_single_step_only_the_first_failure_is_told() -> None:
    found = StepResult(0, [out(1, "stem", "values"), out(3, "head", "values")])
    assert [("forward", "stem")] == blamed(found, single_step=False)


def test_in_single_step_every_layer_that_fails_is_told() -> None:
    found = StepResult(0, [out(1, "stem", "values"), out(3, "head", "values")])
    assert [("forward", "stem"), ("forward", "head")] == blamed(found)


def test_a_layer_is_told_once_with_its_first_failure() -> None:
    found = StepResult(0, [out(1, "stem", "values")], [grad(0, "stem", "input", "values")])
    assert [("forward", "stem")] == blamed(found)


def test_the_stages_come_in_the_order_in_which_they_ran() -> None:
    others = [
        failing("buffers", "head", "running_mean"),
        failing("weights", "block.fc2", "weight"),
        failing("grads", "block.fc1", "weight"),
        failing("loss", "", "loss"),
        failing("weights_before", "stem", "weight"),
    ]
    found = StepResult(
        0, [out(1, "block.act", "values"), out(9, "")], [grad(0, "block", "input", "values")], others=others
    )
    stages = ["weights_before", "forward", "loss", "backward", "grads", "weights", "buffers"]
    assert stages == [stage for stage, _ in blamed(found)]


def test_a_divergence_names_both_layers_with_their_hyperparameters() -> None:
    [one] = divergences(StepResult(3, [out(1, "stem", "values", call=2)]))
    assert (3, 2, "output.0") == (one.step, one.call, one.tensor)
    assert ("stem", "Linear", {}) == (one.base.route, one.base.class_name, one.base.hyperparameters)
    assert ("r.stem", "Linear", {"bias": True}) == (one.raw.route, one.raw.class_name, one.raw.hyperparameters)
    assert failing("forward", "stem") == one.found_at


# -- the forward -----------------------------------------------------------------------------------------------------------
def test_a_layer_whose_output_fails_first_is_blamed() -> None:
    assert [("stem", OWN_OUTPUT)] == whys(StepResult(0, [into(0, "stem"), out(1, "stem", "values")]))


def test_the_model_itself_is_blamed_for_its_output() -> None:
    assert [("", OWN_OUTPUT)] == whys(StepResult(0, [into(0, "", caller=None), out(1, "", "values", caller=None)]))


def test_a_layer_whose_children_agree_is_blamed_for_its_code_after_them() -> None:
    found = StepResult(0, [out(1, "block.fc1", caller=BLOCK), out(2, "block", "values")])
    assert [("block", AFTER_LAST_CHILD)] == whys(found)


def test_the_caller_is_blamed_for_what_it_hands_to_a_layer_inside() -> None:
    [one] = divergences(StepResult(0, [into(1, "block.fc2", "values", caller=BLOCK)]))
    why = "its inputs and children agree until here: its own code changes what it hands to 'block.fc2'"
    assert ("block", why) == (one.base.route, one.why)
    assert "input.0 of 'block.fc2'" == one.tensor


def test_inputs_of_the_models_that_differ_are_no_layers_doing() -> None:
    found = StepResult(0, [into(0, "", "values", caller=None)])
    assert [("", "the inputs given to the two models differ")] == whys(found)


@pytest.mark.parametrize(
    ("hidden", "tail"), [({}, ""), ({"": ("stem", "a", "b", "c")}, " (left out: stem, a, b and 1 more)")]
)
def test_an_outermost_layer_whose_input_differs_is_told_with_what_is_left_out(hidden: Any, tail: str) -> None:
    found = StepResult(0, [into(0, "head", "values", caller=None)])
    why = f"its input differs already, and what comes before it is not recorded{tail}"
    assert [("head", why)] == whys(found, hidden=hidden)


@pytest.mark.parametrize(
    ("failure", "told"), [("values", False), ("shape", True), ("dtype", True), ("nan", True), ("missing", True)]
)
def test_the_kind_of_a_failure_is_told_unless_it_is_one_of_values(failure: Failure, told: bool) -> None:
    tail = f" (they differ in {failure})" if told else ""
    assert [("stem", OWN_OUTPUT + tail)] == whys(StepResult(0, [out(1, "stem", failure)]))


def test_what_only_one_side_calls_in_the_layer_is_told_and_no_other_layers() -> None:
    sides = {("stem", 0): ["only base calls 'a' here", "only raw calls 'b' here"], ("stem", 1): ["no"], BLOCK: ["no"]}
    found = StepResult(0, [out(1, "stem", "values")], one_sided=sides)
    assert [("stem", f"{OWN_OUTPUT}; only base calls 'a' here; only raw calls 'b' here")] == whys(found)


def test_layers_left_out_inside_are_told_where_tensors_passed_them() -> None:
    hidden = {"stem": ("stem.a",), "block": ("block.b",), "head": ("head.c",)}
    found = StepResult(
        0,
        [out(1, "stem", "values")],
        [grad(0, "block", "input", "values")],
        [failing("grads", "head", "weight")],
    )
    assert [
        ("stem", f"{OWN_OUTPUT}; left out inside it: stem.a"),
        ("block", f"{OWN_GRADIENT}; left out inside it: block.b"),
        ("head", OWN_PARAMETER),
    ] == whys(found, hidden=hidden)


# -- functional calls in the layer at fault --------------------------------------------------------------------------------
def api(seq: int, name: str, failure: Failure | None = "values", layer_call: LayerCall = ("stem", 0)) -> Any:
    route = f"{layer_call[0]}/{name}"
    one = pair("forward", route) if failure is None else failing("forward", route, failure=failure)
    return judged(seq, route, "output", one, caller=layer_call, api=True)


def test_the_first_functional_call_that_differs_is_named() -> None:
    calls = ApiFindings([api(1, "relu", None), api(2, "exp"), api(3, "softmax")])
    [one] = divergences(StepResult(0, [out(4, "stem", "values")], calls=calls))
    assert ("its call 0 of exp is the first to differ", "exp.output.0") == (one.why, one.tensor)
    assert ("forward", "stem/exp") == (one.stage, one.found_at.base_route)


@pytest.mark.parametrize("call", [api(5, "exp"), api(2, "exp", layer_call=("stem", 1)), api(2, "exp", None)])
def test_a_call_that_came_later_or_lies_elsewhere_or_agrees_is_not_named(call: Any) -> None:
    found = StepResult(0, [out(4, "stem", "values")], calls=ApiFindings([call]))
    assert [("stem", OWN_OUTPUT)] == whys(found)


def test_what_one_side_alone_calls_is_told_beside_the_first_call_that_differs() -> None:
    words = {("stem", 0): ["only base calls relu here"]}
    found = StepResult(0, [out(4, "stem", "values")], calls=ApiFindings([api(2, "exp")], (), words))
    why = "its call 0 of exp is the first to differ of those that both sides make; only base calls relu here"
    assert [("stem", why)] == whys(found)


def test_no_more_than_four_names_that_one_side_alone_calls_are_told() -> None:
    words = {("stem", 0): [f"only base calls f{at} here" for at in range(6)]}
    found = StepResult(0, [out(4, "stem", "values")], calls=ApiFindings(words=words))
    [(_, why)] = whys(found)
    assert [OWN_OUTPUT, *words["stem", 0][:4]] == why.split("; ")


# -- failures that spread in single step: another shape or type ------------------------------------------------------------
@pytest.mark.parametrize("failure", ["shape", "dtype"])
def test_a_call_that_goes_on_with_a_tensor_of_another_form_inherits(failure: Failure) -> None:
    """A tensor of another shape cannot be replaced by base's, so all that the calls around it make differs, too."""
    found = StepResult(
        0,
        [
            out(1, "block.fc1", failure, caller=BLOCK),
            into(2, "block.act", failure, caller=BLOCK),
            out(3, "block.act", "values", caller=BLOCK),
            out(4, "block", "values"),
        ],
    )
    assert [("forward", "block.fc1")] == blamed(found)


def test_a_call_whose_input_has_another_form_inherits_in_its_output() -> None:
    found = StepResult(0, [into(0, "stem", "shape"), out(1, "stem", "values")])
    assert [("forward", "")] == blamed(found)


def test_a_layer_beside_a_call_with_another_form_is_still_blamed() -> None:
    found = StepResult(0, [out(1, "block.fc1", "shape", caller=BLOCK), out(5, "head", "values")])
    assert [("forward", "block.fc1"), ("forward", "head")] == blamed(found)


def test_another_call_of_a_spoiled_layer_is_still_blamed() -> None:
    found = StepResult(0, [out(1, "block.fc1", "shape", caller=BLOCK), out(5, "block", "values", call=1)])
    assert [("block.fc1", 0), ("block", 1)] == [(one.base.route, one.call) for one in divergences(found)]


def test_a_second_tensor_of_another_form_spoils_a_call_as_the_first_does() -> None:
    both = judged(1, "block.fc1", "output", failing(), failing(failure="shape"), caller=BLOCK)
    assert [("forward", "block.fc1")] == blamed(StepResult(0, [both, out(2, "block", "values")]))


def test_a_call_whose_values_differ_spoils_nothing() -> None:
    found = StepResult(0, [out(1, "block.fc1", "values", caller=BLOCK), out(2, "block", "values")])
    assert [("forward", "block.fc1"), ("forward", "block")] == blamed(found)


def test_gradients_of_another_form_inherit_from_the_forward_and_those_of_other_values_do_not() -> None:
    forward = [out(1, "block.fc1", "shape", caller=BLOCK)]
    unlike = StepResult(0, forward, [grad(0, "block", "input", "shape")])
    assert [("forward", "block.fc1")] == blamed(unlike)
    values = StepResult(0, forward, [grad(0, "block", "input", "values")])
    assert [("forward", "block.fc1"), ("backward", "block")] == blamed(values)


def test_a_gradient_of_another_form_at_a_layer_that_was_not_spoiled_is_blamed() -> None:
    found = StepResult(0, [out(1, "block.fc1", "shape", caller=BLOCK)], [grad(0, "head", "input", "shape")])
    assert [("forward", "block.fc1"), ("backward", "head")] == blamed(found)


# -- failures that spread in single step: base's own NaN -------------------------------------------------------------------
def test_the_first_layer_with_nan_is_blamed_and_those_after_it_inherit() -> None:
    found = StepResult(0, [out(1, "stem", "nan", has_nan=True), out(3, "head", "nan", has_nan=True)])
    assert [("forward", "stem")] == blamed(found)


def test_a_layer_without_nan_beside_those_that_inherit_it_is_still_blamed() -> None:
    found = StepResult(
        0, [out(1, "stem", "nan", has_nan=True), out(2, "block.fc1", "values"), out(3, "head", "nan", has_nan=True)]
    )
    assert [("forward", "stem"), ("forward", "block.fc1")] == blamed(found)


def test_nan_of_raw_alone_is_its_layers_own_in_each_layer() -> None:
    found = StepResult(0, [out(1, "stem", "nan"), out(3, "head", "nan")])
    assert [("forward", "stem"), ("forward", "head")] == blamed(found)


def test_nan_of_the_forward_is_inherited_by_the_backward_and_a_fault_beside_it_is_not() -> None:
    found = StepResult(
        0,
        [out(1, "stem", "nan", has_nan=True)],
        [grad(0, "head", "input", "nan", has_nan=True), grad(1, "block", "input", "values")],
    )
    assert [("forward", "stem"), ("backward", "block")] == blamed(found)


def test_the_first_nan_in_the_backward_is_blamed() -> None:
    backward = [grad(at, route, "input", "nan", has_nan=True) for at, route in enumerate(("head", "block"))]
    assert [("backward", "head")] == blamed(StepResult(0, backward=backward))


HELD: list[Stage] = ["loss", "grads", "weights", "buffers"]


@pytest.mark.parametrize("stage", HELD)
def test_what_follows_the_boundaries_inherits_their_nan(stage: Stage) -> None:
    nan = [out(1, "stem", "nan", has_nan=True)]
    assert [("forward", "stem")] == blamed(StepResult(0, nan, others=[failing(stage, "head", "weight")]))


@pytest.mark.parametrize("stage", HELD)
def test_what_follows_boundaries_without_nan_is_still_blamed(stage: Stage) -> None:
    forward = [out(1, "stem", "values")]
    found = StepResult(0, forward, others=[failing(stage, "head", "weight")])
    assert [("forward", "stem"), (stage, "head")] == blamed(found)


def test_nan_of_the_backward_silences_the_gradients_and_not_the_loss_before_it() -> None:
    found = StepResult(
        0,
        backward=[grad(0, "block", "input", "nan", has_nan=True)],
        others=[failing("grads", "head", "weight"), failing("loss", "", "loss")],
    )
    assert [("loss", ""), ("backward", "block")] == blamed(found)


# -- the loss --------------------------------------------------------------------------------------------------------------
def test_a_loss_that_differs_over_outputs_that_agree_is_blamed() -> None:
    found = StepResult(0, [out(1, "stem"), out(2, "", caller=None)], others=[failing("loss", "", "loss")])
    assert [("", "the outputs agree, the loss computed from them does not")] == whys(found)


def test_a_loss_over_outputs_that_are_not_recorded_is_told_as_that() -> None:
    found = StepResult(0, [out(1, "stem")], others=[failing("loss", "", "loss")])
    assert [("", "the model's outputs are not recorded, and the losses differ")] == whys(found)


# -- the backward ----------------------------------------------------------------------------------------------------------
def test_a_layer_whose_input_gradient_fails_first_is_blamed() -> None:
    found = StepResult(0, backward=[grad(0, "head", "output"), grad(1, "head", "input", "values")])
    assert [("head", OWN_GRADIENT)] == whys(found)


def test_a_layer_with_layers_inside_is_told_that_these_agree() -> None:
    inside = grad(0, "block.fc1", "input", caller=BLOCK)
    found = StepResult(0, backward=[inside, grad(1, "block", "input", "values")])
    why = "the gradients of its outputs and those inside it agree, what it sends back to its input does not"
    assert [("block", why)] == whys(found)


def test_the_caller_is_blamed_for_the_gradient_that_it_sends_to_a_layer_inside() -> None:
    found = StepResult(0, backward=[grad(0, "block.fc2", "output", "values", caller=BLOCK)])
    why = "gradients agree until here: its own code, run backward, changes the gradient that it sends to 'block.fc2'"
    assert [("block", why)] == whys(found)


def test_the_loss_is_told_where_the_gradient_of_the_models_output_differs() -> None:
    [one] = divergences(StepResult(0, backward=[grad(0, "", "output", "values", caller=None)]))
    why = "the gradient that the loss sends to the model's output differs"
    assert ("", 0, why, "grad of output.0") == (one.base.route, one.call, one.why, one.tensor)


@pytest.mark.parametrize(("hidden", "tail"), [({}, ""), ({"": ("late",)}, " (left out: late)")])
def test_an_outermost_layer_whose_output_gradient_differs_is_told_with_what_is_left_out(hidden: Any, tail: str) -> None:
    found = StepResult(0, backward=[grad(0, "head", "output", "values", caller=None)])
    why = f"the gradient of its output differs already, and what comes after it is not recorded{tail}"
    assert [("head", why)] == whys(found, hidden=hidden)


def test_a_layer_that_cuts_a_gradient_off_stands_among_the_others_in_the_order_of_the_backward() -> None:
    backward = [grad(2, "head", "input", "values"), grad(6, "stem", "input", "values")]
    found = StepResult(0, backward=backward, missing=[missing("block.fc1", "input", at=4.5, caller=BLOCK)])
    assert ["head", "block.fc1", "stem"] == [route for _, route in blamed(found)]
    why = "gradients reach its output, and one side sends none to its input (they differ in missing)"
    assert why == divergences(found)[1].why


def test_a_sum_that_lacks_what_a_layer_inside_cut_off_inherits() -> None:
    cut = missing("block.fc1", "input", at=1, caller=BLOCK)
    found = StepResult(0, backward=[grad(2, "block", "input", "values")], missing=[cut])
    assert [("backward", "block.fc1")] == blamed(found)


def test_a_layer_beside_a_cut_is_still_blamed() -> None:
    cut = missing("block.fc1", "input", at=1, caller=BLOCK)
    found = StepResult(0, backward=[grad(2, "stem", "input", "values")], missing=[cut])
    assert [("backward", "block.fc1"), ("backward", "stem")] == blamed(found)


# -- gradients of parameters -----------------------------------------------------------------------------------------------
def test_a_layer_is_blamed_for_the_gradient_of_its_own_parameter() -> None:
    found = StepResult(0, [out(1, "stem")], others=[failing("grads", "stem", "weight")])
    assert [("stem", OWN_PARAMETER)] == whys(found)


def test_gradients_come_in_the_order_in_which_backward_reached_their_layers() -> None:
    backward = [grad(0, "head", "output"), grad(1, "block.fc2", "output"), grad(2, "head", "input")]
    others = [failing("grads", route, "weight") for route in ("stem", "block.fc2", "head")]
    found = StepResult(0, backward=backward, others=others)
    assert ["head", "block.fc2", "stem"] == [route for _, route in blamed(found)]


def test_a_parameter_behind_an_output_without_gradient_only_follows() -> None:
    forward = [out(1, "stem")]
    silent = missing("stem", "output", at=1)
    found = StepResult(0, forward, missing=[silent], others=[failing("grads", "stem", "weight", "missing")])
    assert [("backward", "")] == blamed(found)


@pytest.mark.parametrize(("route", "failure"), [("head", "missing"), ("stem", "values")])
def test_beside_a_parameter_that_follows_another_gradient_is_still_blamed(route: str, failure: Failure) -> None:
    others = [failing("grads", "stem", "weight", "missing"), failing("grads", route, "bias", failure)]
    found = StepResult(0, [out(1, "stem"), out(2, "head")], missing=[missing("stem", "output", at=1)], others=others)
    assert [("backward", ""), ("grads", route)] == blamed(found)


def test_a_gradient_that_is_missing_at_a_layer_that_ran_is_the_layers_own() -> None:
    others = [failing("grads", "block.fc1", "weight", "missing")]
    found = StepResult(0, [out(1, "block.fc1"), out(2, "block")], others=others)
    assert [("block.fc1", f"{OWN_PARAMETER} (they differ in missing)")] == whys(found)


@pytest.mark.parametrize("ran", ["block", ""])
def test_a_layer_that_did_not_run_is_not_blamed_but_the_one_around_it_that_ran(ran: str) -> None:
    others = [failing("grads", "block.fc1", "weight", "missing")]
    [one] = divergences(StepResult(0, [out(1, "stem"), out(2, ran)], others=others))
    assert (ran, "one side makes no use of a layer inside it (they differ in missing)") == (one.base.route, one.why)
    assert "weight of 'block.fc1'" == one.tensor


def test_a_gradient_whose_values_differ_is_its_own_layers_even_where_that_did_not_run() -> None:
    found = StepResult(0, [out(2, "block")], others=[failing("grads", "block.fc1", "weight")])
    assert [("block.fc1", OWN_PARAMETER)] == whys(found)


# -- what the optimisers leave ---------------------------------------------------------------------------------------------
def test_a_step_that_follows_a_wrong_gradient_inherits() -> None:
    others = [failing("grads", "stem", "weight"), failing("weights", "stem", "weight")]
    assert [("grads", "stem")] == blamed(StepResult(0, others=others))
    elsewhere = [failing("grads", "block.fc1", "weight", "missing"), failing("weights", "block.fc1", "weight")]
    assert [("grads", "block")] == blamed(StepResult(0, [out(2, "block")], others=elsewhere))
    [one] = divergences(StepResult(0, others=[failing("weights", "stem", "weight")]))
    assert ("stem", OWN_STEP, "weight") == (one.base.route, one.why, one.tensor)


@pytest.mark.parametrize(("apart", "why"), [(0.03, "passes and is 0.03 apart"), (1e-7, "agrees")])
def test_a_step_whose_gradient_passes_by_a_wide_tolerance_is_not_said_to_agree_in_it(apart: float, why: str) -> None:
    passes = pair("grads", "stem", "weight", metrics=measured(rel_l2=apart))
    [one] = divergences(StepResult(0, others=[passes, failing("weights", "stem", "weight")]))
    assert f"its parameter's gradient {why}" in one.why


@pytest.mark.parametrize(("route", "tensor"), [("head", "weight"), ("block.fc1", "bias")])
def test_a_step_beside_a_wrong_gradient_is_still_blamed(route: str, tensor: str) -> None:
    others = [failing("grads", "stem", "weight"), failing("weights", route, tensor)]
    assert [("grads", "stem"), ("weights", route)] == blamed(StepResult(0, others=others))


def test_a_step_of_another_parameter_than_that_with_a_wrong_gradient_is_still_blamed() -> None:
    others = [failing("grads", "block.fc1", "weight", "missing"), failing("weights", "block.fc1", "bias")]
    found = StepResult(0, [out(2, "block")], others=others)
    assert [("grads", "block"), ("weights", "block.fc1")] == blamed(found)


def test_a_gradient_that_was_skipped_excuses_no_step() -> None:
    spared = replace(failing("grads", "stem", "weight"), status="skipped", failure="")
    found = StepResult(0, others=[spared, failing("weights", "stem", "weight")])
    assert [("weights", "stem")] == blamed(found)


@pytest.mark.parametrize(
    ("stage", "why"),
    [
        ("weights_before", "its parameters differ before the first step"),
        ("buffers", "its buffer differs after the step"),
    ],
)
def test_the_holder_of_a_tensor_that_no_optimiser_steps_is_blamed_whatever_its_gradient(stage: Stage, why: str) -> None:
    # The wrong gradient of a layer that did not run is told at the root, so that the layer itself is still to be told.
    others = [failing("grads", "stem", "weight", "missing"), failing(stage, "stem", "weight")]
    assert ("stem", why) in whys(StepResult(0, others=others))
