"""Parameters after a step: held against the step itself, without the elements that noise alone has moved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest

from padiff_rpc.align.run.threads import SideThreads
from padiff_rpc.align.sides import Sides, Traffic
from padiff_rpc.align.stages.compare_parameters import ParameterComparer
from padiff_rpc.align.stages.updates import UpdateJudge
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.compare.tolerances import EPSILON
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.model.model import Model
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair
from padiff_rpc.tensors.tensor import DType, Tensor
from tests.align.hand_made import HeldModel, link

NAME = "fc.weight"
LINK = link(NAME)
LR = 1e-3
SGD = f"SGD(lr={LR})"
ADAM = f"Adam(lr={LR})"
OFFERED = "mine"
SHARE = 1e-4
"""The share of a step by which right optimisers differ on gradients that are equal."""
ROUNDING = 4 * EPSILON[DType.F32]
ONES = np.ones(4, np.float32)
Change = Callable[[Sequence[Pair]], Sequence[Pair]]


@dataclass(frozen=True)
class Stepped:
    """What one step came to: the comparison by the table alone, the judge's own, and the models."""

    by_table: list[Pair]
    pairs: list[Pair]
    left_out: dict[str, int]
    base: HeldModel
    raw: HeldModel

    @property
    def status(self) -> str:
        [one] = self.pairs
        return one.status


class Run:
    """Two models of some parameters, whose optimisers do as the test says."""

    def __init__(
        self,
        before: Any = ONES,
        base_gradient: Any = ONES,
        raw_gradient: Any = None,
        optimizer: str = SGD,
        raw_before: Any = None,
        recorded: bool = False,
        links: Sequence[ParameterLink] = (LINK,),
        single_step: bool = False,
        rules: CompareRules | None = None,
    ) -> None:
        raw_gradient = base_gradient if raw_gradient is None else raw_gradient
        raw_before = before if raw_before is None else raw_before
        self.base = HeldModel(_named(before), _named(base_gradient))
        self.raw = HeldModel(_named(raw_before), _named(raw_gradient), recorded)
        models = cast("tuple[Model, Model]", (self.base, self.raw))
        sides = Sides(*models, rules or CompareRules(), single_step, Traffic())
        described = PerSide(self.base.describe(), self.raw.describe())
        self.comparer = ParameterComparer(sides, SideThreads(in_turn=True), described)
        self.links = links
        self.judge = UpdateJudge(sides, self.comparer, parse_optimizer(optimizer))

    def step(
        self,
        base_after: Any,
        raw_after: Any,
        step: int = 0,
        noise: float = 0.0,
        goes_on: bool = False,
        change_grads: Change = list,
        shared: Collection[str] = (),
    ) -> Stepped:
        grads = self.comparer.compare(step, "grads", self.links, "gradient", lambda link, spec: noise).pairs
        self.judge.before_step(self.links)
        for model, after in ((self.base, base_after), (self.raw, raw_after)):
            for name, value in _named(after).items():
                model.set(name, value)
        weights = self.comparer.compare(step, "weights", self.links, "value").pairs
        judged = self.judge.judge(
            step, weights, change_grads(grads), self.links, lambda link, spec: noise, goes_on, shared
        )
        return Stepped(weights, judged.pairs, judged.left_out, self.base, self.raw)


def _named(values: Any) -> Mapping[str, Any]:
    return values if isinstance(values, dict) else {NAME: values}


def moved(*by: float) -> np.ndarray:
    """Return ones that were moved by these distances."""
    return (1.0 + np.array(by)).astype(np.float32)


def stepped(base_after: Any, raw_after: Any, step: int = 0, **run: Any) -> Stepped:
    return Run(**run).step(base_after, raw_after, step)


# -- steps on base's gradients ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("decay", "status"), [(0.0, "pass"), (1e-3, "fail")])
def test_on_bases_gradients_nothing_but_arithmetic_lies_between_two_steps(decay: float, status: str) -> None:
    run = Run(base_gradient=ONES, raw_gradient=1.04 * ONES, optimizer=ADAM)
    after = moved(-LR, -LR, -LR, -LR)
    raw_after = (after - LR * decay).astype(np.float32)
    assert status == run.step(after, raw_after, shared=[NAME]).status
    run = Run(base_gradient=ONES, raw_gradient=1.04 * ONES, optimizer=ADAM)
    assert "pass" == run.step(after, raw_after).status


def test_on_bases_gradients_no_element_is_noise() -> None:
    gradient = np.array([1.0, 1.0, 1.0, 1e-9], np.float32)
    for shared, status in (([], "pass"), ([NAME], "fail")):
        run = Run(base_gradient=gradient, raw_gradient=-gradient * [-1, -1, -1, 1], optimizer=ADAM)
        found = run.step(moved(-LR, -LR, -LR, -LR), moved(-LR, -LR, -LR, LR), noise=1e-9, shared=shared)
        assert status == found.status


def test_a_gradient_that_raw_keeps_counts_for_all_since_an_optimiser_may_scale_by_their_norm() -> None:
    names = ("a", "b")
    gradients = {"a": ONES, "b": ONES}, {"a": ONES, "b": 1.001 * ONES}
    after = {name: moved(-LR, -LR, -LR, -LR) for name in names}
    raw_after = {"a": moved(*[-1.005 * LR] * 4), "b": moved(*[-1.005 * LR] * 4)}
    for shared, statuses in ((["a", "b"], ["fail", "fail"]), (["a"], ["pass", "pass"])):
        run = Run(dict.fromkeys(names, ONES), *gradients, links=[link(name) for name in names])
        assert statuses == [pair.status for pair in run.step(after, raw_after, shared=shared).pairs]


# -- steps that differ -----------------------------------------------------------------------------------------------------
def test_steps_that_agree_pass() -> None:
    found = stepped(moved(-LR, -LR, -LR, -LR), moved(-LR, -LR, -LR, -1.0002 * LR))
    assert found.by_table == found.pairs
    assert "pass" == found.status


@pytest.mark.parametrize("optimizer", [SGD, ADAM, "AdamW(lr=1e-3, weight_decay=0)", OFFERED])
def test_steps_in_opposite_directions_fail_though_the_table_passes_them(optimizer: str) -> None:
    other = 0.9 * LR
    found = stepped(moved(-LR, -LR, -LR, -LR), moved(other, other, other, other), optimizer=optimizer)
    assert ["pass"] == [pair.status for pair in found.by_table]
    [one] = found.pairs
    assert ("fail", "values") == (one.status, one.failure)
    why = (
        "the optimisers' steps differ: the sides are 0.00381 apart (L2 norm), where steps of 0.002 may leave them 1.15e-06 "
        "apart"
    )
    assert why == one.why
    assert one.metrics is not None
    assert ("step_l2", pytest.approx(3.8e-3, rel=3e-3)) == (one.metrics.measure, one.metrics.measured)
    assert SHARE * 2 * LR + 2 * ROUNDING == pytest.approx(one.metrics.allowed, rel=1e-3)


@pytest.mark.parametrize(("apart", "status"), [(0.9, "pass"), (1.1, "fail")])
@pytest.mark.parametrize(
    ("error", "single_step", "rtol"),
    [(0.0, False, 1e-4), (1e-3, False, 1e-2), (1e-2, False, 5e-2), (0.0, True, 5e-5), (1e-5, True, 5e-5)],
)
def test_steps_may_be_apart_by_ten_times_what_their_gradients_are_and_by_no_more_than_the_tolerance_of_these(
    apart: float, status: str, error: float, single_step: bool, rtol: float
) -> None:
    step = 0.5  # the norm is that of four elements, so 1
    before = np.zeros(4, np.float32)
    further = before - np.float32(step)
    other = further.copy()
    other[0] += apart * (rtol * 2 * step + 2 * step * ROUNDING)
    run: dict[str, Any] = {"before": before, "optimizer": "SGD(lr=0.5)", "single_step": single_step}
    run["raw_gradient"] = ONES + 2 * error * np.array([1, 0, 0, 0], np.float32)
    by_table = CompareRules(rtol=0.5)
    assert status == stepped(further, other, rules=by_table, **run).status


def test_what_the_gradients_of_earlier_steps_were_apart_still_counts() -> None:
    run = Run(raw_gradient=ONES + np.array([2e-3, 0, 0, 0], np.float32))
    assert "pass" == run.step(moved(-LR, -LR, -LR, -LR), moved(-LR, -LR, -LR, -1.01 * LR)).status
    run.raw.gradients = run.base.gradients
    assert "pass" == run.step(moved(-LR, -LR, -LR, -LR), moved(-LR, -LR, -LR, -1.01 * LR), 1).status
    assert "fail" == stepped(moved(-LR, -LR, -LR, -LR), moved(-LR, -LR, -LR, -1.01 * LR), 1).status


@pytest.mark.parametrize(
    ("optimizer", "step", "steps"),
    [
        ("SGD(lr=0.001)", 0, 2e-4),
        ("SGD(lr=0.001)", 2, 6e-4),
        ("SGD(lr=0.001, momentum=0.9)", 0, 2e-3),
        ("SGD(lr=0.001, momentum=1.0)", 0, 2e-2),
        ("SGD(lr=0.001, weight_decay=0.5)", 0, 1.2e-3),
        ("Adam(lr=0.0001)", 0, 2e-4),
        ("Adam(lr=0.0001)", 2, 6e-4),
        ("Adam(lr=0.0001, weight_decay=0.5)", 0, 3e-4),
        ("AdamW(lr=0.0001)", 0, 2.02e-4),
    ],
)
def test_the_size_of_steps_follows_from_a_neutral_optimisers_formula(optimizer: str, step: int, steps: float) -> None:
    """The norms are 0.2 (gradient) and 2 (value), over four elements."""
    found = stepped(ONES, moved(3e-3, 0, 0, 0), step, base_gradient=0.1 * ONES, optimizer=optimizer)
    assert ["pass"] == [pair.status for pair in found.by_table]
    [one] = found.pairs
    assert one.metrics is not None
    assert SHARE * steps + (step + 1) * 2 * ROUNDING == pytest.approx(one.metrics.allowed, rel=2e-3)


def test_the_size_of_an_offered_optimisers_steps_is_measured_on_base_and_added_up() -> None:
    run = Run(optimizer=OFFERED)
    assert "pass" == run.step(moved(4e-3, 0, 0, 0), moved(4e-3, 0, 0, 0)).status
    [one] = run.step(moved(4e-3, 2e-3, 0, 0), moved(4e-3, 2e-3, 3e-3, 0), step=1).pairs
    assert one.metrics is not None
    assert SHARE * 6e-3 + 2 * 2 * ROUNDING == pytest.approx(one.metrics.allowed, rel=3e-3)


def test_the_steps_of_several_parameters_that_raw_packs_into_one_are_one_step() -> None:
    packed = replace(LINK, base=("fc.q", "fc.k"), rule="pack")
    run = Run(
        before={"fc.q": ONES[:2], "fc.k": ONES[:2]},
        base_gradient={"fc.q": ONES[:2], "fc.k": ONES[:2]},
        raw_before={NAME: ONES},
        raw_gradient={NAME: ONES},
        links=(packed,),
        optimizer=OFFERED,
    )
    [one] = run.step({"fc.q": moved(3e-3, 0), "fc.k": moved(4e-3, 0)}, moved(3e-3, 0, 4e-3, 3e-3)).pairs
    assert one.metrics is not None
    assert SHARE * 5e-3 + 2 * ROUNDING == pytest.approx(one.metrics.allowed, rel=3e-3)


def test_each_parameter_is_held_against_its_own_step() -> None:
    values = {"fc.a": ONES, "fc.b": ONES}
    run = Run(before=values, base_gradient=values, links=[link("fc.a"), link("fc.b")], optimizer=OFFERED)
    after = {"fc.a": moved(4e-3, 0, 0, 0), "fc.b": moved(1e-5, 0, 0, 0)}
    late = {"fc.a": moved(4e-3 + 1e-6, 0, 0, 0), "fc.b": moved(1.2e-5, 0, 0, 0)}
    assert ["pass", "fail"] == [pair.status for pair in run.step(after, late).pairs]


# -- the step's own rounding -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("apart", "status"), [(0.8, "pass"), (2.0, "fail")])
def test_a_step_below_the_rounding_of_its_values_may_round_otherwise(apart: float, status: str) -> None:
    tiny = "SGD(lr=1e-9)"
    other = moved(apart * 2 * ROUNDING, 0, 0, 0)
    assert status == stepped(ONES, other, optimizer=tiny).status


def test_each_further_step_may_round_once_more() -> None:
    other = moved(2 * 2 * ROUNDING, 0, 0, 0)
    assert ["fail", "pass"] == [stepped(ONES, other, step, optimizer="SGD(lr=1e-9)").status for step in (0, 2)]


def test_the_less_precise_side_tells_the_rounding() -> None:
    double = Tensor.from_array(ONES.astype(np.float64))
    rules = CompareRules(allow_dtype_difference=True)
    run: dict[str, Any] = {"optimizer": "SGD(lr=1e-9)", "rules": rules, "raw_before": ONES, "before": double}
    assert "pass" == stepped(double, moved(1.6 * ROUNDING, 0, 0, 0), **run).status
    turned = {**run, "before": ONES, "raw_before": double}
    assert "pass" == stepped(moved(1.6 * ROUNDING, 0, 0, 0), double, **turned).status
    both = Run(before=double, base_gradient=double, optimizer="SGD(lr=1e-9)", rules=CompareRules(rtol=0.5))
    off = Tensor.from_array(np.array([1 + 1.6 * ROUNDING, 1, 1, 1]))
    assert "fail" == both.step(double, off).status


# -- comparisons that are left as they are ---------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["strict", "mean", "abs_mean"])
def test_in_padiffs_modes_the_table_of_the_user_stands_alone(mode: Any) -> None:
    run = Run(rules=CompareRules(mode, rtol=0.1), optimizer=OFFERED)
    before = len(run.base.asked)
    run.judge.before_step(run.links)
    assert before == len(run.base.asked)
    found = Run(rules=CompareRules(mode, rtol=0.1)).step(moved(-LR, -LR, -LR, -LR), moved(LR, LR, LR, LR))
    assert "pass" == found.status
    assert found.by_table == found.pairs


@pytest.mark.parametrize("optimizer", [SGD, ADAM])
def test_a_neutral_optimiser_needs_no_measured_step(optimizer: str) -> None:
    run = Run(optimizer=optimizer)
    run.judge.before_step(run.links)
    assert [] == run.base.asked


def test_a_parameter_without_a_gradient_may_not_be_apart_at_all() -> None:
    values = {"fc.a": ONES, "fc.b": ONES}
    run = Run(before=values, base_gradient={"fc.b": ONES}, links=[link("fc.a"), link("fc.b")])
    apart = moved(3e-4, 0, 0, 0)
    found = run.step(values, {"fc.a": apart, "fc.b": apart})
    assert ["fail", "fail"] == [pair.status for pair in found.pairs]
    still = Run(before=values, base_gradient={"fc.b": ONES}, links=[link("fc.a"), link("fc.b")])
    assert ["pass", "pass"] == [pair.status for pair in still.step(values, values).pairs]


@pytest.mark.parametrize("optimizer", [SGD, ADAM, "AdamW(lr=1e-3, weight_decay=0.01)", OFFERED])
@pytest.mark.parametrize("absent", ["base", "raw"])
def test_where_one_side_has_no_gradient_and_the_others_is_zero_decay_on_one_side_fails(
    optimizer: str, absent: str
) -> None:
    gradient: dict[str, Any] = {"fc.a": 0 * ONES}
    gradients = ({}, gradient) if absent == "base" else (gradient, {})
    run = Run({"fc.a": ONES}, *gradients, optimizer=optimizer, links=[link("fc.a")])
    assert ["fail"] == [
        pair.status for pair in run.step({"fc.a": ONES}, {"fc.a": moved(-1e-4, -1e-4, -1e-4, -1e-4)}).pairs
    ]


def test_equal_parameters_pass_whatever_their_gradients() -> None:
    found = stepped(ONES, ONES, base_gradient=0 * ONES)
    assert found.by_table == found.pairs


def test_what_the_table_fails_stays_failed() -> None:
    found = stepped(ONES, moved(0.5, 0, 0, 0))
    assert found.by_table == found.pairs
    assert "fail" == found.status


def test_a_failure_of_another_kind_is_not_looked_into() -> None:
    gradient = np.array([1.0, 0.0, 1.0, 1.0], np.float32)
    found = Run(base_gradient=gradient, optimizer=ADAM).step(ONES, moved(0, np.nan, 0, 0), noise=1e-8)
    assert "nan" == found.pairs[0].failure
    assert found.by_table == found.pairs


# -- elements that noise has moved, under Adam -----------------------------------------------------------------------------
NOISE = 1e-8
NOISY = np.array([1.0, 2e-9, 1.0, 1.0], np.float32)
OTHERWISE = np.array([1.0, -2e-9, 1.0, 1.0], np.float32)
BASE_AFTER = moved(-LR, -LR, -LR, -LR)
RAW_AFTER = moved(-LR, LR, -LR, -LR)


def noisy(
    raw_after: Any = RAW_AFTER,
    base_gradient: Any = NOISY,
    raw_gradient: Any = OTHERWISE,
    base_after: Any = BASE_AFTER,
    optimizer: str = ADAM,
    **step: Any,
) -> Stepped:
    run = Run(base_gradient=base_gradient, raw_gradient=raw_gradient, optimizer=optimizer)
    return run.step(base_after, raw_after, **{"noise": NOISE, **step})


def test_an_element_whose_gradient_is_noise_is_left_out() -> None:
    [one] = noisy().pairs
    why = (
        "1 of 4 elements are left out: their gradient is rounding noise (at most 1e-07), and Adam moves them as far as "
        "others, either way"
    )
    assert ("pass", "", why) == (one.status, one.failure, one.why)


def test_without_noise_the_same_element_fails() -> None:
    assert "fail" == noisy(noise=0.0, raw_gradient=NOISY).status


def test_beside_noise_an_element_that_steps_the_wrong_way_still_fails() -> None:
    [one] = noisy(moved(-LR, LR, LR, -LR)).pairs
    assert ("fail", "values") == (one.status, one.failure)
    begin, tail = one.why.split("; ")
    assert begin.startswith("the optimisers' steps differ: the sides are 0.002 apart")
    assert tail.startswith("1 of 4 elements are left out")


def test_beside_noise_an_element_that_the_table_fails_still_fails() -> None:
    [one] = noisy(moved(-LR, LR, 0.5, -LR)).pairs
    assert ("fail", "values") == (one.status, one.failure)
    assert "1 of 4 elements are left out" in one.why


@pytest.mark.parametrize(("apart", "status"), [(2.0, "pass"), (2.4, "pass"), (2.6, "fail"), (25.0, "fail")])
@pytest.mark.parametrize("optimizer", [ADAM, "AdamW(lr=1e-3, weight_decay=0)", OFFERED])
def test_noise_moves_an_element_by_no_more_than_a_step_to_either_side(
    optimizer: str, apart: float, status: str
) -> None:
    assert status == noisy(moved(-LR, -LR + apart * LR, -LR, -LR), optimizer=optimizer).status


@pytest.mark.parametrize(("apart", "status"), [(2.4, "pass"), (2.6, "fail")])
def test_of_several_parameters_that_raw_packs_the_largest_step_bounds_what_noise_moves(
    apart: float, status: str
) -> None:
    packed = replace(LINK, base=("fc.q", "fc.k"), rule="pack")
    gradients = {"fc.q": NOISY[:2], "fc.k": NOISY[2:]}
    before = {"fc.q": ONES[:2], "fc.k": ONES[:2]}
    raw: dict[str, Any] = {"raw_before": {NAME: ONES}, "raw_gradient": {NAME: NOISY}}
    run = Run(before, gradients, optimizer=OFFERED, links=(packed,), **raw)
    found = run.step({"fc.q": moved(-LR, -LR), "fc.k": ONES[:2]}, moved(-LR, -LR + apart * LR, 0, 0), noise=NOISE)
    assert status == found.status


@pytest.mark.parametrize("step", [0, 9])
def test_noise_moves_an_element_by_no_more_in_later_steps_for_raw_is_given_bases(step: int) -> None:
    assert "pass" == noisy(step=step).status
    assert "fail" == noisy(moved(-LR, -LR + 2.6 * LR, -LR, -LR), step=step).status


@pytest.mark.parametrize(("gradient", "status"), [(9 * NOISE, "pass"), (11 * NOISE, "fail"), (-11 * NOISE, "fail")])
def test_gradients_up_to_ten_times_the_noise_are_taken_for_noise(gradient: float, status: str) -> None:
    both = np.array([1.0, gradient, 1.0, 1.0], np.float32)
    assert status == noisy(base_gradient=both, raw_gradient=both).status


@pytest.mark.parametrize(("mine", "other"), [(0.0, 2e-7), (2e-7, 0.0), (2e-9, 2e-7)])
def test_a_gradient_that_stands_out_of_the_noise_on_one_side_is_none(mine: float, other: float) -> None:
    """A row that base does not train and raw does is a fault, however small the tolerance takes its gradient to be."""
    base_gradient, raw_gradient = ONES.copy(), ONES.copy()
    base_gradient[1], raw_gradient[1] = mine, other
    found = noisy(moved(-LR, 0, -LR, -LR), base_gradient, raw_gradient)
    assert ("fail", {}) == (found.status, found.left_out)


def test_elements_that_nothing_pulls_are_no_noise() -> None:
    still = np.array([1.0, 0.0, 1.0, 1.0], np.float32)
    assert "fail" == noisy(moved(-LR, 0, -LR, -LR), still, still).status


def test_elements_that_only_the_moments_of_an_earlier_steps_noise_move_are_noise_still() -> None:
    still = np.array([1.0, 0.0, 1.0, 1.0], np.float32)
    run = Run(base_gradient=NOISY, raw_gradient=OTHERWISE, optimizer=ADAM)
    assert "pass" == run.step(BASE_AFTER, RAW_AFTER, noise=NOISE, goes_on=True).status
    for model in (run.base, run.raw):
        model.gradients = {NAME: Tensor.from_array(still)}
    assert "pass" == run.step(BASE_AFTER, RAW_AFTER, 1, NOISE, goes_on=True).status
    assert "fail" == noisy(RAW_AFTER, still, still, step=1, goes_on=True).status


def test_how_many_elements_were_left_out_is_counted_where_it_mattered() -> None:
    assert {NAME: 1} == noisy().left_out
    assert {} == noisy(BASE_AFTER).left_out
    assert {} == noisy(moved(-LR, 25 * LR, -LR, -LR)).left_out


def test_where_all_gradients_are_noise_nothing_is_compared() -> None:
    [one] = noisy(moved(LR, LR, LR, LR), base_gradient=2e-9 * ONES, raw_gradient=-2e-9 * ONES).pairs
    assert ("skipped", None) == (one.status, one.metrics)
    assert one.why.startswith("its gradient holds nothing but rounding noise on both sides")


def failed(grads: Sequence[Pair]) -> list[Pair]:
    return [replace(grad, status="fail", failure="values") for grad in grads]


def unmeasured(grads: Sequence[Pair]) -> list[Pair]:
    return [replace(grad, metrics=None) for grad in grads]


def skipped(grads: Sequence[Pair]) -> list[Pair]:
    return [replace(grad, status="skipped") for grad in grads]


@pytest.mark.parametrize("change", [failed, unmeasured, skipped])
def test_gradients_that_do_not_agree_excuse_nothing(change: Change) -> None:
    assert "fail" == noisy(change_grads=change).status


def test_sides_of_two_types_are_given_no_excuse() -> None:
    double = Tensor.from_array(BASE_AFTER.astype(np.float64))
    rules = CompareRules(allow_dtype_difference=True)
    before = Tensor.from_array(ONES.astype(np.float64))
    run = Run(before, NOISY, OTHERWISE, ADAM, raw_before=ONES, rules=rules)
    found = run.step(double, RAW_AFTER, noise=NOISE, goes_on=True)
    assert "fail" == found.status
    assert [] == found.raw.written


# -- what raw goes on with -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("optimizer", [ADAM, "AdamW(lr=1e-3, weight_decay=0)", OFFERED])
def test_where_another_step_follows_raw_is_given_bases_elements_and_keeps_the_rest(optimizer: str) -> None:
    found = noisy(moved(-LR, LR, -1.0002 * LR, -LR), optimizer=optimizer, goes_on=True)
    assert "pass" == found.status
    assert [NAME] == found.raw.written
    expected = moved(-LR, LR, -1.0002 * LR, -LR)
    expected[1] = BASE_AFTER[1]
    assert expected.tolist() == found.raw.array(NAME).tolist()


def test_where_none_follows_raw_keeps_its_own() -> None:
    found = noisy(goes_on=False)
    assert [] == found.raw.written
    assert RAW_AFTER.tolist() == found.raw.array(NAME).tolist()


def test_raw_is_given_bases_elements_also_where_the_sides_agree_with_them() -> None:
    """Differences that a tolerance lets pass grow with each further step."""
    found = noisy(moved(-LR, -LR * (1 + 1e-4), -LR, -LR), goes_on=True)
    assert ("pass", {}) == (found.status, found.left_out)
    assert [NAME] == found.raw.written
    assert BASE_AFTER.tolist() == found.raw.array(NAME).tolist()


def test_raw_is_given_nothing_where_nothing_is_excused() -> None:
    assert [] == noisy(moved(-LR, 25 * LR, -LR, -LR), goes_on=True).raw.written
    assert [] == noisy(moved(-LR, -LR, -LR, -LR), goes_on=True).raw.written


def test_a_dump_goes_on_with_its_own_and_that_is_said() -> None:
    run = Run(base_gradient=NOISY, raw_gradient=OTHERWISE, optimizer=ADAM, recorded=True)
    found = run.step(BASE_AFTER, RAW_AFTER, noise=NOISE, goes_on=True)
    assert [] == found.raw.written
    assert found.pairs[0].why.endswith("; raw is a dump and goes on with its own, so later steps may differ by that")


# -- elements that hold nothing but noise, under SGD -----------------------------------------------------------------------
def key_bias(raw_after: float, step: int = 0, optimizer: str = "SGD(lr=0.1)", goes_on: bool = False) -> Stepped:
    """Step a bias that began at zero, and whose gradient is zero but for rounding; base's went to -2e-10."""
    zero = np.zeros(4, np.float32)
    run = Run(zero, 2e-9 * ONES, -2e-9 * ONES, optimizer)
    return run.step(-2e-10 * ONES, np.float32(raw_after) * ONES, step, NOISE, goes_on)


def test_a_key_bias_that_begins_at_zero_holds_nothing_but_noise() -> None:
    found = key_bias(2e-10, goes_on=True)
    assert ["fail"] == [pair.status for pair in found.by_table]
    assert "skipped" == found.status
    assert "SGD moves it by nothing else" in found.pairs[0].why
    assert [] == found.raw.written


@pytest.mark.parametrize(
    ("optimizer", "step", "largest"),
    [
        ("SGD(lr=0.1)", 0, 0.1),
        ("SGD(lr=0.1)", 4, 0.5),
        ("SGD(lr=0.1, momentum=0.9)", 0, 1.0),
        ("SGD(lr=0.1, weight_decay=0.5)", 0, 0.1),
    ],
)
@pytest.mark.parametrize(("times", "status"), [(2.4, "skipped"), (2.6, "fail"), (100.0, "fail")])
def test_noise_moves_such_a_bias_by_no_more_than_its_steps(
    optimizer: str, step: int, largest: float, times: float, status: str
) -> None:
    """The noise is ten times the bound that was given, 1e-7, in each of the steps so far."""
    apart = times * largest * 10 * NOISE
    assert status == key_bias(apart - 2e-10, step, optimizer).status


def test_a_wrong_step_of_elements_above_the_noise_is_no_key_bias() -> None:
    zero = np.zeros(4, np.float32)
    gradient = np.array([2e-9, 1.0, 2e-9, 2e-9], np.float32)
    after = -0.1 * gradient
    wrong = np.array([2e-10, 0.1, 2e-10, 2e-10], np.float32)
    right = np.array([2e-10, -0.1, 2e-10, 2e-10], np.float32)
    run = {"before": zero, "base_gradient": gradient, "optimizer": "SGD(lr=0.1)"}
    assert "pass" == Run(**run).step(after, right, noise=NOISE).status
    [one] = Run(**run).step(after, wrong, noise=NOISE).pairs
    assert ("fail", "values") == (one.status, one.failure)


# -- other element types ---------------------------------------------------------------------------------------------------
def bf16(*numbers: float) -> Tensor:
    bits = np.array(numbers, np.float32).view(np.uint32) >> 16
    return Tensor.from_array(bits.astype(np.uint16), DType.BF16)


def test_bfloat16_is_read_as_numbers_and_not_as_its_bytes() -> None:
    run = Run(bf16(1, 1), bf16(1, 2**-30), bf16(1, -(2**-30)), "Adam(lr=0.25)")
    found = run.step(bf16(0.75, 0.75), bf16(0.75, 1.25), noise=2**-30, goes_on=True)
    assert ["fail"] == [pair.status for pair in found.by_table]
    assert "pass" == found.status
    assert bf16(0.75, 0.75).to_array().tolist() == found.raw.array(NAME).tolist()
