"""The mutations, on the NumPy framework: each changes what it says, the oracle knows the effect, and what is missed is told."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks.mutations import __main__ as program
from benchmarks.mutations import trial as trial_module
from benchmarks.mutations.changes import INTEGER_CHANGES, PARAMETER_CHANGES, VALUE_CHANGES
from benchmarks.mutations.frameworks import framework_of
from benchmarks.mutations.mutated import build_counted
from benchmarks.mutations.mutation import Mutation
from benchmarks.mutations.oracle import effect, noise_of, observe
from benchmarks.mutations.pairs import ROOT, MutatedPair, Side
from benchmarks.mutations.report import report
from benchmarks.mutations.trial import Trial, UnhealthyPair, place_of, try_pair
from padiff_rpc.align.align import align
from padiff_rpc.model.hosting.hosted import HostedModel
from tests.align.pairs import INPUTS, models

MODELS = ROOT / "tests" / "models" / "numpy_models.py"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def pair_of(factory: str, base: dict[str, Any] | None = None, raw: dict[str, Any] | None = None) -> MutatedPair:
    place, inputs = f"{MODELS}:{factory}", getattr(models(), INPUTS[factory])()
    return MutatedPair(
        factory, Side("numpy", place, base or {}), Side("numpy", place, {"seed": 1, **(raw or {})}), inputs
    )


def tried(pair: MutatedPair, count: int, seed: int = 0) -> list[Trial]:
    base = HostedModel.from_spec(pair.base.spec, model_args=pair.base.model_args)
    return list(try_pair(pair, base, count, seed))


@pytest.mark.parametrize("factory", ["bert_like", "conv_net"])
def test_mutations_with_an_effect_are_called_different(factory: str) -> None:
    trials = tried(pair_of(factory), 12)
    assert 12 == len({repr(trial.mutation) for trial in trials})
    assert {"differs"} == {trial.verdict for trial in trials if trial.effect}
    assert sum(trial.effect for trial in trials) >= 8


def test_a_seed_draws_the_same_mutations_again_and_another_seed_others() -> None:
    one, again, other = ([trial.mutation for trial in tried(pair_of("mlp"), 4, seed)] for seed in (3, 3, 4))
    assert one == again
    assert one != other


def test_a_verdict_of_aligned_on_all_is_told_as_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(*arguments: Any) -> Any:
        return replace(align(*arguments), aligned=True, divergences=[])

    monkeypatch.setattr(trial_module, "align", blind)
    pair = pair_of("mlp")
    trials = tried(pair, 6)
    missed = [trial for trial in trials if trial.missed]
    assert missed == [trial for trial in trials if trial.effect and trial.verdict != "refused"]
    assert missed
    text = io.StringIO()
    report(trials, {pair.name: pair}, Console(file=text, width=200))
    assert f"CALLED ALIGNED THOUGH SOMETHING CHANGED: {len(missed)}" in text.getvalue()
    assert len(missed) == text.getvalue().count("padiff-rpc diff --inputs mlp.npz")


def test_a_pair_that_differs_as_it_is_is_refused() -> None:
    with pytest.raises(UnhealthyPair, match="mlp is not aligned as it is: forward 'body'"):
        tried(pair_of("mlp", raw={"scale": 1.25}), 1)


@pytest.mark.parametrize(
    ("mutation", "outputs", "gradients"),
    [
        (Mutation("parameter", "scaled by 1.01", "body.fc1", {"parameter": "weight"}), True, True),
        (Mutation("parameter", "gradient cut", "body.fc1", {"parameter": "weight"}), False, True),
        (Mutation("value", "gradient scaled by 0.9", "body.fc1", {"of": "output", "tensor": 0}), False, True),
        (Mutation("call", "scaled by 1.01", "body", {"call": "mul", "number": 0}), True, True),
        (Mutation("setting", "another name", "body.fc1", {"setting": "in_features", "to": 99}), False, False),
    ],
)
def test_the_oracle_tells_outputs_from_gradients(mutation: Mutation, outputs: bool, gradients: bool) -> None:
    side, arrays, fw = pair_of("mlp").raw, pair_of("mlp").inputs, framework_of("numpy")

    def build() -> Any:
        return HostedModel.from_spec(side.spec, model_args=side.model_args).model

    state = fw.state(build())
    model, fired = build_counted(side.framework, side.place, dict(side.model_args), vars(mutation))
    fw.load(model, state)
    found = effect(noise_of(fw, build, state, arrays), observe(fw, model, arrays))
    assert fired.times == 1
    assert (outputs, gradients) == (found.outputs > 1e-4, found.gradients > 1e-4)


def test_running_statistics_are_an_effect() -> None:
    side, arrays, fw = pair_of("conv_net").raw, pair_of("conv_net").inputs, framework_of("numpy")

    def build(**more: Any) -> Any:
        return HostedModel.from_spec(side.spec, model_args={**side.model_args, **more}).model

    found = effect(noise_of(fw, build, fw.state(build()), arrays), observe(fw, build(momentum=0.2), arrays))
    assert (0.0, 0.0) == (found.outputs, found.gradients)
    assert found.buffers > 1e-4
    assert found.there


@pytest.mark.parametrize("table", [PARAMETER_CHANGES, VALUE_CHANGES, INTEGER_CHANGES])
def test_a_change_keeps_the_shape(table: Any) -> None:
    fw = framework_of("numpy")
    for shape in ((4,), (4, 4), (4, 8), (4, 4, 4), (2, 4, 3, 3)):
        tensor = fw.leaf(np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1)
        for name, (fits, change) in table.items():
            if fits(shape):
                assert shape == tuple(change(fw, tensor).shape), name


def test_the_named_layer_is_exact_near_or_elsewhere() -> None:
    routes = ("blocks.0.attention", "blocks.0", "blocks.0.attention.query", "blocks.0.mlp", "blocks.1", "")
    expected = ["exact", "near", "near", "near", "elsewhere", "elsewhere"]
    assert expected == [place_of(route, {"blocks.0.attention"}) for route in routes]
    assert "near" == place_of("", {"head"})


@pytest.mark.parametrize(("aligned", "status"), [(True, 1), (False, 0)])
def test_the_exit_status_tells_whether_one_was_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, aligned: bool, status: int
) -> None:
    (trial,) = tried(pair_of("mlp"), 1)

    def one(pair: MutatedPair, *_: Any) -> Iterator[Trial]:
        yield replace(trial, pair=pair.name, effect=True, verdict="aligned" if aligned else "differs")

    monkeypatch.setattr(program, "RESULTS", tmp_path)
    monkeypatch.setattr(program, "_tried", one)
    done = CliRunner().invoke(program.main, ["--count", "1", "--pair", "gpt"])
    assert status == done.exit_code, done.output
    assert "1 mutations, 1 with an effect" in done.output
