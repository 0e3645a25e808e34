"""Whole alignments of small models in one process: healthy pairs agree, and every planted fault is found where it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.numpy.backend import NumpyBackend
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.model.model import BackwardResult, LossSpec, Observer, OptimizerSpec
from padiff_rpc.result import Result
from padiff_rpc.tensors.tensor import Tensor
from tests.align.pairs import AlignPair, hosted, inputs_of


def routes(result: Result) -> list[str]:
    return [divergence.raw.route for divergence in result.divergences]


def failing(result: Result) -> set[str]:
    return {pair.failure for pair in result.pairs if pair.status == "fail"}


HEALTHY = ["mlp", "deep", "shared", "tuple_outputs", "bert_like", "conv_net", "tied"]


@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
@pytest.mark.parametrize("factory", HEALTHY)
def test_a_healthy_pair_is_aligned_in_every_stage(align_pair: AlignPair, factory: str, single_step: bool) -> None:
    result = align_pair(factory, optimizer="Adam(lr=1e-3)", steps=2, single_step=single_step)
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    assert result.aligned
    passed = {pair.stage for pair in result.pairs if pair.status == "pass"}
    assert {"weights_before", "forward", "loss", "backward", "grads", "weights"} <= passed


@pytest.mark.parametrize("factory", ["mlp", "deep", "shared", "tuple_outputs", "bert_like"])
def test_a_pair_with_transposed_layouts_is_aligned(align_pair: AlignPair, factory: str) -> None:
    result = align_pair(factory, raw_args={"layout": "io"}, optimizer="SGD(lr=0.1, momentum=0.9)", steps=3)
    assert result.aligned


def test_buffers_are_assigned_before_and_compared_after(align_pair: AlignPair) -> None:
    result = align_pair("conv_net", training=True)
    compared = {pair.tensor for pair in result.pairs if pair.stage == "buffers" and pair.status == "pass"}
    assert {"running_mean", "running_var"} <= compared
    assert result.aligned


def test_another_momentum_is_seen_in_the_buffers(align_pair: AlignPair) -> None:
    result = align_pair("conv_net", raw_args={"momentum": 0.9}, training=True)
    assert not result.aligned
    assert ["bn1"] == routes(result)
    assert "buffers" == result.divergences[0].stage


def test_without_assignment_different_weights_are_named_first(align_pair: AlignPair) -> None:
    result = align_pair("mlp", assign=False)
    assert not result.aligned
    assert result.first_divergence is not None
    assert "weights_before" == result.first_divergence.stage


# -- planted faults, free run: the first divergence -----------------------------------------------------------------------
FAULTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("mlp", {"scale": 1.25}, "body", "values"),
    ("deep", {"bug_at": 8}, "8", "values"),
    ("shared", {"scale": 1.25}, "", "values"),
    ("tuple_outputs", {"scale": 1.25}, "split", "values"),
    ("bert_like", {"eps_at": 1}, "encoder.1.norm1", "values"),
    ("bert_like", {"no_scale_at": 1}, "encoder.1.attention", "values"),
    ("bert_like", {"relu_at": 1}, "encoder.1.activation", "values"),
    ("bert_like", {"permuted_batch": True}, "", "values"),
    ("bert_like", {"nan_output": True}, "", "nan"),
]


@pytest.mark.parametrize("mode", ["scaled", "strict"])
@pytest.mark.parametrize(("factory", "bug", "layer", "failure"), FAULTS)
def test_a_planted_fault_is_found_at_its_layer(
    align_pair: AlignPair, factory: str, bug: dict[str, Any], layer: str, failure: str, mode: Any
) -> None:
    rules = CompareRules(mode, atol=1e-5, rtol=1e-5) if mode == "strict" else CompareRules()
    result = align_pair(factory, raw_args=bug, compare=rules)
    assert not result.aligned
    assert layer == routes(result)[0]
    assert failure == result.divergences[0].found_at.failure


def test_nan_on_both_sides_is_no_agreement(align_pair: AlignPair) -> None:
    bug = {"nan_output": True}
    result = align_pair("bert_like", base_args=bug, raw_args=bug)
    assert not result.aligned
    assert "nan" in failing(result)


def test_a_missing_bias_fails_as_a_parameter_without_partner_and_nothing_is_written(align_pair: AlignPair) -> None:
    result = align_pair("bert_like", raw_args={"no_bias_at": 0})
    assert not result.aligned
    assert ["encoder.0.intermediate.bias"] == [item.name for item in result.unmatched_base if item.fails]


def test_a_different_definition_order_of_q_and_k_is_matched_by_name_and_noted(align_pair: AlignPair) -> None:
    result = align_pair("bert_like", raw_args={"swapped_qk": True})
    assert result.aligned
    assert any("definition order" in note for note in result.notes)


def test_permuted_rows_differ_though_their_means_agree(align_pair: AlignPair) -> None:
    rules = CompareRules("strict", atol=1e-6, rtol=1e-5)
    assert not align_pair("bert_like", raw_args={"permuted_batch": True}, compare=rules).aligned


# -- planted faults, single step: every layer that has one, and no other ---------------------------------------------------
SEVERAL: list[tuple[str, dict[str, Any], list[str]]] = [
    ("bert_like", {"eps_at": 0, "relu_at": 1}, ["encoder.0.norm1", "encoder.1.activation"]),
    ("bert_like", {"no_scale_at": 0, "eps_at": 1}, ["encoder.0.attention", "encoder.1.norm1"]),
    ("mlp", {"scale": 1.25}, ["body"]),
    ("tuple_outputs", {"scale": 1.25}, ["split"]),
    ("shared", {"scale": 1.25}, [""]),
    ("deep", {"bug_at": 49, "depth": 50}, ["49"]),
]


@pytest.mark.parametrize("layout", ["oi", "io"])
@pytest.mark.parametrize(("factory", "bug", "layers"), SEVERAL)
def test_single_step_names_every_layer_with_a_bug_and_no_other(
    align_pair: AlignPair, factory: str, bug: dict[str, Any], layers: list[str], layout: str
) -> None:
    size = {"depth": bug["depth"]} if "depth" in bug else {}
    result = align_pair(factory, base_args=size, raw_args={**bug, "layout": layout}, single_step=True)
    assert not result.aligned
    assert layers == routes(result)


def test_single_step_still_brings_every_parameter_gradient(align_pair: AlignPair) -> None:
    result = align_pair("bert_like", raw_args={"eps_at": 0}, single_step=True)
    grads = [pair for pair in result.pairs if pair.stage == "grads"]
    assert {("encoder.0.norm1", "weight")} == {(p.raw_route, p.tensor) for p in grads if p.status == "fail"}
    assert {"words", "positions", "pooler"} <= {pair.raw_route for pair in grads if pair.status == "pass"}


def test_single_step_backward_alone_does_not_judge_the_forward(align_pair: AlignPair) -> None:
    result = align_pair("bert_like", raw_args={"eps_at": 0}, single_step=True, diff_phase="backward")
    assert {"skipped"} == {pair.status for pair in result.pairs if pair.stage == "forward"}
    assert ["encoder.0.norm1"] == routes(result)


# -- phases, optimisers, notes --------------------------------------------------------------------------------------------
def test_the_forward_phase_runs_no_backward(align_pair: AlignPair) -> None:
    result = align_pair("mlp", diff_phase="forward")
    assert {"weights_before", "forward"} == {pair.stage for pair in result.pairs}
    assert result.aligned


@pytest.mark.parametrize(
    ("base_optimizer", "raw_optimizer", "single_step"),
    [
        ("SGD(lr=0.1)", "SGD(lr=0.11)", False),
        ("SGD(lr=1e-4)", "SGD(lr=1.1e-4)", False),
        ("Adam(lr=1e-3)", "Adam(lr=1.1e-3)", False),
        ("Adam(lr=1e-3)", "Adam(lr=1e-3, eps=1e-4)", True),
        ("Adam(lr=1e-3)", "AdamW(lr=1e-3, weight_decay=0.1)", True),
    ],
)
def test_optimisers_that_differ_are_seen_in_the_weights(
    base_optimizer: str, raw_optimizer: str, single_step: bool
) -> None:
    settings = AlignSettings(
        base_optimizer=parse_optimizer(base_optimizer),
        raw_optimizer=parse_optimizer(raw_optimizer),
        single_step=single_step,
        steps=2,
    )
    inputs = inputs_of("bert_like")
    result = align(hosted("bert_like"), hosted("bert_like", seed=1), inputs, inputs, settings)
    assert result.first_divergence is not None
    assert "weights" == result.first_divergence.stage


def test_one_alignment_leaves_no_optimiser_state_to_the_next() -> None:
    base, raw = hosted("bert_like"), hosted("bert_like", seed=1, eps_at=0)
    adam = parse_optimizer("Adam(lr=1e-2)")
    settings = AlignSettings(base_optimizer=adam, raw_optimizer=adam, single_step=True)
    inputs = inputs_of("bert_like")
    first, second = (align(base, raw, inputs, inputs, settings) for _ in range(2))
    assert routes(first) == ["encoder.0.norm1"]
    assert routes(second) == routes(first)


@pytest.mark.parametrize(
    ("raw_args", "raw_optimizer", "text"),
    [
        ({"eps_at": 0}, "SGD(lr=0.1)", "hyper-parameters differ between layers that correspond: encoder.0.norm1 (eps"),
        ({}, "Adam", "the optimisers differ in their formula: SGD in base, Adam in raw, for all"),
    ],
)
def test_what_tolerances_may_hide_is_noted(raw_args: dict[str, Any], raw_optimizer: str, text: str) -> None:
    settings = AlignSettings(
        base_optimizer=parse_optimizer("SGD(lr=0.1)"), raw_optimizer=parse_optimizer(raw_optimizer)
    )
    inputs = inputs_of("bert_like")
    result = align(hosted("bert_like"), hosted("bert_like", **raw_args), inputs, inputs, settings)
    assert any(text in note for note in result.notes), result.notes


def test_active_dropout_is_named(align_pair: AlignPair) -> None:
    result = align_pair("random", seed=None)
    assert not result.aligned
    assert any("random numbers" in note and "Dropout" in note for note in result.notes)


@pytest.mark.parametrize("loss", ["mean", "sum", "projection(seed=3)"])
def test_every_neutral_loss_without_target_agrees(align_pair: AlignPair, loss: str) -> None:
    result = align_pair("conv_net", loss=loss)
    assert ["pass"] == [pair.status for pair in result.pairs if pair.stage == "loss"]


def test_a_loss_too_weak_for_the_tolerance_is_said(align_pair: AlignPair) -> None:
    result = align_pair("deep", loss="mean", compare=CompareRules("strict", atol=10.0, rtol=0.0))
    assert any("too weak" in note for note in result.notes)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"diff_phase": "backward"},
        {"diff_phase": "forward", "optimizer": "SGD"},
    ],
)
def test_settings_that_contradict_each_other_are_refused(align_pair: AlignPair, settings: dict[str, Any]) -> None:
    with pytest.raises(PadiffError) as caught:
        align_pair("mlp", **settings)
    assert Reason.BAD_CONFIG is caught.value.reason


def test_metrics_tell_where_and_how_far(align_pair: AlignPair) -> None:
    result = align_pair("bert_like", raw_args={"eps_at": 1})
    assert result.first_divergence is not None
    metrics = result.first_divergence.metrics
    assert metrics is not None
    assert metrics.base_value is not None
    assert metrics.raw_value is not None
    assert math.isclose(abs(metrics.raw_value - metrics.base_value), metrics.max_abs, rel_tol=1e-6)
    assert metrics.measured > metrics.allowed


def _parameters(layer: Any) -> Iterator[tuple[str, Any]]:
    backend = NumpyBackend()
    for name, tensor, kind, _ in backend.own_tensors(layer):
        if kind == "parameter":
            yield name, tensor
    for _, child in backend.children(layer):
        yield from _parameters(child)


def sgd(learning_rate: float) -> Any:
    """Return an optimiser factory as a worker may offer it."""

    class Sgd:
        def __init__(self, model: Any) -> None:
            self._tensors = [tensor for _, tensor in _parameters(model)]

        def step(self) -> None:
            for tensor in self._tensors:
                tensor.data[...] -= learning_rate * np.asarray(NumpyBackend().gradient(tensor).values)

    return Sgd


@pytest.mark.parametrize(("raw_rate", "aligned"), [(1e-4, True), (-1e-4, False), (2e-4, False)])
def test_an_offered_optimiser_is_judged_by_the_step_that_base_takes(raw_rate: float, aligned: bool) -> None:
    base, raw = (
        HostedModel(hosted("mlp", seed=seed).model, NumpyBackend(), optimizers={"mine": sgd(rate)})
        for seed, rate in ((0, 1e-4), (1, raw_rate))
    )
    mine = OptimizerSpec("mine")
    inputs = inputs_of("mlp")
    result = align(base, raw, inputs, inputs, AlignSettings(base_optimizer=mine, raw_optimizer=mine, steps=2))
    assert aligned is result.aligned
    stages = [divergence.stage for divergence in result.divergences]
    assert ([] if aligned else ["weights"]) == stages


@pytest.mark.parametrize(
    "make",
    [
        lambda: CompareRules(mode="strct"),  # pyright: ignore[reportArgumentType]
        lambda: CompareRules(atol=-1.0),
        lambda: CompareRules(rtol=math.nan),
        lambda: AlignSettings(diff_phase="foward"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_a_word_or_number_that_means_nothing_is_refused(make: Any) -> None:
    with pytest.raises(PadiffError) as caught:
        make()
    assert Reason.BAD_CONFIG is caught.value.reason


def test_a_model_is_not_aligned_with_itself() -> None:
    model = hosted("mlp")
    with pytest.raises(PadiffError, match="the same model"):
        align(model, model, inputs_of("mlp"), inputs_of("mlp"), AlignSettings())


def test_models_that_share_memory_are_refused() -> None:
    base, raw = hosted("mlp"), hosted("mlp")
    raw.native_layer("head").weight.data = base.native_layer("head").weight.data
    given = inputs_of("mlp")
    with pytest.raises(PadiffError) as raised:
        align(base, raw, given, given, AlignSettings())
    assert raised.value.reason is Reason.BAD_CONFIG
    assert raised.value.message.startswith("base's 'head.weight' and raw's 'head.weight' are the same memory")


class Idle:
    """An optimiser that forgets to step."""

    def step(self) -> None:
        return


@pytest.mark.parametrize("idle", ["base", "raw", "both"])
def test_an_optimiser_that_changes_nothing_is_no_pass(idle: str) -> None:
    sides = [
        HostedModel(hosted("mlp").model, NumpyBackend(), optimizers={"idle": lambda model: Idle()}) for _ in range(2)
    ]
    busy, still = parse_optimizer("SGD(lr=1e-9)"), OptimizerSpec("idle", {})
    asked = AlignSettings(
        compare=CompareRules(atol=1.0),
        base_optimizer=still if idle != "raw" else busy,
        raw_optimizer=still if idle != "base" else busy,
    )
    result = align(*sides, inputs_of("mlp"), inputs_of("mlp"), asked)
    assert not result.aligned
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    expected = "the optimisers changed no parameter" if idle == "both" else f"{idle}'s optimiser changed no parameter"
    assert expected in result.notes[-1]


@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
def test_the_figures_tell_what_assigning_comparing_weights_and_each_step_took(
    align_pair: AlignPair, single_step: bool
) -> None:
    figures = align_pair("mlp", optimizer="SGD(lr=0.1)", steps=2, single_step=single_step).figures
    assert 2 == len(figures["step_s"])
    parts = [figures["assign_s"], figures["weights_before_s"], *figures["step_s"]]
    assert all(seconds >= 0 for seconds in parts)  # rounded, so that a short one is 0
    assert sum(figures["step_s"]) > 0
    assert sum(parts) <= figures["wall_s"] + 1e-3  # each is rounded


def test_weights_that_are_not_assigned_take_no_time(align_pair: AlignPair) -> None:
    assert 0.0 == align_pair("mlp", assign=False).figures["assign_s"]


@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
@pytest.mark.parametrize(("factor", "aligned"), [(-1.0, True), (1e5, False)], ids=["noise", "more than noise"])
def test_other_noise_in_the_gradient_of_a_key_bias_moves_raw_no_other_way(
    monkeypatch: pytest.MonkeyPatch, factor: float, aligned: bool, single_step: bool
) -> None:
    base, raw = hosted("bert_like"), hosted("bert_like", seed=1)
    keys = [info for info in base.describe().parameters if info.name.endswith("attention.k.bias")]
    base.write_parameters(Tensor(info.spec, memoryview(bytes(info.spec.size_bytes))).stream(info.name) for info in keys)
    backward = raw.backward

    def backward_to_other_noise(loss: LossSpec, observer: Observer | None = None) -> BackwardResult:
        result = backward(loss, observer)
        streams = raw.read_parameters([info.name for info in keys], "gradient")
        noise = {stream.name: stream.collect().to_array() * np.float32(factor) for stream in streams}
        raw.write_gradients(Tensor.from_array(array).stream(name) for name, array in noise.items())
        return result

    monkeypatch.setattr(raw, "backward", backward_to_other_noise)
    adam = parse_optimizer("Adam(lr=0.01)")
    settings = AlignSettings(base_optimizer=adam, raw_optimizer=adam, steps=2, single_step=single_step)
    inputs = inputs_of("bert_like")
    result = align(base, raw, inputs, inputs, settings)
    assert aligned is result.aligned
    assert {"grads"} >= {pair.stage for pair in result.pairs if pair.status == "fail"}
    assert {"pass"} == {pair.status for pair in result.pairs if pair.stage == "weights"}
