"""Recorded models are aligned like live ones: healthy pairs agree, planted faults are found at their layers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.losses_and_optimizers import parse_optimizer
from padiff_rpc.model.model import Model
from padiff_rpc.result import Result
from padiff_rpc.tape.folders import walk
from padiff_rpc.tape.recorded_model import RecordedModel
from tests.align.pairs import hosted, inputs_of
from tests.tape.tapes import PADIFF_DUMPS, edit, record_tape

ADAM = parse_optimizer("Adam(lr=1e-3)")
PADIFF_RULES = AlignSettings(compare=CompareRules("strict", atol=1e-5, rtol=1e-4), assign=False)
MakePair = Callable[..., tuple[Model, Model]]


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function: side, factory, settings -> the tape, recorded once for all tests here, which only read it."""
    folder = tmp_path_factory.mktemp("tapes")
    known: dict[str, Path] = {}

    def record_once(side: int, factory: str, **settings: Any) -> Path:
        key = repr((side, factory, settings))
        if key not in known:
            known[key] = record_tape(folder / str(len(known)), factory, **settings)
        return known[key]

    return record_once


@pytest.fixture(params=["tape/tape", "tape/live", "live/tape"])
def make_pair(request: pytest.FixtureRequest, tape: Callable[..., Path]) -> MakePair:
    """Give base and raw of one factory, of which one or both are recorded. Both have the same weights."""

    def make(factory: str, raw_args: dict[str, Any] | None = None, **recording: Any) -> tuple[Model, Model]:
        settings = {"optimizer": ADAM, "steps": 2, **recording}
        pair = [
            RecordedModel(tape(side, factory, model_args=args, **settings))
            if place == "tape"
            else hosted(factory, **args)
            for side, (place, args) in enumerate(zip(request.param.split("/"), ({}, raw_args or {}), strict=True))
        ]
        return pair[0], pair[1]

    return make


def run(pair: tuple[Model, Model], factory: str, **settings: Any) -> Result:
    asked = {"assign": False, "base_optimizer": ADAM, "raw_optimizer": ADAM, "steps": 2, **settings}
    return align(*pair, inputs_of(factory), inputs_of(factory), AlignSettings(**asked))


@pytest.mark.parametrize("factory", ["mlp", "deep", "shared", "tuple_outputs", "bert_like", "conv_net", "tied"])
def test_a_healthy_pair_is_aligned_in_every_stage(make_pair: MakePair, factory: str) -> None:
    result = run(make_pair(factory), factory)
    assert [] == [pair for pair in result.pairs if pair.status == "fail"]
    assert result.aligned
    passed = {pair.stage for pair in result.pairs if pair.status == "pass"}
    assert {"weights_before", "forward", "loss", "backward", "grads", "weights"} <= passed


def test_layouts_differ_on_tape_too(make_pair: MakePair) -> None:
    assert run(make_pair("mlp", {"layout": "io"}), "mlp").aligned


FAULTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("mlp", {"scale": 1.25}, "body", "forward"),
    ("deep", {"bug_at": 8}, "8", "forward"),
    ("shared", {"scale": 1.25}, "", "forward"),
    ("tuple_outputs", {"scale": 1.25}, "split", "forward"),
    ("bert_like", {"eps_at": 1}, "encoder.1.norm1", "forward"),
    ("bert_like", {"no_scale_at": 1}, "encoder.1.attention", "forward"),
    ("bert_like", {"nan_output": True}, "", "forward"),
    ("bert_like", {"permuted_batch": True}, "", "forward"),
    ("conv_net", {"momentum": 0.9}, "bn1", "buffers"),
    ("mlp", {"seed": 1}, "body.fc1", "weights_before"),
]


@pytest.mark.parametrize(("factory", "fault", "route", "stage"), FAULTS)
def test_a_planted_fault_is_found_at_its_layer(
    make_pair: MakePair, factory: str, fault: dict[str, Any], route: str, stage: str
) -> None:
    result = run(make_pair(factory, fault), factory)
    assert not result.aligned
    assert result.first_divergence is not None
    assert (route, stage) == (result.first_divergence.raw.route, result.first_divergence.stage)


@pytest.mark.parametrize("single_step", [False, True])
def test_weights_are_assigned_from_a_recorded_base(tmp_path: Path, single_step: bool) -> None:
    base = RecordedModel(record_tape(tmp_path / "tape", "bert_like", optimizer=ADAM, steps=2))
    for fault, routes in ({}, []), ({"eps_at": 1}, ["encoder.1.norm1"]):
        pair = base, hosted("bert_like", seed=1, layout="io", **fault)
        result = run(pair, "bert_like", assign=True, single_step=single_step)
        assert routes == [divergence.raw.route for divergence in result.divergences]
        assert (not fault) is result.aligned


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"assign": True}, "cannot be assigned to it"), ({"single_step": True}, "single step hands base's tensors")],
)
def test_what_a_recorded_raw_cannot_do_is_refused_with_the_cure(
    tmp_path: Path, settings: dict[str, Any], text: str
) -> None:
    raw = RecordedModel(record_tape(tmp_path / "tape"))
    with pytest.raises(PadiffError, match=text) as caught:
        run((hosted("mlp"), raw), "mlp", **settings)
    assert Reason.BAD_CONFIG is caught.value.reason
    assert "or make the dump base" in caught.value.hint


def test_a_forward_alone_is_compared_with_a_tape_of_a_forward_alone(make_pair: MakePair) -> None:
    pair = make_pair("mlp", backward=False, optimizer=None, steps=1)
    result = run(pair, "mlp", diff_phase="forward", base_optimizer=None, raw_optimizer=None, steps=1)
    assert result.aligned


def test_more_steps_than_were_recorded_are_refused(tmp_path: Path) -> None:
    base = RecordedModel(record_tape(tmp_path / "tape", optimizer=ADAM))
    with pytest.raises(PadiffError) as caught:
        run((base, hosted("mlp")), "mlp")
    assert Reason.OUT_OF_ORDER is caught.value.reason


def test_without_parameters_what_passed_the_layers_is_still_compared(tmp_path: Path) -> None:
    leaves = []
    for side, args in enumerate(({}, {"scale": 1.25})):
        leaves.append(record_tape(tmp_path / str(side), model_args=args) / "step_0" / "rank_0")
        (leaves[side] / "params.json").unlink()
    for raw, aligned in ((0, True), (1, False)):
        pair = RecordedModel(leaves[0]), RecordedModel(leaves[raw])
        result = run(pair, "mlp", base_optimizer=None, raw_optimizer=None, steps=1)
        assert aligned is result.aligned
        assert [] == [item for item in (*result.unmatched_base, *result.unmatched_raw) if item.fails]
        assert any("holds no parameters" in note for note in result.notes)
    with pytest.raises(PadiffError, match="dump that holds no parameters") as caught:
        run((pair[0], hosted("mlp")), "mlp", assign=True)
    assert Reason.BAD_CONFIG is caught.value.reason


# -- faults planted in the files -------------------------------------------------------------------------------------------
def spoil(leaf: Path, kind: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the tensor of a layer in the middle."""
    name = {"tensors": "tensor_2.npy", "weights": "weights_3.npy", "grads": "grads_2.npy"}[kind]
    np.save(leaf / kind / name, change(np.load(leaf / kind / name)))


def with_nan(array: np.ndarray) -> np.ndarray:
    array.flat[0] = np.nan
    return array


CHANGES = {
    "values": lambda array: array + np.float32(0.05),
    "permuted": lambda array: array[::-1].copy(),
    "nan": with_nan,
    "one element": lambda array: array + (np.arange(array.size).reshape(array.shape) == 3) * np.float32(0.5),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["tensors", "weights", "grads"])
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "PaDiff's"])
def test_a_file_that_was_changed_by_hand_is_a_difference(tmp_path: Path, ours: bool, kind: str, change: str) -> None:
    leaf = record_tape(tmp_path / "tape") / "step_0" / "rank_0" if ours else PADIFF_DUMPS / "paddle_good/step_0/rank_0"
    shutil.copytree(leaf, tmp_path / "changed")
    spoil(tmp_path / "changed", kind, CHANGES[change])
    result = align(RecordedModel(leaf), RecordedModel(tmp_path / "changed"), {}, {}, PADIFF_RULES)
    assert not result.aligned
    assert {"nan" if change == "nan" else "values"} == {pair.failure for pair in result.pairs if pair.status == "fail"}


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "PaDiff's"])
def test_a_gradient_that_is_gone_is_a_difference(tmp_path: Path, ours: bool) -> None:
    leaf = record_tape(tmp_path / "tape") / "step_0" / "rank_0" if ours else PADIFF_DUMPS / "paddle_good/step_0/rank_0"
    child = 1 if ours else 2
    edits: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
        ("params.json", lambda content: content["tree"]["children"][child]["grads"].update(weight=None)),
        ("report.json", lambda content: content["tree"][0]["children"][child]["bwd_grads"].clear()),
    ]
    for number, (name, change) in enumerate(edits):
        changed = tmp_path / f"changed_{number}"
        shutil.copytree(leaf, changed)
        edit(changed / name, change)
        for pair in ((leaf, changed), (changed, leaf)):
            result = align(*map(RecordedModel, pair), {}, {}, PADIFF_RULES)
            assert not result.aligned
            assert {"missing"} == {pair.failure for pair in result.pairs if pair.status == "fail"}


# -- PaDiff's own dumps ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("turned", [False, True])
def test_padiffs_good_dumps_agree_at_every_step(turned: bool) -> None:
    paths = [PADIFF_DUMPS / "torch_good", PADIFF_DUMPS / "paddle_good"]
    pairs = walk(*(paths[::-1] if turned else paths))
    assert [0, 1, 2] == [pair.step for pair in pairs]
    for pair in pairs:
        result = align(RecordedModel(pair.folder_0), RecordedModel(pair.folder_1), {}, {}, PADIFF_RULES)
        assert result.aligned
        assert {"weights_before", "forward", "grads"} == {one.stage for one in result.pairs if one.status == "pass"}
        skipped = {one.stage: one.why for one in result.pairs if one.status == "skipped"}
        assert "dump that holds no gradients of its layers' inputs" in skipped["backward"]
        assert "does not tell its loss" in skipped["loss"]


def test_padiffs_bad_dumps_differ_first_at_step_2_in_fc1(tmp_path: Path) -> None:
    sides = [RecordedModel(PADIFF_DUMPS / name) for name in ("torch_bad", "paddle_bad")]
    result = align(sides[0], sides[1], {}, {}, AlignSettings(compare=PADIFF_RULES.compare, assign=False, steps=2))
    assert result.first_divergence is not None
    found = result.first_divergence
    # The first of the two steps that are there is step_1.
    assert (1, "forward", "fc1", "fc1") == (found.step, found.stage, found.base.route, found.raw.route)
    steps = {
        pair.step: align(*map(RecordedModel, pair[2:]), {}, {}, PADIFF_RULES).aligned
        for pair in walk(*(side.path for side in sides))
    }
    assert {1: True, 2: False} == steps


def test_padiffs_torch_dump_has_no_buffers_and_that_is_no_difference(tmp_path: Path) -> None:
    def as_batch_norm(content: dict[str, Any], statistics: bool) -> None:
        norm = content["tree"]["children"][1]
        norm.update(name="BatchNorm1D" if statistics else "BatchNorm1d")
        if statistics:
            norm["weights"].update(_mean=norm["weights"]["weight"], _variance=norm["weights"]["bias"])
            norm["grads"].update(_mean=None, _variance=None)

    leaves = []
    for framework in ("torch", "paddle"):
        leaves.append(tmp_path / framework)
        shutil.copytree(PADIFF_DUMPS / f"{framework}_good" / "step_0" / "rank_0", leaves[-1])
        edit(leaves[-1] / "params.json", lambda content, paddle=framework == "paddle": as_batch_norm(content, paddle))
    result = align(*map(RecordedModel, leaves), {}, {}, PADIFF_RULES)
    assert result.aligned
    alone = {item.name: item.why for item in result.unmatched_raw}
    assert {"norm._mean", "norm._variance"} == set(alone)
    assert "dump that does not hold buffers" in alone["norm._mean"]
