"""What one side alone has: it is a difference of its own kind, may be allowed, and never hides or excuses another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.numpy_framework import functions as F
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from tests.align.pairs import Claimed

X = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)
INSTANCE_NORM = {"Norm": "torch.nn.modules.instancenorm.InstanceNorm1d"}


class Pooler(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x).tanh()


class Norm(nn.Layer):
    """Normalises; `affine` with a scale and a shift, as paddle's InstanceNorm has them."""

    def __init__(self, affine: bool, scale: float = 1.0, trainable: bool = True) -> None:
        super().__init__()
        self._one, self._zero = Tensor(np.ones(8, np.float32)), Tensor(np.zeros(8, np.float32))
        self._affine = affine
        if affine:
            values = np.ones(8, np.float32)
            values[3] = scale
            self.scale = nn.Parameter(values, trainable)
            self.bias = nn.Parameter(np.zeros(8, np.float32), trainable)

    def forward(self, x: Tensor) -> Tensor:
        if self._affine:
            return F.layer_norm(x, self.scale, self.bias, 1e-5)
        return F.layer_norm(x, self._one, self._zero, 1e-5)


class Net(nn.Layer):
    """A linear, a norm, a residual branch with an activation, and a head.

    `pooler`: "" for none, "returned", "doubled" (what is returned is no layer's output) or "calls the first layer". `share`: how
    much the branch counts. `own`: the branch has a Linear. `turned`: a dropout gets the negative, which heals behind it.
    """

    def __init__(
        self,
        pooler: str = "",
        norm: Norm | None = None,
        bias: bool | None = None,
        gain: float = 1.0,
        share: float = 1.0,
        branch: str = "",
        turned: bool = False,
    ) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8, bias=bias is not None)
        if bias is False:
            self.first.bias = nn.Parameter(np.zeros(8, np.float32))
        self.norm = norm or Norm(affine=False)
        if branch == "own":
            self.own = nn.Linear(8, 8)
        self.drop1, self.drop2 = nn.Dropout(0.0), nn.Dropout(0.0)
        self.act = nn.Tanh()
        self.head = nn.Linear(8, 4)
        if pooler:
            self.pooler = Pooler()
        self._pooler, self._gain, self._share, self._branch, self._turned = pooler, gain, share, branch, turned

    def forward(self, x: Tensor) -> Any:
        sign = -1.0 if self._turned else 1.0
        hidden = self.norm(self.drop1(self.first(x)))
        branch = self.act(self.own(hidden) if self._branch == "own" else hidden * self._gain)
        hidden = self.drop2((hidden + branch * self._share) * sign) * sign
        out = self.head(hidden)
        if self._pooler == "returned":
            return out, self.pooler(hidden)
        if self._pooler == "doubled":
            return out, self.pooler(hidden) * 2.0
        if self._pooler == "calls the first layer":
            return out, self.pooler(self.first(hidden))
        return (out,)


def run(base: nn.Layer, raw: nn.Layer, optimizer: str | None = None, **settings: Any) -> Result:
    inputs = as_inputs({"x": X})
    optimizers = optimizer and parse_optimizer(optimizer)
    asked = replace(AlignSettings(**settings), base_optimizer=optimizers, raw_optimizer=optimizers)
    models: list[Any] = [Claimed("torch", model, INSTANCE_NORM) for model in (base, raw)]
    return align(*models, inputs, inputs, asked)


def named(result: Result, status: str = "fails") -> list[str]:
    return [f"{extra.side} {extra.name}" for extra in result.extras if extra.status == status]


def failing(result: Result) -> list[tuple[str, str, str]]:
    return [(pair.stage, pair.base_route, pair.tensor) for pair in result.pairs if pair.status == "fail"]


POOLER = ["raw pooler.dense.weight", "raw pooler.dense.bias"]


# -- extras that nothing depends on -------------------------------------------------------------------------------------
def test_a_layer_that_one_side_alone_has_is_a_difference_of_its_own_kind() -> None:
    result = run(Net(), Net("returned"))
    assert not result.aligned
    assert ([], None, []) == (failing(result), result.first_divergence, result.lacking)
    assert [*POOLER, "raw output.1"] == named(result)
    assert ["pooler.dense", "pooler.dense", "pooler"] == [extra.layer for extra in result.extras]


def test_it_may_be_base_that_has_it() -> None:
    result = run(Net("returned"), Net())
    assert ["base pooler.dense.weight", "base pooler.dense.bias", "base output.1"] == named(result)
    assert run(Net("returned"), Net(), allow_extra=("pooler",)).aligned


@pytest.mark.parametrize("settings", [{}, {"single_step": True}, {"fail_fast": True}, {"api_calls": True}], ids=str)
def test_a_glob_accepts_a_layer_with_its_parameters_and_its_output(settings: dict[str, Any]) -> None:
    result = run(Net(), Net("returned"), allow_extra=("pool*",), **settings)
    assert result.aligned
    assert [*POOLER, "raw output.1"] == named(result, "allowed")
    assert "allow_extra accepts what one side alone has: 3 in number, not compared" in result.notes
    assert [] == [entry for entry in result.unmatched_raw if entry.fails]
    assert not run(Net(), Net("returned"), **settings).aligned


@pytest.mark.parametrize("settings", [{}, {"single_step": True}, {"fail_fast": True}], ids=str)
def test_a_fault_beside_what_is_allowed_is_found_first(settings: dict[str, Any]) -> None:
    result = run(Net(), Net("returned", gain=1.5), allow_extra=("*",), **settings)
    assert not result.aligned
    assert result.first_divergence is not None
    assert "Net" == result.first_divergence.base.class_name
    assert ("forward", "act", "input.0") in failing(result)


def test_an_output_that_no_layer_made_is_accepted_by_its_own_name() -> None:
    assert ["raw output.1"] == named(run(Net(), Net("doubled"), allow_extra=("pooler*",)))
    assert run(Net(), Net("doubled"), allow_extra=("pooler*", "output.1")).aligned


def test_a_layer_that_calls_one_that_both_have_is_not_taken_for_the_layer_around_it() -> None:
    result = run(Net(), Net("calls the first layer"), allow_extra=("pooler",))
    assert result.aligned
    assert ["only raw calls 'first' again here; base does not run it through its own forward"] == [
        pair.why for pair in result.pairs if pair.status == "skipped" and pair.base_route == "first"
    ]


def test_a_glob_that_matches_nothing_is_noted() -> None:
    result = run(Net(), Net("returned"), allow_extra=("poler*",))
    assert not result.aligned
    assert "allow_extra 'poler*' matches nothing that one side alone has" in result.notes


def test_models_without_a_parameter_in_common_are_refused() -> None:
    base, raw = nn.Sequential(nn.Linear(8, 3)), nn.Sequential(nn.LayerNorm(8))
    with pytest.raises(PadiffError) as caught:
        run(base, raw, allow_extra=("*",))
    assert Reason.MODELS_DO_NOT_MATCH is caught.value.reason


class Table(nn.Layer):
    """Adds a table of positions: a parameter of its own, or an Embedding's."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        table = nn.Embedding(4, 8)
        if own:
            self.pos_embed: nn.Parameter = table.weight
        else:
            self.position: nn.Layer = table

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.pos_embed if hasattr(self, "pos_embed") else self.position(Tensor(np.arange(4))))


def test_the_line_for_a_map_that_a_refusal_shows_can_be_given_and_is_right() -> None:
    inputs = as_inputs({"x": np.ones((4, 8), np.float32)})

    def tables(**settings: Any) -> Result:
        return align(HostedModel(Table(False)), HostedModel(Table(True)), inputs, inputs, AlignSettings(**settings))

    with pytest.raises(PadiffError) as caught:
        tables()
    assert 'put into [parameters] of a map: "position.weight" = "pos_embed"' in caught.value.message
    assert "--json" in caught.value.hint
    assert tables(parameter_map={"position.weight": "pos_embed"}).aligned


# -- extras on which outputs depend -------------------------------------------------------------------------------------
def test_an_extra_bias_that_is_used_differs_at_its_layer() -> None:
    for settings in ({}, {"allow_extra": ("first.bias",)}):
        result = run(Net(), Net(bias=True), **settings)
        assert result.first_divergence is not None
        assert "first" == result.first_divergence.raw.route
        assert not result.aligned


def test_a_bias_of_zeros_is_named_and_fails_all_the_same() -> None:
    result = run(Net(), Net(bias=False))
    assert ["raw first.bias"] == named(result)
    assert [] == failing(result)
    assert result.extras[0].why.endswith("it holds 0: neutral now, but it is trained")
    assert run(Net(), Net(bias=False), allow_extra=("first.bias",)).aligned


# -- neutral extras -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("affine", ["base", "raw"])
def test_a_norm_whose_scale_and_shift_change_nothing_is_aligned_and_noted(affine: str) -> None:
    nets = Net(norm=Norm(affine == "base")), Net(norm=Norm(affine == "raw"))
    result = run(*nets)
    assert result.aligned
    assert [f"{affine} norm.scale", f"{affine} norm.bias"] == named(result, "neutral")
    assert (
        f"{affine}'s extra norm.scale and bias hold 1 and 0: neutral now, but trained in further steps" in result.notes
    )


@pytest.mark.parametrize("scale", [1.001, 1.0 + 2.0**-22, float("nan")])
def test_a_scale_beside_1_is_an_ordinary_extra(scale: float) -> None:
    result = run(Net(), Net(norm=Norm(True, scale)))
    assert not result.aligned
    assert ["raw norm.scale"] == named(result)


def test_a_fault_behind_a_neutral_norm_is_found() -> None:
    assert not run(Net(), Net(norm=Norm(True), gain=1.01)).aligned


@pytest.mark.parametrize("steps", [1, 3])
def test_a_neutral_norm_that_an_optimiser_moves_makes_the_models_differ(steps: int) -> None:
    result = run(Net(), Net(norm=Norm(True)), optimizer="SGD(lr=0.1)", steps=steps)
    assert not result.aligned
    assert ["raw norm.scale", "raw norm.bias"] == named(result)
    assert result.extras[0].why.endswith("it held 1, which changes nothing, until a step changed it")
    assert (result.first_divergence is None) == (steps == 1)


def test_a_neutral_norm_that_is_frozen_stays_so() -> None:
    result = run(Net(), Net(norm=Norm(True, trainable=False)), optimizer="SGD(lr=0.1)", steps=3)
    assert result.aligned
    assert "raw's extra norm.scale and bias hold 1 and 0: neutral now" in result.notes


# -- what an extra does to differences that heal ----------------------------------------------------------------------------
def test_differences_heal_beside_an_extra_that_no_gradient_reaches() -> None:
    allowed = {"allow_extra": ("pooler",)}
    result = run(Net(), Net("returned", turned=True), **allowed)
    assert result.aligned
    assert any("heals" in pair.why for pair in result.pairs)
    assert not run(Net(), Net("returned", turned=True), **allowed, strict_inside=True).aligned


def test_a_neutral_norm_lets_differences_heal() -> None:
    assert run(Net(), Net(norm=Norm(True), turned=True)).aligned


def test_a_damped_fault_does_not_heal_where_the_parameters_that_would_show_it_are_extras() -> None:
    """Raw's branch counts 1e-7 and goes through a Linear of its own: no gradient that both have tells of what is in it."""
    result = run(Net(share=1e-7), Net(share=1e-7, branch="own"), allow_extra=("own*",))
    assert ("forward", "act", "input.0") in failing(result)
    assert not result.aligned


@pytest.mark.parametrize("settings", [{"diff_phase": "forward"}, {}], ids=str)
def test_nothing_heals_where_no_gradient_tells_whether_an_extra_takes_part(settings: dict[str, Any]) -> None:
    raw = Net("returned", turned=True)
    if not settings:
        raw.pooler.dense.weight = nn.Parameter(raw.pooler.dense.weight.values, False)
    assert not run(Net(), raw, allow_extra=("pooler",), **settings).aligned


def test_what_it_holds_is_plain_data() -> None:
    written = run(Net(), Net("returned")).to_json()["extras"][-1]
    assert written == {
        "side": "raw",
        "what": "output",
        "name": "output.1",
        "layer": "pooler",
        "status": "fails",
        "why": "only raw returns this output: pooler makes it",
    }
