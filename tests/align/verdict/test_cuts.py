"""Cuts: which missing gradient is a layer's own doing, and which follows from another."""

from __future__ import annotations

import pytest

from padiff_rpc.align.stages.one_sided import MissingGradient
from padiff_rpc.align.verdict.cuts import Cuts
from padiff_rpc.model.model import BoundarySide, LayerCall
from padiff_rpc.result import Status
from tests.align.hand_made import pair

ROOT: LayerCall = ("", 0)
INTO_CHILD = "its own code detaches on one side what it hands to the layer inside it"
BEFORE_IT = "its input is detached on one side, by what comes before it and is not recorded"
DETACHED_OUTPUT = "its output is detached, or made from frozen parameters, on one side only"
NOTHING_TO_INPUT = "gradients reach its output, and one side sends none to its input"
NOTHING_HERE = "its own code, run backward, sends no gradient here on one side"


def missing(
    route: str,
    side: BoundarySide,
    at: float = 0.0,
    caller: LayerCall | None = ROOT,
    detached: bool = False,
    status: Status = "fail",
    call: int = 0,
) -> MissingGradient:
    failure = "missing" if status == "fail" else ""
    found = pair("backward", route, f"grad of {side}.0", status, "only base has this gradient", failure, None)
    return MissingGradient(found, (route, call), caller, side, at, detached)


def culprits(*found: MissingGradient) -> list[tuple[str, str]]:
    return [(cut.culprit[0], cut.why) for cut in Cuts(found).own()]


# -- gradients that did not come, though autograd leads there --------------------------------------------------------------
def test_a_layer_whose_output_gets_a_gradient_and_whose_input_gets_none_cuts() -> None:
    assert [("fc", NOTHING_TO_INPUT)] == culprits(missing("fc", "input"))


def test_a_layer_whose_output_gets_no_gradient_either_only_follows() -> None:
    sent = missing("fc", "output", at=1)
    assert [("", NOTHING_HERE)] == culprits(sent, missing("fc", "input", at=2))


def test_another_call_of_a_layer_that_follows_still_cuts() -> None:
    found = (missing("fc", "output", at=1), missing("fc", "input", at=2), missing("fc", "input", at=3, call=1))
    assert [("fc", 1)] == [cut.culprit for cut in Cuts(found).own()]


def test_the_innermost_of_two_layers_that_send_nothing_back_cuts() -> None:
    inner, outer = missing("block.fc", "input", at=1, caller=("block", 0)), missing("block", "input", at=2)
    assert [("block.fc", NOTHING_TO_INPUT)] == culprits(inner, outer)


def test_a_layer_that_cuts_beside_one_with_a_cut_inside_is_still_found() -> None:
    inner, outer = missing("block.fc", "input", at=1, caller=("block", 0)), missing("block", "input", at=2)
    assert ["block.fc", "other"] == [route for route, _ in culprits(inner, outer, missing("other", "input", at=3))]


def test_the_loss_is_named_where_it_sends_nothing_to_the_models_output() -> None:
    sent = missing("", "output", caller=None)
    assert [("", "the loss sends no gradient to this output on one side")] == culprits(sent)


def test_what_is_not_recorded_is_named_where_it_sends_nothing_to_an_outermost_layer() -> None:
    sent = missing("fc", "output", caller=None)
    why = "what comes after it, and is not recorded, sends no gradient to this output on one side"
    assert [("fc", why)] == culprits(sent)


def test_a_caller_that_gets_gradients_and_sends_none_to_a_layer_inside_is_named() -> None:
    assert [("block", NOTHING_HERE)] == culprits(missing("block.fc", "output", caller=("block", 0)))


def test_a_caller_whose_own_output_gets_none_is_not_named_for_the_layers_inside() -> None:
    outer, inner = missing("block", "output", at=1), missing("block.fc", "output", at=2, caller=("block", 0))
    assert [("", NOTHING_HERE)] == culprits(outer, inner)


def test_a_caller_is_not_named_where_a_layer_inside_it_cuts() -> None:
    cutter = missing("block.late", "input", at=1, caller=("block", 0))
    upstream = missing("block.early", "output", at=2, caller=("block", 0))
    assert [("block.late", NOTHING_TO_INPUT)] == culprits(cutter, upstream)


def test_a_caller_beside_the_one_with_a_cut_inside_is_still_named() -> None:
    cutter = missing("block.late", "input", at=1, caller=("block", 0))
    upstream = missing("other.early", "output", at=2, caller=("other", 0))
    assert ["block.late", "other"] == [route for route, _ in culprits(cutter, upstream)]


# -- histories that were detached in the forward ---------------------------------------------------------------------------
def test_the_caller_that_hands_a_detached_tensor_to_a_layer_inside_cuts() -> None:
    assert [("block", INTO_CHILD)] == culprits(missing("block.fc", "input", caller=("block", 0), detached=True))


def test_a_caller_whose_own_input_is_detached_only_hands_it_on() -> None:
    outer = missing("block", "input", at=2, detached=True)
    inner = missing("block.fc", "input", at=1, caller=("block", 0), detached=True)
    assert [("", INTO_CHILD)] == culprits(inner, outer)


def test_a_caller_whose_input_is_detached_in_another_call_still_cuts() -> None:
    outer = missing("block", "input", at=2, detached=True, call=1)
    inner = missing("block.fc", "input", at=1, caller=("block", 0), detached=True)
    assert ["block", ""] == [route for route, _ in culprits(inner, outer)]


def test_a_caller_whose_input_has_a_history_and_gets_no_gradient_still_cuts() -> None:
    outer = missing("block", "input", at=2)
    inner = missing("block.fc", "input", at=1, caller=("block", 0), detached=True)
    assert [("block", INTO_CHILD)] == culprits(inner, outer)


def test_a_caller_hands_on_what_a_layer_inside_made_without_history() -> None:
    made = missing("block.first", "output", at=2, caller=("block", 0), detached=True)
    taken = missing("block.second", "input", at=1, caller=("block", 0), detached=True)
    assert [("block.first", DETACHED_OUTPUT)] == culprits(made, taken)


def test_a_caller_beside_the_one_that_hands_on_still_cuts() -> None:
    made = missing("block.first", "output", at=2, caller=("block", 0), detached=True)
    taken = missing("other.second", "input", at=1, caller=("other", 0), detached=True)
    assert [("other", INTO_CHILD), ("block.first", DETACHED_OUTPUT)] == culprits(made, taken)


def test_a_detached_input_of_an_outermost_layer_comes_from_what_is_not_recorded() -> None:
    assert [("fc", BEFORE_IT)] == culprits(missing("fc", "input", caller=None, detached=True))


def test_the_models_own_inputs_may_be_detached() -> None:
    assert [] == culprits(missing("", "input", caller=None, detached=True))


def test_a_layer_whose_output_alone_is_detached_cuts() -> None:
    assert [("fc", DETACHED_OUTPUT)] == culprits(missing("fc", "output", detached=True))


def test_a_detached_output_follows_from_a_detached_input() -> None:
    sides = missing("fc", "input", at=2, detached=True), missing("fc", "output", at=1, detached=True)
    assert "fc" not in [route for route, _ in culprits(*sides)]


def test_a_detached_output_follows_from_a_layer_inside_that_makes_one() -> None:
    inner = missing("block.fc", "output", at=2, caller=("block", 0), detached=True)
    assert [("block.fc", DETACHED_OUTPUT)] == culprits(missing("block", "output", at=1, detached=True), inner)


def test_an_output_without_a_gradient_is_no_output_without_history() -> None:
    """A silent output inside does not excuse the detached output of the layer around it."""
    inner = missing("block.fc", "output", at=2, caller=("block", 0))
    found = culprits(missing("block", "output", at=1, detached=True), inner)
    assert ("block", DETACHED_OUTPUT) in found


def test_a_detached_input_makes_no_cutter() -> None:
    cuts = Cuts([missing("block.fc", "input", caller=("block", 0), detached=True)])
    assert not cuts.lacks_summand(("block", 0))


# -- what the cuts explain -------------------------------------------------------------------------------------------------
def test_a_call_lacks_a_summand_where_a_layer_directly_inside_it_cuts() -> None:
    cuts = Cuts([missing("block.fc", "input", caller=("block", 0))])
    assert cuts.lacks_summand(("block", 0))
    assert not cuts.lacks_summand(("block", 1))
    assert not cuts.lacks_summand(ROOT)


def test_a_call_lacks_no_summand_where_a_layer_inside_it_only_follows() -> None:
    sides: tuple[BoundarySide, BoundarySide] = ("output", "input")
    assert not Cuts([missing("block.fc", side, caller=("block", 0)) for side in sides]).lacks_summand(("block", 0))


def test_the_layers_to_whose_output_no_gradient_comes_are_silent() -> None:
    cuts = Cuts([missing("a", "output"), missing("b", "input"), missing("c", "output", detached=True)])
    assert {"a", "c"} == set(cuts.silent_routes)


@pytest.mark.parametrize("status", ["pass", "skipped"])
def test_a_missing_gradient_that_does_not_fail_is_no_cut_and_explains_nothing(status: Status) -> None:
    spared = missing("block.fc", "input", caller=("block", 0), status=status)
    silent = missing("block.late", "output", caller=("block", 0), status=status)
    cuts = Cuts([spared, silent])
    assert [] == list(cuts.own())
    assert not cuts.lacks_summand(("block", 0))
    assert set() == set(cuts.silent_routes)


def test_a_cut_beside_a_missing_gradient_that_does_not_fail_is_found() -> None:
    spared = missing("fc", "output", status="skipped")
    assert [("fc", NOTHING_TO_INPUT)] == culprits(spared, missing("fc", "input", at=1))


def test_cuts_come_in_the_order_of_bases_backward() -> None:
    found = [missing("late", "input", at=7.5), missing("early", "input", at=0), missing("middle", "input", at=3)]
    assert ["early", "middle", "late"] == [route for route, _ in culprits(*found)]
