"""Experts that one side stacks in one tensor, and the other keeps in a list of layers: right pairs, and faults in one expert."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.match import match_models
from padiff_rpc.match.user_map import UserMap, parse_parameters
from padiff_rpc.match.written_map import map_as_toml
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.model import OptimizerSpec
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Result
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tape.write_tape import record
from tests.align.pairs import Claimed
from tests.tape.tapes import LOSS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WIDTH, COUNT = 8, 3
INNER = 6
INPUTS = as_inputs({"x": np.random.default_rng(0).normal(size=(4, WIDTH)).astype(np.float32)})
SGD = OptimizerSpec("SGD", {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0})


class Expert(nn.Layer):
    def __init__(self, linear: Any, inner: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = linear(WIDTH, inner, bias=False), linear(WIDTH, inner, bias=False)
        self.down_proj = linear(inner, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.gate_proj(x).tanh() * self.up_proj(x))


class Stacked(nn.Layer):
    """All experts in stacks. form: "gate_up" packs gate and up; lies: "in_out" or "out_in"."""

    def __init__(self, form: str, lies: str, inner: int) -> None:
        super().__init__()
        shapes = {"w1": (WIDTH, inner), "w3": (WIDTH, inner), "w2": (inner, WIDTH)}
        if form != "apart":
            shapes = {"gate_up_proj": (WIDTH, 2 * inner), "down_proj": (inner, WIDTH)}
        draw = np.random.default_rng(5).normal
        for name, shape in shapes.items():
            size = (COUNT, *(shape if lies == "in_out" else shape[::-1]))
            setattr(self, name, nn.Parameter(draw(size=size).astype(np.float32)))
        self._form, self._lies = form, lies

    def forward(self, x: Tensor, at: int) -> Tensor:
        if self._form == "apart":
            gate, up = self._through(x, self.w1, at), self._through(x, self.w3, at)
        else:
            both = self._through(x, self.gate_up_proj, at)
            half = both.shape[-1] // 2
            turns = self._form == "by turns"
            gate, up = (both[..., ::2], both[..., 1::2]) if turns else (both[..., :half], both[..., half:])
        return self._through(gate.tanh() * up, self.w2 if self._form == "apart" else self.down_proj, at)

    def _through(self, x: Tensor, stack: Tensor, at: int) -> Tensor:
        return x @ (stack[at] if self._lies == "in_out" else stack[at].transpose(1, 0))


class Moe(nn.Layer):
    """fault: "swapped" gives experts 0 and 1 each other's tokens; "scale" makes expert 1's output 20 % larger; "cut" detaches it.

    routed: how many of the experts get tokens; small: by what expert 1's output is multiplied.
    """

    def __init__(self, linear: Any, experts: nn.Layer, routed: int, small: float, fault: str = "") -> None:
        super().__init__()
        self.gate = linear(WIDTH, COUNT + 1, bias=False)
        self.experts = experts
        self._routed, self._small, self._fault = routed, small, fault

    def forward(self, x: Tensor) -> Tensor:
        shares = self.gate(x).tanh()
        total = x * 0.5
        for at in range(self._routed):
            which = 1 - at if self._fault == "swapped" and at < 2 else at
            made = list(self.experts)[which](x) if isinstance(self.experts, nn.LayerList) else self.experts(x, which)
            made = made.detach() if self._fault == "cut" and at == 1 else made
            scale = self._small * (1.2 if self._fault == "scale" else 1.0) if at == 1 else 1.0
            total = total + made * shares[..., at : at + 1] * scale
        return total


class Net(nn.Layer):
    def __init__(self, moe: nn.Layer) -> None:
        super().__init__()
        self.moe = moe
        self.head = nn.LinearIO(WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.moe(x))


def models(
    form: str = "gate_up",
    lies: str = "in_out",
    inner: int = INNER,
    stacked: str = "raw",
    fault: str = "",
    routed: int = COUNT,
    small: float = 1.0,
) -> list[Any]:
    listed, whole = ("", fault) if stacked == "raw" else (fault, "")
    apart = Net(
        Moe(nn.LinearIO, nn.LayerList(*(Expert(nn.LinearIO, inner) for _ in range(COUNT))), routed, small, listed)
    )
    together = Net(Moe(nn.LinearIO, Stacked(form, lies, inner), routed, small, whole))
    both: list[Any] = [Claimed("paddle", apart, {}), Claimed("torch", together, {})]
    return both if stacked == "raw" else both[::-1]


def run(settings: AlignSettings | None = None, **given: Any) -> Result:
    base, raw = models(**given)
    return align(base, raw, INPUTS, INPUTS, settings or AlignSettings(base_optimizer=SGD, raw_optimizer=SGD))


def said(matching: Matching) -> set[tuple[object, ...]]:
    return {(link.base, link.raw, link.rule) for link in matching.links}


FORMS = [("gate_up", "in_out", INNER), ("gate_up", "out_in", INNER), ("apart", "in_out", INNER)]
SQUARE = [("apart", "in_out", WIDTH), ("apart", "out_in", WIDTH), ("gate_up", "out_in", WIDTH // 2)]
TURNS = [("by turns", "in_out", INNER), ("by turns", "in_out", WIDTH // 2)]


@pytest.mark.parametrize("form", [*FORMS, *SQUARE, *TURNS], ids=str)
@pytest.mark.parametrize("stacked", ["raw", "base"])
def test_stacked_and_listed_experts_are_aligned_expert_by_expert(form: tuple[str, str, int], stacked: str) -> None:
    result = run(form=form[0], lies=form[1], inner=form[2], stacked=stacked)
    assert result.aligned, result.first_divergence
    assert [] == result.extras
    assert not any("optimisers differ" in note for note in result.notes)
    for stage in ("weights_before", "grads", "weights"):
        passed = [pair for pair in result.pairs if pair.stage == stage and pair.status == "pass"]
        in_raw = COUNT * (2 if stacked == "raw" and form[0] != "apart" else 3)
        assert in_raw + 2 == len(passed), stage


@pytest.mark.parametrize("form", [FORMS[0], SQUARE[1]], ids=str)
@pytest.mark.parametrize("stacked", ["raw", "base"])
@pytest.mark.parametrize("fault", ["swapped", "scale", "cut"])
def test_a_fault_in_one_expert_is_found_at_the_experts(form: tuple[str, str, int], stacked: str, fault: str) -> None:
    result = run(form=form[0], lies=form[1], inner=form[2], stacked=stacked, fault=fault)
    assert not result.aligned
    assert result.first_divergence is not None
    assert "moe" == result.first_divergence.base.route.partition(".")[0]


@pytest.mark.parametrize("fault", ["", "swapped"])
@pytest.mark.parametrize("stacked", ["raw", "base"])
def test_an_expert_without_tokens_has_no_gradient_in_a_list_and_zeros_in_a_stack(stacked: str, fault: str) -> None:
    result = run(stacked=stacked, fault=fault, routed=COUNT - 1)
    assert result.aligned == (not fault)
    idle = {pair.why for pair in result.pairs if pair.stage == "grads" and pair.status == "skipped"}
    listed = "base" if stacked == "raw" else "raw"
    assert {f"{listed} has no gradient, and the other side's is zero"} == idle


@pytest.mark.parametrize("stacked", ["raw", "base"])
def test_what_one_expert_gets_wrong_does_not_hide_behind_larger_experts(stacked: str) -> None:
    """Expert 1 adds so little that the outputs agree: its gradients alone are 20 % off, and a ten thousandth of the others'."""
    assert run(stacked=stacked, small=1e-5).aligned
    result = run(stacked=stacked, small=1e-5, fault="scale")
    assert all(pair.status != "fail" for pair in result.pairs if pair.stage == "forward")
    failed = {pair.tensor for pair in result.pairs if pair.stage == "grads" and pair.status == "fail"}
    parts = {"gate_up_proj[1]", "down_proj[1]"}
    linears = {"1.gate_proj.weight", "1.up_proj.weight", "1.down_proj.weight"}
    assert (parts if stacked == "raw" else linears) == failed


@pytest.mark.parametrize("form", [FORMS[0], SQUARE[0]], ids=str)
@pytest.mark.parametrize("stacked", ["raw", "base"])
def test_a_map_says_parts_and_is_read_back(form: tuple[str, str, int], stacked: str) -> None:
    base, raw = models(form=form[0], lies=form[1], inner=form[2], stacked=stacked)
    found = match_models(base.describe(), raw.describe())
    described = found.in_parts(PerSide(base.describe(), raw.describe()))
    text = map_as_toml(described.base, described.raw, found)
    listed, part = ("experts.*.down_proj.weight", "experts.{}[*]".format("w2" if form[0] == "apart" else "down_proj"))
    left, right = (listed, part) if stacked == "raw" else (part, listed)
    assert f'"moe.{left}" = "moe.{right} by ' in text
    settled = tomllib.loads(re.sub(r'^# (?=".* by )', "", text, flags=re.MULTILINE))
    by_map = UserMap(settled["layers"], parse_parameters(settled["parameters"]))
    again = match_models(base.describe(), raw.describe(), by_map)
    assert said(found) == said(again)
    assert () == again.choices
    assert not [entry for entry in (*again.unmatched_base, *again.unmatched_raw) if entry.fails]


def test_a_dump_of_stacks_is_compared_part_by_part(tmp_path: Path) -> None:
    whole, _ = models(stacked="base")
    settings = AlignSettings(base_optimizer=SGD, raw_optimizer=SGD)
    record(whole, INPUTS, tmp_path / "tape", model_name="net", loss=LOSS, optimizer=SGD)
    for fault in ("", "swapped"):
        _, listed = models(stacked="base", fault=fault)
        result = align(RecordedModel(tmp_path / "tape"), listed, INPUTS, INPUTS, settings)
        assert result.aligned == (not fault)
        assert fault or COUNT * 3 + 2 == sum(pair.stage == "weights" for pair in result.pairs)
