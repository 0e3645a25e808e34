"""The one line on what to try next."""

from __future__ import annotations

import pytest

from padiff_rpc.report.advice import advise
from padiff_rpc.result import Cause, LayerRef
from tests.report import results


def differs(failure="values", stage="forward", classes=("Linear", "Linear"), **changes):
    found = results.pair("a", "a", 0.5, failure=failure, stage=stage)
    one = results.divergence(found, *(LayerRef("a", name) for name in classes))
    return results.result([found], [one], **changes)


FLOAT64 = {"base": results.asked("float64"), "raw": results.asked("float64")}
A_DUMP = {"base": results.ENVIRONMENT["base"], "raw": {**results.ENVIRONMENT["raw"], "recorded": True}}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (differs(), "--single-step"),
        (differs(settings={"single_step": True}), "--dtype float64"),
        (differs(settings={"single_step": True, **FLOAT64}), "line by line"),
        (differs("dtype"), "--allow-dtype-difference"),
        (differs("shape"), "--pair BASE=RAW"),
        (differs("nan"), "--dtype float64"),
        (differs("nan", settings=FLOAT64), "no overflow"),
        (differs("missing"), "take and return"),
        (differs("missing", stage="grads"), "requires_grad"),
        (differs(stage="grads"), "--dtype float64"),
        (differs(stage="grads", settings=FLOAT64), "--single-step"),
        (differs(stage="weights"), "weight decay"),
        (differs(stage="buffers"), "momentum"),
        (differs(stage="weights_before", settings={"assign": False}), "--no-assign"),
        (differs(stage="weights_before"), "its layout"),
        (differs(stage="weights_before", environment=A_DUMP), "a dump takes no others"),
        (differs(classes=("Dropout", "Dropout")), "--eval"),
        (differs(notes=["base draws random numbers in drop"]), "--eval"),
        (results.bert_differs(causes=[results.CAUSE]), "eps=1e-12 against epsilon=0.001"),
        (results.result([], aligned=False), "nothing was compared"),
    ],
)
def test_the_advice_fits_what_failed_and_what_was_tried(result, expected):
    assert expected in advise(result)


def test_leaves_of_different_classes_are_named_and_blocks_are_not():
    trees = {"base": [("", "M"), ("a", "ReLU")], "raw": [("", "M"), ("a", "ReLU6")]}
    blocks = {side: [*layers, ("a.b", "Linear")] for side, layers in trees.items()}

    assert "ReLU against ReLU6" in advise(differs(classes=("ReLU", "ReLU6"), trees=trees))
    assert "--single-step" in advise(differs(classes=("ReLU", "ReLU6"), trees=blocks))
    assert "--single-step" in advise(differs(classes=("Conv2d", "Conv2D"), trees=trees))


def test_a_shape_that_a_blocks_own_code_may_set_has_the_two_meanings_of_split():
    leaf = {side: [("", "M"), ("a", "Glu")] for side in ("base", "raw")}
    block = {side: [*layers, ("a.fc", "Linear")] for side, layers in leaf.items()}
    one = dict.fromkeys(("base", "raw"), results.ENVIRONMENT["base"])
    words = "torch.split takes the size of a part, paddle.split their number"

    assert words in advise(differs("shape", trees=block))
    assert words not in advise(differs("shape", trees=leaf))
    assert words not in advise(differs("shape", trees=block, environment=one))


def test_an_aligned_result_needs_no_advice():
    assert advise(results.aligned()) == ""


def test_the_advice_follows_from_the_first_cause_unless_random_numbers_may_be_all_of_it():
    part = Cause("part", "only the last index of axis 1 differs", "1 of 6 indices", 0.5)
    factor = Cause("constant factor", "a constant factor lies between the two", "raw = 2.0000 x base", 0.9)
    note = "base draws random numbers in drop"

    assert "raw = 2.0000 x base" in advise(differs(causes=[factor, part]))
    assert "only the last index" in advise(differs(causes=[part]))
    assert "--eval" in advise(differs(causes=[part], notes=[note]))
    assert "raw = 2.0000 x base" in advise(differs(causes=[factor], notes=[note]))
