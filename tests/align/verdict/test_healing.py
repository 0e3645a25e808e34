"""Differences inside layers that heal: the pair that needs it is aligned, and a fault right beside it is still found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Pair, Result

X = np.random.default_rng(0).normal(size=(3, 5, 8)).astype(np.float32)


class Positions(nn.Layer):
    """A table of positions: one for the batch; `wide`, one for each example of it; or `turned`, with its axes reversed."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.register_buffer("table", Tensor(np.random.default_rng(1).normal(size=(1, 5, 8)).astype(np.float32)))
        self._form = form

    def forward(self, x: Tensor) -> Tensor:
        if self._form == "turned":
            return self.table.transpose(2, 1, 0)
        return self.table + x * 0.0 if self._form == "wide" else self.table


class Block(nn.Layer):
    """A residual branch. Its two Dropouts do nothing; `swapped` uses each in the place of the other."""

    def __init__(self, swapped: bool, gain: float, share: float, cut: bool, tanh: bool) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.drop1 = nn.Dropout(0.0)
        self.second = nn.Linear(8, 8)
        self.drop2 = nn.Dropout(0.0)
        self._swapped, self._gain, self._share, self._cut, self._tanh = swapped, gain, share, cut, tanh

    def forward(self, x: Tensor) -> Tensor:
        inner, outer = (self.drop2, self.drop1) if self._swapped else (self.drop1, self.drop2)
        hidden = self.first(x.detach() if self._cut else x)
        hidden = inner((hidden * 0.9).tanh() if self._tanh else hidden.tanh())
        return x + outer(self.second(hidden) * self._gain) * self._share


class Net(nn.Layer):
    def __init__(self, form: str = "", swapped: bool = False, share: float = 1.0, **fault: Any) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 8)
        self.positions = Positions(form)
        healthy = {"gain": 1.0, "cut": False, "tanh": False}
        self.block = Block(swapped, share=share, **{**healthy, **fault})
        self.head = nn.Linear(8, 4)
        self._form = form

    def forward(self, x: Tensor) -> Tensor:
        table = self.positions(x)
        return self.head(self.block(self.embed(x) + (table.transpose(2, 1, 0) if self._form == "turned" else table)))


def run(base: nn.Layer, raw: nn.Layer, **settings: Any) -> Result:
    inputs = as_inputs({"x": X})
    return align(HostedModel(base), HostedModel(raw), inputs, inputs, AlignSettings(**settings))


def set_aside(result: Result) -> list[Pair]:
    words = ("and heals", "has only further on", "with which it changes places")
    return [pair for pair in result.pairs if pair.status == "skipped" and any(word in pair.why for word in words)]


def named(result: Result) -> tuple[str, str]:
    assert result.first_divergence is not None
    return result.first_divergence.base.route, result.first_divergence.stage


# -- a table of another shape ------------------------------------------------------------------------------------------
def test_a_table_of_another_shape_heals_where_all_that_follows_agrees() -> None:
    result = run(Net(), Net(form="turned"))
    assert result.aligned
    assert {("positions", "output.0")} == {(pair.base_route, pair.tensor) for pair in set_aside(result)}
    why = "differs inside the model, and heals: all that follows from it agrees; axes 0 and 2 are swapped"
    assert {why} == {pair.why for pair in set_aside(result)}


@pytest.mark.parametrize("fault", [{"gain": 1.01}, {"cut": True}], ids=str)
def test_beside_a_fault_it_does_not_heal_for_the_outputs_do_not_agree(fault: dict[str, Any]) -> None:
    assert not run(Net(), Net(form="turned", **fault)).aligned


# -- shapes of one tensor -------------------------------------------------------------------------------------------------
def test_a_table_that_is_repeated_is_compared_as_it_is_repeated() -> None:
    (pair,) = [
        p
        for p in run(Net(), Net(form="wide")).pairs
        if (p.base_route, p.stage) == ("positions", "forward")
        if p.tensor == "output.0"
    ]
    assert ("pass", "compared in one form: F32[1, 5, 8] in base, F32[3, 5, 8] in raw") == (pair.status, pair.why)


def test_a_fault_behind_what_is_repeated_is_the_first_divergence() -> None:
    assert run(Net(), Net(form="wide")).aligned
    assert "block" == named(run(Net(), Net(form="wide", gain=1.01)))[0]


def test_a_gradient_that_is_cut_behind_what_is_repeated_is_found() -> None:
    result = run(Net(), Net(form="wide", cut=True))
    assert not result.aligned
    assert ("block", "backward") == named(result)


def test_a_wrong_table_that_is_repeated_differs() -> None:
    raw = Net(form="wide")
    raw.positions.table.data[0, 3, 2] += 0.01
    result = run(Net(), raw, assign=False)
    assert not result.aligned


# -- layers without parameters that are paired by name, and mean other things --------------------------------------------
def test_layers_that_are_used_in_each_others_place_are_set_aside() -> None:
    """How they are known is tested at `Exchanged`."""
    result = run(Net(), Net(swapped=True))
    assert result.aligned
    assert {"block.drop1", "block.drop2"} == {pair.base_route for pair in set_aside(result)}


@pytest.mark.parametrize("fault", [{"gain": 1.01}, {"tanh": True}, {"cut": True}], ids=str)
def test_a_fault_in_the_layer_of_such_a_pair_is_found(fault: dict[str, Any]) -> None:
    assert not run(Net(), Net(swapped=True, **fault)).aligned


# -- damped is not healed -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [1e-3, 1e-5, 1e-8])
@pytest.mark.parametrize("fault", [{"gain": 1.01}, {"tanh": True}], ids=str)
def test_a_fault_whose_branch_hardly_counts_is_no_form(share: float, fault: dict[str, Any]) -> None:
    assert run(Net(share=share), Net(share=share)).aligned
    assert not run(Net(share=share), Net(share=share, **fault)).aligned


def test_of_a_damped_fault_beside_what_heals_the_layer_is_named() -> None:
    result = run(Net(share=1e-3), Net(share=1e-3, form="wide", tanh=True))
    assert "block" == named(result)[0]


# -- where nothing heals ------------------------------------------------------------------------------------------------
def test_strict_inside_fails_it() -> None:
    result = run(Net(), Net(form="turned"), strict_inside=True)
    assert not result.aligned
    assert "positions" == named(result)[0]


def test_the_modes_of_padiff_fail_it() -> None:
    assert not run(Net(), Net(form="turned"), compare=CompareRules(mode="strict", atol=1e-4, rtol=1e-4)).aligned


def test_in_single_step_nothing_heals_for_raw_is_handed_bases_tensors() -> None:
    assert not run(Net(), Net(swapped=True, gain=2.0), single_step=True).aligned
    assert [] == set_aside(run(Net(), Net(form="turned"), single_step=True))


def test_without_gradients_it_is_said_that_they_were_not_looked_at() -> None:
    result = run(Net(), Net(form="turned"), diff_phase="forward")
    assert result.aligned
    assert all("agrees (gradients were not looked at)" in pair.why for pair in set_aside(result))


def test_an_output_without_partner_heals_nothing() -> None:
    class Two(Net):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x), x * 2.0

    assert not run(Two(), Net(form="turned")).aligned


def test_nan_never_heals() -> None:
    class Hole(Net):
        def forward(self, x: Tensor) -> Tensor:
            self.positions(x * float("nan"))
            return super().forward(x)

    result = run(Hole(), Hole(form="turned"))
    assert not result.aligned


# -- later steps ----------------------------------------------------------------------------------------------------------
def test_every_step_must_agree() -> None:
    sgd = parse_optimizer("SGD(lr=0.1)")
    raw = replace(sgd, options={**sgd.options, "lr": 0.2})
    steps = {"steps": 3, "base_optimizer": sgd}
    assert run(Net(), Net(form="turned"), raw_optimizer=sgd, **steps).aligned
    result = run(Net(), Net(form="turned"), raw_optimizer=raw, **steps)
    assert not result.aligned
    assert "weights" == named(result)[1]


def test_what_is_set_aside_keeps_its_metrics() -> None:
    sizes = [pair.metrics.rel_l2 for pair in set_aside(run(Net(), Net(swapped=True))) if pair.metrics is not None]
    assert sizes
    assert all(size > 0.1 for size in sizes)


# -- where nothing shows that a difference is harmless --------------------------------------------------------------------
@pytest.mark.parametrize("fault", [{"gain": 1.03}, {"tanh": True}], ids=str)
def test_where_the_models_outputs_are_not_recorded_nothing_heals(fault: dict[str, Any]) -> None:
    asked = {"layers": ("block", "block.*", "head")}
    assert run(Net(share=1e-3), Net(share=1e-3), **asked).aligned
    assert not run(Net(share=1e-3), Net(share=1e-3, **fault), **asked).aligned


@pytest.mark.parametrize("share", [1e-3, 1e-5])
def test_a_gradient_that_is_cut_in_a_branch_that_hardly_counts_is_found(share: float) -> None:
    assert not run(Net(share=share), Net(share=share, cut=True)).aligned


def test_where_parameters_are_not_compared_nothing_heals() -> None:
    assert run(Net(share=1e-5), Net(share=1e-5), held=False).aligned
    assert not run(Net(share=1e-5), Net(share=1e-5, tanh=True), held=False).aligned


def test_outputs_that_are_all_zero_show_nothing() -> None:
    def silent(**more: Any) -> Net:
        net = Net(share=1e-5, **more)
        net.head.weight.data[:] = 0.0
        net.head.bias.data[:] = 0.0
        return net

    assert run(silent(), silent()).aligned
    assert not run(silent(), silent(tanh=True)).aligned


def test_what_was_set_aside_is_told_in_a_note() -> None:
    result = run(Net(), Net(swapped=True))
    (note,) = [note for note in result.notes if "set aside" in note]
    assert note.startswith(f"{len(set_aside(result))} tensors inside layers differ, by up to")
    assert "--strict-inside fails them" in note
    assert not [note for note in run(Net(), Net()).notes if "set aside" in note]


def test_what_a_layer_makes_of_its_parameters_does_not_heal_even_where_no_gradient_is_looked_at() -> None:
    forward = {"diff_phase": "forward"}
    assert run(Net(share=1e-8), Net(share=1e-8), **forward).aligned
    assert not run(Net(share=1e-8), Net(share=1e-8, tanh=True), **forward).aligned


# -- gradients ------------------------------------------------------------------------------------------------------------
class Sender(nn.Linear):
    """A Linear that sends back too little: its output and its own gradients are right."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach() * 0.1 + x * 0.9)


class Keeper(nn.Linear):
    """A Linear whose bias gets half of its gradient: its output, and what it sends back, are right."""

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.transpose(1, 0)) + (self.bias.detach() * 0.5 + self.bias * 0.5)


def with_layer(net: Net, path: str, layer: nn.Layer) -> Net:
    """Put a layer into the place of another one that holds the same parameters."""
    outer, _, name = path.rpartition(".")
    holder = net.block if outer else net
    setattr(holder, name, layer)
    return net


@pytest.mark.parametrize("share", [1.0, 0.05, 0.02])
def test_a_gradient_that_is_too_small_in_a_branch_does_not_heal_however_little_is_left_of_it(share: float) -> None:
    result = run(Net(share=share), with_layer(Net(share=share), "block.first", Sender(8, 8)))
    assert ("block.first", "backward") == named(result)


def test_what_heals_does_not_hide_a_wrong_gradient_elsewhere() -> None:
    """The Dropouts that stand in each other's places differ in forward and backward, and are not at fault."""
    healthy = run(Net(), Net(swapped=True))
    assert healthy.aligned
    assert {"forward", "backward"} == {pair.stage for pair in set_aside(healthy)}
    result = run(Net(), with_layer(Net(swapped=True), "head", Keeper(8, 4)))
    assert ("head", "grads") == named(result)
    assert {"forward", "backward"} == {pair.stage for pair in set_aside(result)}


def test_a_gradient_that_does_not_heal_is_named_beside_one_that_does() -> None:
    result = run(Net(), with_layer(Net(swapped=True), "block.first", Sender(8, 8)))
    assert ("block.first", "backward") == named(result)
