"""Notes: what a reader must know besides the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.verdict.notes import notes_on
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.compare.tolerances import EPSILON
from padiff_rpc.match.layer_map import LayerPair, Matching
from padiff_rpc.match.random_layers import random_layers
from padiff_rpc.match.scope import Scope
from padiff_rpc.model.model import LayerInfo, ModelDescription, OptimizerSpec, ParameterInfo
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair, Stage
from padiff_rpc.tensors.tensor import DType, TensorSpec
from tests.align.hand_made import METRICS, described, failing, judged, layer, measured, pair

ROOT = layer("", "Net")


def notes(
    base: ModelDescription, raw: ModelDescription, *pairs: Pair, steps: Sequence[StepResult] = (), **settings: Any
) -> list[str]:
    """Return the notes on two models whose layers correspond one by one; pairs of dropouts are inferred."""
    layers = tuple(
        LayerPair(a.route, b.route, "name", a.class_name != "Dropout")
        for a, b in zip(base.layers, raw.layers, strict=True)
    )
    asked = AlignSettings(**settings)
    scope = Scope(layers, (), (), (), {}, True)
    sides = cast("Any", None)  # no note asks the models themselves
    prepared = Prepared(sides, PerSide(base, raw), Matching(layers, (), (), ()), scope, asked, asked)
    return notes_on(prepared, pairs, steps)


def alike(*layers: LayerInfo, **settings: Any) -> list[str]:
    return notes(described(ROOT, *layers), described(ROOT, *layers), **settings)


def test_two_models_of_which_nothing_is_to_be_said_have_no_note() -> None:
    assert [] == alike(layer("fc", eps=1e-5), layer("drop", "Dropout", p=0.5))


# -- layers that draw random numbers ---------------------------------------------------------------------------------------
def test_active_dropout_is_named_on_each_side_that_has_it() -> None:
    active, inactive = layer("drop", "Dropout", training=True, p=0.5), layer("drop", "Dropout", p=0.5)
    base, raw = described(ROOT, active), described(ROOT, inactive)
    tail = "draws random numbers in drop (Dropout, p=0.5): set the rate to 0, or run in eval mode"
    assert [f"base {tail}"] == notes(base, raw)
    assert [f"raw {tail}"] == notes(raw, base)
    assert [f"base {tail}", f"raw {tail}"] == notes(base, base)


def test_the_mode_that_the_settings_ask_for_stands_above_the_layers_own() -> None:
    model = described(layer("a", "Dropout", training=True, p=0.1), layer("b", "Dropout", p=0.2))
    assert ["a (Dropout, p=0.1)"] == random_layers(model, None)
    assert ["a (Dropout, p=0.1)", "b (Dropout, p=0.2)"] == random_layers(model, True)
    assert [] == random_layers(model, False)


@pytest.mark.parametrize(
    ("class_name", "rate"),
    [
        ("Dropout", "p"),
        ("AlphaDropout", "p"),
        ("DropPath", "drop_prob"),
        ("StochasticDepth", "p"),
        ("MultiHeadAttention", "dropout"),
        ("LSTM", "dropout"),
        ("GRU", "dropout"),
        ("SimpleRNN", "dropout"),
    ],
)
def test_layers_that_apply_their_rate_themselves_draw_random_numbers(class_name: str, rate: str) -> None:
    model = described(layer("one", class_name, training=True, **{rate: 0.25}))
    assert [f"one ({class_name}, {rate}=0.25)"] == random_layers(model, None)


@pytest.mark.parametrize("class_name", ["TransformerEncoderLayer", "LSTMCellStack", "Linear"])
def test_layers_that_hand_their_rate_to_a_layer_inside_do_not(class_name: str) -> None:
    assert [] == random_layers(described(layer("one", class_name, training=True, dropout=0.25)), None)


def test_a_layer_inside_one_that_hands_on_its_rate_is_still_named() -> None:
    outer = layer("one", "TransformerEncoderLayer", training=True, dropout=0.25)
    model = described(outer, layer("one.drop", "Dropout", training=True, p=0.25))
    assert ["one.drop (Dropout, p=0.25)"] == random_layers(model, None)


@pytest.mark.parametrize("rate", [0, 0.0, -1, True, "0.5", None])
def test_a_rate_that_is_no_number_above_zero_draws_nothing(rate: object) -> None:
    assert [] == random_layers(described(layer("one", "Dropout", training=True, p=rate)), None)


def test_a_rate_of_one_draws_and_a_layer_is_named_once() -> None:
    model = described(layer("one", "Dropout", training=True, p=1, dropout=0.5))
    assert ["one (Dropout, p=1.0)"] == random_layers(model, None)


def test_a_root_goes_by_its_class() -> None:
    assert ["Dropout (Dropout, p=0.5)"] == random_layers(
        described(layer("", "Dropout", training=True, p=0.5)), training=None
    )


def test_a_layer_that_never_ran_draws_nothing_and_is_named_as_such() -> None:
    model = described(ROOT, layer("fc"), *(layer(name, "Dropout", training=True, p=0.5) for name in ("used", "idle")))
    ran = [pair(route=route) for route in ("used", "")]
    drawing = "draws random numbers in used (Dropout, p=0.5): set the rate to 0, or run in eval mode"
    waiting = "never called idle (Dropout, p=0.5): the dropout there counts only if it is used in another way"
    assert [f"{side} {words}" for side in ("base", "raw") for words in (drawing, waiting)] == notes(model, model, *ran)
    # A forward that did not come to its end says nothing of what would have come.
    assert all("never called" not in note for note in notes(model, model, ran[0]))


@pytest.mark.parametrize(("count", "tail"), [(5, ""), (6, " and 1 more"), (8, " and 3 more")])
def test_no_more_than_five_are_named(count: int, tail: str) -> None:
    layers = [layer(f"d{at}", "Dropout", training=True, p=0.5) for at in range(count)]
    named = ", ".join(f"d{at} (Dropout, p=0.5)" for at in range(5))
    [base, _] = alike(*layers)
    assert f"base draws random numbers in {named}{tail}: set the rate to 0, or run in eval mode" == base


# -- hyper-parameters and optimisers ---------------------------------------------------------------------------------------
def test_hyperparameters_that_differ_are_named_with_both_values() -> None:
    base, raw = (described(layer("", "Norm", eps=eps), layer("a.norm", "Norm", eps=eps)) for eps in (1e-12, 1e-5))
    text = (
        "hyper-parameters differ between layers that correspond: "
        "Net (eps=1e-12 against eps=1e-05), a.norm (eps=1e-12 against eps=1e-05)"
    )
    assert [text] == notes(base, raw)


def test_hyperparameters_are_read_in_each_frameworks_own_words() -> None:
    base = described(layer("norm", "BatchNorm", momentum=0.1), framework="torch")
    raw = described(layer("norm", "BatchNorm", momentum=0.9), framework="paddle")
    assert [] == notes(base, raw)
    other = described(layer("norm", "BatchNorm", momentum=0.1), framework="paddle")
    assert ["hyper-parameters differ between layers that correspond: norm (momentum=0.1 against momentum=0.1)"] == (
        notes(base, other)
    )


def test_optimisers_that_differ_are_named_with_their_options() -> None:
    base, raw = OptimizerSpec("SGD", {"lr": 0.01, "momentum": 0.9}), OptimizerSpec("Adam", {"lr": 1e-4})
    text = "the two sides step with different optimisers: SGD(lr=0.01, momentum=0.9) and Adam(lr=0.0001)"
    assert [text] == alike(base_optimizer=base, raw_optimizer=raw)
    other = OptimizerSpec("SGD", {"lr": 0.02, "momentum": 0.9})
    assert 1 == len(alike(base_optimizer=base, raw_optimizer=other))


def test_equal_optimisers_or_none_need_no_note() -> None:
    sgd = OptimizerSpec("SGD", {"lr": 0.01})
    assert [] == alike(base_optimizer=sgd, raw_optimizer=OptimizerSpec("SGD", {"lr": 0.01}))
    assert [] == alike(base_optimizer=sgd)
    assert [] == alike(raw_optimizer=sgd)
    assert [] == alike()


# -- gradients that agree only loosely -------------------------------------------------------------------------------------
WEIGHT = ParameterInfo("fc.weight", "parameter", TensorSpec(DType.F32, (2, 2)), True)
FLOAT32 = described(ROOT, layer("fc"), parameters=[WEIGHT])
LOOSE = pair("grads", "fc", "weight", metrics=measured(rel_l2=2e-3))


def loose(*pairs: Pair, base: ModelDescription = FLOAT32, **settings: Any) -> list[str]:
    return notes(base, base, *pairs, **settings)


def test_gradients_that_agree_only_loosely_are_counted_and_the_worst_is_named() -> None:
    worse = pair("backward", "block", "grad of input.0", metrics=measured(rel_l2=3e-2, measure="max_scaled"))
    text = (
        "2 gradients agree only to 0.03 (relative L2, block grad of input.0): inputs of a ReLU that round to either side of "
        "zero do that, and so does a small fault; single step or float64 tells them apart"
    )
    assert [text] == loose(LOOSE, worse)


@pytest.mark.parametrize(("rel_l2", "noted"), [(1.1e-3, True), (0.9e-3, False), (1e-4, False)])
def test_gradients_are_loose_from_a_thousandth_on(rel_l2: float, noted: bool) -> None:
    assert noted == bool(loose(replace(LOOSE, metrics=measured(rel_l2=rel_l2))))


@pytest.mark.parametrize("stage", ["forward", "loss", "weights", "buffers"])
def test_only_gradients_are_called_loose(stage: Stage) -> None:
    assert [] == loose(replace(LOOSE, stage=stage))


def test_a_loose_gradient_at_layers_that_no_parameter_ties_is_not_told() -> None:
    dropping = described(ROOT, layer("fc"), layer("drop", "Dropout"), parameters=[WEIGHT])
    at_dropout = pair("backward", "drop", "grad of input.0", metrics=measured(rel_l2=3e-2))
    assert [] == loose(at_dropout, base=dropping)
    [text] = loose(at_dropout, LOOSE, base=dropping)
    assert text.startswith("1 gradients agree only to 0.002 ")


@pytest.mark.parametrize("measure", ["max_abs", "step_l2", "mismatched"])
def test_a_gradient_that_passed_by_another_measure_is_not_loose(measure: str) -> None:
    """One below the rounding noise, say, has any relative error."""
    assert [] == loose(replace(LOOSE, metrics=measured(rel_l2=2e-3, measure=measure)))


def test_beside_a_gradient_of_another_measure_a_loose_one_is_still_counted() -> None:
    noise = replace(LOOSE, metrics=measured(rel_l2=0.5, measure="max_abs"))
    [text] = loose(noise, LOOSE)
    assert text.startswith("1 gradients agree only to 0.002 ")


def test_a_gradient_that_was_not_measured_is_not_loose() -> None:
    assert [] == loose(replace(LOOSE, status="skipped", metrics=None))
    assert [] == loose(replace(LOOSE, metrics=None))
    assert [] == loose(replace(LOOSE, status="skipped"))


def test_where_anything_fails_loose_gradients_follow_from_it() -> None:
    assert [] == loose(LOOSE, failing())


@pytest.mark.parametrize(
    "settings",
    [
        {"single_step": True},
        {"compare": CompareRules(rtol=0.1)},
        {"compare": CompareRules(mode="strict")},
        {"compare": CompareRules(mode="mean")},
    ],
)
def test_where_the_table_is_tight_or_not_used_no_gradient_is_loose(settings: dict[str, Any]) -> None:
    assert [] == loose(LOOSE, **settings)
    assert [] != loose(LOOSE, compare=CompareRules(atol=1e-9))


def test_models_without_float32_have_no_loose_gradients() -> None:
    double = replace(WEIGHT, spec=TensorSpec(DType.F64, (2, 2)))
    assert [] == loose(LOOSE, base=described(ROOT, layer("fc"), parameters=[double]))
    assert [] != loose(LOOSE, base=described(ROOT, layer("fc"), parameters=[double, WEIGHT]))


# -- what a tolerance or an exception let pass ------------------------------------------------------------------------------
ADAM = {"base_optimizer": OptimizerSpec("Adam"), "raw_optimizer": OptimizerSpec("Adam")}
MODEL = described(ROOT, layer("fc"))


def test_elements_left_out_after_a_step_are_counted() -> None:
    [one] = notes(MODEL, MODEL, steps=[StepResult(0, left_out={"a": 1200, "b": 34})], **ADAM)
    assert one.startswith(
        "weights: 1,234 elements of 2 parameters were left out after the step: their gradients are rounding"
    )
    steps = [StepResult(0, left_out={"a": 2}), StepResult(1), StepResult(2, left_out={"a": 3})]
    [one] = notes(MODEL, MODEL, steps=steps, **ADAM)
    assert one.startswith("weights: 5 elements of 1 parameters were left out after 2 of 3 steps")


def used(share: float, stage: Stage = "forward", route: str = "fc") -> Pair:
    return pair(stage, route, metrics=measured(measured=share, allowed=1.0))


@pytest.mark.parametrize(("share", "noted"), [(0.5, False), (0.51, True), (1.0, True)])
def test_a_pass_that_used_more_than_half_of_its_tolerance_is_named(share: float, noted: bool) -> None:
    found = notes(MODEL, MODEL, used(share))
    assert found == ([f"forward: {share:.0%} of what the tolerance allows was used, at fc output.0"] if noted else [])


def test_of_each_stage_the_closest_pass_is_named() -> None:
    found = notes(MODEL, MODEL, used(0.6, route="a"), used(0.9, route="b"), used(0.7, "buffers"), used(0.8, route="c"))
    assert ["forward: 90%", "buffers: 70%"] == [text[: text.index("%") + 1] for text in found]
    assert " at b output.0" in found[0]


def test_where_something_fails_or_the_tolerance_is_the_users_no_near_failure_is_named() -> None:
    assert [] == notes(MODEL, MODEL, used(0.9), failing())
    assert [] == notes(MODEL, MODEL, used(0.9), compare=CompareRules(mode="strict"))
    assert [] == notes(MODEL, MODEL, pair(metrics=measured(measured=0.0, allowed=0.0)))


def test_the_most_important_note_comes_first() -> None:
    base = described(layer("drop", "Dropout", training=True, p=0.5), parameters=[WEIGHT])
    raw = described(layer("drop", "Dropout", p=0.4), parameters=[WEIGHT])
    optimizers = {"base_optimizer": OptimizerSpec("SGD"), "raw_optimizer": OptimizerSpec("Adam")}
    begin = ["base draws", "hyper-parameters differ", "the two sides step", "1 gradients agree only"]
    found = notes(base, raw, LOOSE, **optimizers)
    assert begin == [text[: len(start)] for text, start in zip(found, begin, strict=True)]


# -- gradients that may be nothing but rounding ------------------------------------------------------------------------------
def first_of_gradients(apart: float, square: float, tensor: str = "grad of input.0", **settings: Any) -> list[str]:
    """Return the notes where the gradients of a layer's input are that far apart, and those of its output of that size."""
    metrics = replace(METRICS, max_abs=apart, base_dtype="F32", raw_dtype="F32")
    failed = replace(failing("backward", "norm", tensor), metrics=metrics)
    came = replace(judged(0, "norm", "output", square=square), first=TensorSpec(DType.F32, (4,)))
    step = StepResult(0)
    step.backward = [came, judged(1, "norm", "input", failed)]
    model = described(ROOT, layer("norm"))
    return notes(model, model, failed, steps=[step], **settings)


def test_a_gradient_within_the_rounding_of_those_it_comes_from_is_told() -> None:
    (note,) = first_of_gradients(apart=5e-9, square=0.04)
    assert note.startswith(
        "norm grad of input.0: apart by 5e-09, where the gradients at the layer's output are of size 0.1:"
    )
    assert "--dtype float64" in note


def test_a_gradient_that_is_further_apart_is_no_rounding() -> None:
    allowed = 64 * EPSILON[DType.F32] * 0.1
    assert [] == first_of_gradients(apart=1.01 * allowed, square=0.04)
    assert [] != first_of_gradients(apart=0.99 * allowed, square=0.04)
    for square in (0.0, float("nan"), float("inf")):
        assert [] == first_of_gradients(apart=5e-9, square=square)


def test_only_the_gradient_that_a_layer_sends_back_is_taken_for_rounding() -> None:
    assert [] == first_of_gradients(apart=5e-9, square=0.04, tensor="grad of output.0")
    assert [] == first_of_gradients(apart=5e-9, square=0.04, compare=CompareRules(mode="strict"))


def test_a_loose_gradient_that_this_runs_floor_explains_is_not_told() -> None:
    explained = replace(LOOSE, metrics=measured(rel_l2=3e-2, floor=2e-2, ratio=1.5))
    assert [] == loose(explained)
    [text] = loose(explained, LOOSE)
    assert text.startswith("1 gradients agree only to 0.002 ")
