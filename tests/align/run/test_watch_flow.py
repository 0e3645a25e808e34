"""Layers that names and order leave open are paired by what flows through them; faults beside them are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.run.watch_flow import watch_flow
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result

X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)


class Unit(nn.Layer):
    """A Linear and its norm; `acts`, a ReLU as well."""

    def __init__(self, acts: bool) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self._acts = acts

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.fc(x))
        return x.relu() if self._acts else x


class Ours(nn.Layer):
    """A branch of three, and a short way beside it, defined and run last."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.ReLU())
        self.two = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.ReLU())
        self.three = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))
        self.down = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out = self.three(self.two(self.one(x)))
        return self.relu(out + self.down(x))


class Theirs(nn.Layer):
    """The same, defined and run in another order, and with other names. `late` acts once more; `crossed` takes another way."""

    def __init__(self, late: bool, crossed: bool) -> None:
        super().__init__()
        self.short = Unit(acts=False)
        self.a = Unit(acts=True)
        self.b = Unit(acts=True)
        self.c = Unit(acts=late)
        self._crossed = crossed

    def forward(self, x: Tensor) -> Tensor:
        short = self.short(x)
        out = self.c(self.b(self.a(x)))
        return (short + out + (out if self._crossed else 0.0)).relu()


class Net(nn.Layer):
    def __init__(self, blocks: list[nn.Layer]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x))


def ours() -> nn.Layer:
    return Net([Ours() for _ in range(3)])


def theirs(late: bool = False, crossed: bool = False) -> nn.Layer:
    return Net([Theirs(late and index == 1, crossed and index == 1) for index in range(3)])


def run(base: nn.Layer, raw: nn.Layer, **settings: Any) -> Result:
    inputs = as_inputs({"x": X})
    return align(HostedModel(base), HostedModel(raw), inputs, inputs, AlignSettings(**settings))


def test_layers_of_one_shape_are_paired_by_what_feeds_them() -> None:
    result = run(ours(), theirs())
    assert result.aligned
    paired = dict(result.paired_routes)
    assert ("a.fc", "b.fc", "c.fc", "short.fc") == tuple(
        paired[f"blocks.1.{name}.0"].removeprefix("blocks.1.") for name in ("one", "two", "three", "down")
    )
    assert [] == result.guessed_routes
    assert any(note.startswith("matched by what flows through them") for note in result.notes)


@pytest.mark.parametrize("fault", [{"late": True}, {"crossed": True}], ids=str)
def test_a_fault_beside_them_is_found_in_its_block(fault: dict[str, bool]) -> None:
    result = run(ours(), theirs(**fault))
    assert result.first_divergence is not None
    assert result.first_divergence.base.route.startswith("blocks.1")


def test_the_layer_map_stands_above_it() -> None:
    wrong = {"blocks.0.one.0": "blocks.0.short.fc"}
    result = run(ours(), theirs(), layer_map=wrong)
    assert not result.aligned
    assert "blocks.0.short.fc" == dict(result.paired_routes)["blocks.0.one.0"]


class Twins(nn.Layer):
    """Four Linears that take the same, each with a factor."""

    def __init__(self, *names: str, factors: tuple[float, ...] = (1.0, 2.0, 3.0, 4.0)) -> None:
        super().__init__()
        for name in names:
            setattr(self, name, nn.Linear(6, 6))
        self._names, self._factors = names, factors

    def forward(self, x: Tensor) -> Tensor:
        made = [getattr(self, name)(x) * factor for name, factor in zip(self._names, self._factors, strict=True)]
        return made[0] + made[1] + made[2] + made[3]


_GUESSED = [("left", "p"), ("right", "q"), ("up", "r"), ("down", "s")]


def test_what_flow_cannot_tell_apart_stays_a_guess_where_the_run_does_not_bear_it_out() -> None:
    wrong = Twins("p", "q", "r", "s", factors=(2.0, 1.0, 3.0, 4.0))
    result = run(Twins("left", "right", "up", "down"), wrong)
    assert not result.aligned
    assert _GUESSED[:2] == result.guessed_routes
    (note,) = [note for note in result.notes if note.startswith("to settle the layers guessed")]
    assert '[layers]\n    "left" = "p"\n    "right" = "q"' in note


def test_a_guess_whose_outputs_and_gradients_agree_is_borne_out() -> None:
    result = run(Twins("left", "right", "up", "down"), Twins("p", "q", "r", "s"))
    assert result.aligned
    assert [] == result.guessed_routes
    assert any(note.startswith("4 pairs of layers are a guess that the run bears out") for note in result.notes)


def test_without_gradients_a_guess_stays_one() -> None:
    result = run(Twins("left", "right", "up", "down"), Twins("p", "q", "r", "s"), diff_phase="forward")
    assert result.aligned
    assert _GUESSED == result.guessed_routes


def test_watching_leaves_a_model_as_it_was() -> None:
    class Counting(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm(6)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x)

    model = HostedModel(Counting())
    before = {name: digest.hash for name, digest in model.digest_parameters(["norm.running_mean"]).items()}
    passages = watch_flow(model, as_inputs({"x": X}), training=True, seed=0)
    assert [("", "input"), ("norm", "input"), ("norm", "output"), ("", "output")] == [
        (one.call[0], one.side) for one in passages
    ]
    assert before == {name: one.hash for name, one in model.digest_parameters(["norm.running_mean"]).items()}
