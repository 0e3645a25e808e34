"""The result, put together from findings: when it is aligned, which divergences it tells, and what stands beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import numpy as np
import pytest

from padiff_rpc.align.prepare import Prepared
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.align.sides import Sides, Traffic
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.align.verdict import assemble as module
from padiff_rpc.align.verdict.assemble import (
    assemble,
    blame_of,
    divergences_of,
    peak_bytes,
    store_of,
    transport_of,
)
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.match.layer_map import LayerPair, Matching
from padiff_rpc.match.scope import Scope
from padiff_rpc.model.model import LossSpec, Model, OptimizerSpec, StoreFigures
from padiff_rpc.model.selection import Selection
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair, Result, Unmatched
from padiff_rpc.tensors.tensor import Tensor
from tests.align.hand_made import HeldModel, described, failing, judged, layer, pair

LAYERS = (
    LayerPair("", "", "root", True),
    LayerPair("stem", "r.stem", "name", True),
    LayerPair("head", "r.head", "name", False),
)
BASE = described(layer("", "Net"), layer("stem"), layer("head"))
RAW = described(layer("", "Net"), layer("r.stem", "Conv"), layer("r.head"))
DIVERGENCES = cast("Any", ["a divergence"])


def prepared(
    unmatched_base: Sequence[Unmatched] = (),
    unmatched_raw: Sequence[Unmatched] = (),
    hidden: dict[str, tuple[str, ...]] | None = None,
    **settings: Any,
) -> Prepared:
    models: Any = PerSide(HeldModel({}), HeldModel({}, recorded=True))
    asked = AlignSettings(**settings)
    matching = Matching(LAYERS, (), tuple(unmatched_base), tuple(unmatched_raw))
    scope = Scope(LAYERS, (), (), (), hidden or {}, True)
    sides = Sides(models.base, models.raw, asked.compare, asked.single_step, Traffic())
    return Prepared(sides, PerSide(BASE, RAW), matching, scope, asked, replace(asked, diff_phase="forward"))


def result(*pairs: Pair, lacking: Sequence[str] = (), **prepares: Any) -> Result:
    return assemble(prepared(**prepares), [], list(pairs), [], ["a note"], lacking, {"wall_s": 1.5})


def unmatched(fails: bool) -> Unmatched:
    return Unmatched("parameter", "fc.bias", "it has no partner", fails)


# -- whether the models are aligned ----------------------------------------------------------------------------------------
def test_models_are_aligned_where_nothing_failed_and_nothing_is_lacking() -> None:
    assert result(pair(), pair(status="skipped")).aligned


def test_one_failing_comparison_makes_them_differ() -> None:
    assert not result(pair(), failing(), pair()).aligned


def test_one_lacking_comparison_makes_them_differ_and_is_a_note() -> None:
    found = result(pair(), lacking=["no gradient was compared"])
    assert not found.aligned
    assert ["a note", "no gradient was compared"] == found.notes


@pytest.mark.parametrize("side", ["unmatched_base", "unmatched_raw"])
def test_only_what_fails_without_a_partner_makes_them_differ(side: str) -> None:
    assert result(pair(), **{side: [unmatched(False)]}).aligned
    found = result(pair(), **{side: [unmatched(False), unmatched(True)]})
    assert not found.aligned
    assert [unmatched(False), unmatched(True)] == getattr(found, side)


# -- what stands in the result ---------------------------------------------------------------------------------------------
def test_a_result_holds_the_findings_as_they_were_given() -> None:
    pairs = [pair(), failing()]
    found = assemble(prepared(), DIVERGENCES, pairs, [], [], [], {"wall_s": 1.5})
    assert (DIVERGENCES, pairs, {"wall_s": 1.5}) == (found.divergences, found.pairs, found.figures)


def test_a_result_holds_both_trees_and_which_layers_correspond() -> None:
    found = result()
    assert {
        "base": [("", "Net"), ("stem", "Linear"), ("head", "Linear")],
        "raw": [("", "Net"), ("r.stem", "Conv"), ("r.head", "Linear")],
    } == found.trees
    assert [("", ""), ("stem", "r.stem"), ("head", "r.head")] == found.paired_routes
    assert [("head", "r.head")] == found.inferred_routes


def test_a_result_holds_where_each_side_ran() -> None:
    found = result()
    assert {"base": False, "raw": True} == {side: info["recorded"] for side, info in found.environment.items()}


def test_the_settings_are_those_that_were_asked_for() -> None:
    assert "backward" == result(diff_phase="backward", single_step=True).settings["diff_phase"]


def test_the_settings_are_values_of_json() -> None:
    targets = {"target": Tensor.from_array(np.zeros((2, 3), np.float32))}
    settings = result(
        compare=CompareRules("strict", atol=1e-3),
        base_loss=LossSpec("mse", {"scale": 2.0}, targets),
        raw_loss=LossSpec("mean"),
        base_optimizer=OptimizerSpec("SGD", {"lr": 0.1}),
        raw_optimizer=OptimizerSpec("mine"),
        raw_selection=Selection({"head": "on the black list"}),
    ).settings
    assert settings == json.loads(json.dumps(settings)) | {"layers": (), "allow_extra": (), "aoa_statements": ()}
    assert set(settings) == set(AlignSettings.__dataclass_fields__)
    assert {"mode": "strict", "atol": 1e-3, "rtol": None, "allow_dtype_difference": False} == settings["compare"]
    assert {"name": "mse", "options": {"scale": 2.0}, "targets": {"target": "F32[2, 3]"}} == settings["base_loss"]
    assert {"name": "mean", "options": {}, "targets": {}} == settings["raw_loss"]
    assert {"name": "SGD", "options": {"lr": 0.1}} == settings["base_optimizer"]
    assert {"name": "mine", "options": {}} == settings["raw_optimizer"]
    assert ({}, {"head": "on the black list"}) == (settings["base_selection"], settings["raw_selection"])


def test_sides_without_an_optimiser_have_none_in_the_settings() -> None:
    settings = result().settings
    assert (None, None) == (settings["base_optimizer"], settings["raw_optimizer"])


# -- the divergences of all steps ------------------------------------------------------------------------------------------
def step(number: int, *routes: str) -> StepResult:
    return StepResult(number, [judged(at, route, "output", failing(route=route)) for at, route in enumerate(routes)])


def told(steps: Sequence[StepResult], single_step: bool, **prepares: Any) -> list[tuple[int, str, str]]:
    found = divergences_of(blame_of(prepared(**prepares)), steps, single_step)
    return [(one.step, one.base.route, one.raw.route) for one in found]


def test_without_single_step_a_step_after_the_first_diverging_one_inherits() -> None:
    steps = [step(0), step(1, "head"), step(2, "stem")]
    assert [(1, "head", "r.head")] == told(steps, single_step=False)


def test_in_single_step_each_step_tells_layers_of_its_own_once() -> None:
    steps = [step(0, "head"), step(1, "stem", "head")]
    assert [(0, "head", "r.head"), (1, "stem", "r.stem")] == told(steps, single_step=True)


def test_steps_in_which_nothing_diverges_tell_nothing() -> None:
    assert [] == told([step(0), step(1)], single_step=False)


def test_what_is_left_out_inside_a_layer_is_known_to_its_blame() -> None:
    blame = blame_of(prepared(hidden={"head": ("head.fc",)}))
    [one] = divergences_of(blame, [step(0, "head")], single_step=False)
    assert one.why.endswith("; left out inside it: head.fc")


# -- figures ---------------------------------------------------------------------------------------------------------------
class Stored(HeldModel):
    """A model with a store, in another process."""

    transport = "shared memory"

    def store_figures(self) -> StoreFigures:
        return StoreFigures(1, 2, peak_memory_bytes=30, peak_disk_bytes=40, spilled_bytes=50)

    def info(self) -> Any:
        return replace(super().info(), store_memory_bytes=100, store_disk_bytes=200)


def test_a_store_is_told_by_its_budgets_and_peaks() -> None:
    assert {
        "memory_budget_bytes": 100,
        "disk_budget_bytes": 200,
        "peak_memory_bytes": 30,
        "peak_disk_bytes": 40,
        "spilled_bytes": 50,
    } == store_of(cast("Model", Stored({})))


def test_a_model_without_a_store_or_a_transport_has_none() -> None:
    model = cast("Model", HeldModel({}))
    assert (None, None) == (store_of(model), transport_of(model))
    assert "shared memory" == transport_of(cast("Model", Stored({})))


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_the_peak_is_in_bytes_on_each_platform(monkeypatch: pytest.MonkeyPatch, platform: str, unit: int) -> None:
    class Usage:
        ru_maxrss = 7

    monkeypatch.setattr(module.resource, "getrusage", lambda who: Usage)
    monkeypatch.setattr(module.sys, "platform", platform)
    assert 7 * unit == peak_bytes()


def test_the_environment_is_the_whole_of_the_models_info() -> None:
    assert asdict(HeldModel({}).info()) == result().environment["base"]
