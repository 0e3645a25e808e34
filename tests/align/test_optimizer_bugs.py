"""Optimisers that are wrong are found at the step where they go wrong; right ones agree for many steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.backends.numpy.backend import NumpyBackend
from padiff_rpc.model.backends.numpy.training import Optimizer
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.model.model import BackwardResult, LossSpec, Observer, OptimizerSpec
from padiff_rpc.result import Result
from padiff_rpc.tensors.tensor import Tensor
from tests.align.pairs import hosted, inputs_of

ADAMW = "AdamW(lr=0.001, weight_decay=0.01)"
MINE = OptimizerSpec("mine")


class EpsilonInside(Optimizer):
    def _adam(self, index: int, value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        after = super()._adam(index, value, gradient)
        first, second = self._moments[index]
        step, options = self._steps[index], self.options
        scale = np.sqrt(second / (1 - options["beta2"] ** step) + options["eps"])
        return after if step == 0 else value - options["lr"] / (1 - options["beta1"] ** step) * first / scale


class Uncorrected(Optimizer):
    def _adam(self, index: int, value: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        super()._adam(index, value, gradient)
        first, second = self._moments[index]
        return value - self.options["lr"] * first / (np.sqrt(second) + self.options["eps"])


class Drops(Optimizer):
    """Drops its learning rate to a half from some step on, as a scheduler does."""

    at = 10
    taken = 0

    def step(self) -> None:
        if self.taken == self.at:
            self.options = {**self.options, "lr": self.options["lr"] / 2}
        self.taken += 1
        super().step()


class DropsLater(Drops):
    at = 11


class DecaysMatrices(Optimizer):
    def step(self) -> None:
        decay = self.options["weight_decay"]
        kept = {id(one): one.data.copy() for one in self.parameters if one.data.ndim < 2}
        super().step()
        for one in self.parameters:
            if id(one) in kept:
                one.data[...] += self.options["lr"] * decay * kept[id(one)]


def made(kind: type[Optimizer], spec: str) -> Callable[[Any], Optimizer]:
    return lambda model: kind(parse_optimizer(spec), NumpyBackend().optimizer(parse_optimizer(spec), model).parameters)


def run(base: Callable[[Any], Any], raw: Callable[[Any], Any], steps: int, factory: str = "bert_like") -> Result:
    mine, other = (
        HostedModel(hosted(factory, seed=seed).model, NumpyBackend(), optimizers={"mine": make})
        for seed, make in enumerate((base, raw))
    )
    inputs = inputs_of(factory)
    return align(mine, other, inputs, inputs, AlignSettings(base_optimizer=MINE, raw_optimizer=MINE, steps=steps))


def place(result: Result) -> tuple[int, str]:
    first = result.first_divergence
    assert first is not None
    return first.step, first.stage


@pytest.mark.parametrize(
    ("base", "raw", "step"),
    [
        (made(Optimizer, ADAMW), made(Optimizer, "AdamW(lr=0.001, weight_decay=0.01, beta2=0.998)"), 0),
        (made(Optimizer, ADAMW), made(EpsilonInside, ADAMW), 0),
        (made(Optimizer, ADAMW), made(Uncorrected, ADAMW), 0),
        (made(DecaysMatrices, ADAMW), made(Optimizer, ADAMW), 0),
        (made(Drops, ADAMW), made(DropsLater, ADAMW), 10),
        (made(Optimizer, "Adam(lr=0.001, weight_decay=0.0001)"), made(Optimizer, "Adam(lr=0.001)"), 0),
        (made(Optimizer, "SGD(lr=0.001, momentum=0.9)"), made(Optimizer, "SGD(lr=0.001)"), 0),
    ],
    ids=["beta2", "eps inside the root", "no bias correction", "decay on norms", "schedule", "L2", "momentum"],
)
def test_a_wrong_optimiser_is_found_at_its_step(base: Any, raw: Any, step: int) -> None:
    assert (step, "weights") == place(run(base, raw, steps=step + 1))


def test_right_optimisers_agree_for_thirty_steps_and_the_result_tells_how_well() -> None:
    result = run(made(DecaysMatrices, ADAMW), made(DecaysMatrices, ADAMW), steps=30)
    assert result.aligned, result.divergences
    assert [] == [note for note in result.notes if "optimisers" in note or "left out" in note]
    steps = result.figures["steps"]
    assert list(range(30)) == [one["step"] for one in steps]
    assert all(one["loss"]["raw"] == pytest.approx(one["loss"]["base"], rel=1e-5) for one in steps)
    assert all(one["gradient_norm"]["raw"] == pytest.approx(one["gradient_norm"]["base"], rel=1e-5) for one in steps)
    assert all(0 <= one["weights_apart"] < 1e-6 for one in steps)
    told = result.figures["optimizers"]["raw"]
    assert [("AdamW", 0.01)] == [(one["algorithm"], one["options"]["weight_decay"]) for one in told]


def test_the_drift_shows_where_a_schedule_goes_another_way() -> None:
    steps = run(made(Drops, ADAMW), made(DropsLater, ADAMW), steps=12).figures["steps"]
    apart = [one["weights_apart"] for one in steps]
    assert max(apart[:10]) < 1e-6 < 1e-5 < min(apart[10:])


def test_an_offered_optimisers_hyper_parameters_are_told_where_they_differ() -> None:
    def wrapped(spec: str) -> Any:
        class Wrapper:
            def __init__(self, model: Any) -> None:
                self.inner = [made(Optimizer, spec)(model)]

            def step(self) -> None:
                self.inner[0].step()

        return Wrapper

    result = run(wrapped(ADAMW), wrapped("AdamW(lr=0.002, weight_decay=0.01)"), steps=1, factory="mlp")
    assert (0, "weights") == place(result)
    assert [
        note for note in result.notes if "the optimisers differ in lr: 0.001 in base, 0.002 in raw, for all" in note
    ]


@pytest.mark.parametrize(("neutral", "steps"), [(True, {0}), (False, {0, 1, 2})])
def test_of_neutral_optimisers_the_states_of_the_first_step_tell_all(neutral: bool, steps: set[int]) -> None:
    if neutral:
        inputs, adam = inputs_of("mlp"), parse_optimizer("Adam(lr=0.001)")
        settings = AlignSettings(base_optimizer=adam, raw_optimizer=adam, steps=3)
        result = align(hosted("mlp"), hosted("mlp", seed=1), inputs, inputs, settings)
    else:
        result = run(made(Optimizer, "Adam"), made(Optimizer, "Adam"), steps=3, factory="mlp")
    assert result.aligned
    states = [pair for pair in result.pairs if "(moment" in pair.tensor]
    assert steps == {pair.step for pair in states}
    parameters = sum(pair.stage == "weights_before" for pair in result.pairs)
    assert 2 * parameters * len(steps) == len(states)


@pytest.mark.parametrize("rule", ["raw alone", "base alone", "both"])
def test_rows_that_one_side_alone_trains_fail_though_the_gradient_agrees_by_the_table(
    monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    base, raw = hosted("tied"), hosted("tied", seed=1)
    name = "table.weight"

    for side, model in (("base", base), ("raw", raw)):
        backward = model.backward

        def with_row(
            loss: LossSpec,
            observer: Observer | None = None,
            model: HostedModel = model,
            backward: Any = backward,
            trains: bool = rule in (f"{side} alone", "both"),
        ) -> BackwardResult:
            result = backward(loss, observer)
            [stream] = model.read_parameters([name], "gradient")
            gradient = stream.collect().to_array().copy()
            gradient[0] = 0.01 * math.sqrt(float((gradient**2).sum()) / gradient.shape[1]) if trains else 0.0
            model.write_gradients([Tensor.from_array(gradient).stream(name)])
            return result

        monkeypatch.setattr(model, "backward", with_row)
    inputs = inputs_of("tied")
    result = align(base, raw, inputs, inputs, AlignSettings())
    failing = [pair for pair in result.pairs if pair.status == "fail"]
    assert ([] if rule == "both" else ["grads"]) == [pair.stage for pair in failing]
    assert all(f"in {rule} of" in pair.why and "the other side's is zero" in pair.why for pair in failing)
