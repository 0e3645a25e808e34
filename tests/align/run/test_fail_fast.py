"""fail_fast: the models are stopped, and the divergence that is named is that of the full run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.run.fail_fast import PhaseStop
from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.losses_and_optimizers import parse_loss, parse_optimizer
from padiff_rpc.model.model import (
    BackwardResult,
    Boundary,
    ForwardRequest,
    ForwardResult,
    LossSpec,
    Model,
    Observer,
)
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.remote.connect import connect
from padiff_rpc.result import Result
from tests.align.pairs import Elsewhere, hosted, inputs_of
from tests.servers.harness import DEADLINE_S, serving

SGD = parse_optimizer("SGD(lr=0.1)")


class Branch(nn.Layer):
    """fc, then tanh. bug: "value" has another factor; "backward" doubles what it sends back, "detach" sends nothing back;
    "spare" (none, really) does not call its last layer through its forward."""

    def __init__(self, bug: str) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.act = nn.Tanh()
        self._bug = bug

    def forward(self, x: Tensor) -> Tensor:
        if self._bug == "backward":
            x = x * 2.0 - x.detach()
        x = self.fc(x.detach() if self._bug == "detach" else x)
        x = x.tanh() if self._bug == "spare" else self.act(x)
        return x * 1.5 if self._bug == "value" else x


class Block(nn.Layer):
    """Two residual branches that do not see each other; `turned`: the second runs before the first, which is no bug."""

    def __init__(self, bug: str, turned: bool) -> None:
        super().__init__()
        self.first = Branch(bug)
        self.second = Branch("")
        self._turned = turned

    def forward(self, x: Tensor) -> Tensor:
        if self._turned:
            second = self.second(x)
            return x + self.first(x) + second
        return x + self.first(x) + self.second(x)


def net(depth: int, bugs: dict[int, str] | None = None, turned: bool = False) -> nn.Layer:
    bugs = bugs or {}
    model = nn.Sequential(*(Block(bugs.get(index, ""), turned) for index in range(depth)))
    generator = np.random.RandomState(0)
    for layer in model.walk():
        for parameter in layer.parameters().values():
            parameter.data[...] = generator.uniform(-0.3, 0.3, parameter.shape)
    return model


class Held:
    """A model that counts the boundaries at which it was, and waits half-way through the phase `held` for `go_on`."""

    def __init__(self, model: HostedModel, half: int, held: str, go_on: threading.Event) -> None:
        self._model = model
        self._half = half
        self.passed = {"forward": 0, "backward": 0}
        self.held = held
        self.go_on = go_on

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def forward(self, request: ForwardRequest, observer: Observer) -> ForwardResult:
        return self._model.forward(request, self._counting(observer))

    def backward(self, loss: LossSpec, observer: Observer) -> BackwardResult:
        return self._model.backward(loss, self._counting(observer))

    def _counting(self, observer: Observer) -> Observer:
        held = self

        class Each:
            def observe(self, boundary: Boundary) -> None:
                held.passed[boundary.phase] += 1
                if boundary.phase == held.held and held.passed[boundary.phase] == held._half:
                    assert held.go_on.wait(DEADLINE_S)
                observer.observe(boundary)

            def substitute(self, boundary: Boundary) -> Any:
                return observer.substitute(boundary)

        return Each()


@pytest.fixture
def served() -> Iterator[Any]:
    """Return a function: a model -> the same behind a worker, as if in another process."""
    with ExitStack() as stack:

        def serve(model: Any) -> Model:
            return stack.enter_context(connect(stack.enter_context(serving(Elsewhere(model))).address))

        yield serve


VECTORS = as_inputs({"x": np.random.RandomState(1).standard_normal((4, 8)).astype(np.float32)})


def both(base: Model, raw: Model, inputs: Any = VECTORS, **settings: Any) -> tuple[Result, Result]:
    """Align in full and with fail_fast; what was recorded, and where weights were assigned, is the same for both."""
    asked = AlignSettings(**settings)
    full = align(base, raw, inputs, inputs, asked)
    return full, align(base, raw, inputs, inputs, replace(asked, fail_fast=True))


def assert_same_divergence(full: Result, fast: Result) -> None:
    assert full.first_divergence is not None
    assert [full.first_divergence] == fast.divergences
    assert not fast.aligned
    found = full.pairs[: full.pairs.index(full.first_divergence.found_at) + 1]
    assert [pair for pair in found if pair.status == "pass"] == [
        pair for pair in fast.pairs[: fast.pairs.index(full.first_divergence.found_at)] if pair.status == "pass"
    ]
    assert ["stopped at the first divergence"] == [note[:31] for note in fast.notes if "fail_fast" in note]
    stage = full.first_divergence.stage
    assert ("backward" if stage == "loss" else stage) == fast.figures["stopped_at"]["stage"]


@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
@pytest.mark.parametrize("turned", [False, True], ids=["in order", "turned"])
@pytest.mark.parametrize(
    "bugs",
    [
        {0: "value"},
        {7: "value"},
        {15: "value", 3: "value"},
        {5: "backward"},
        {15: "backward"},
        {9: "spare", 10: "value"},
    ],
    ids=str,
)
def test_the_divergence_is_that_of_the_full_run(
    served: Any, bugs: dict[int, str], turned: bool, single_step: bool
) -> None:
    pair = served(HostedModel(net(16))), served(HostedModel(net(16, bugs, turned)))
    assert_same_divergence(*both(*pair, single_step=single_step))


@pytest.mark.parametrize(("base", "raw"), [({}, {6: "detach"}), ({6: "detach"}, {})], ids=["in raw", "in base"])
@pytest.mark.parametrize("further", [{}, {2: "backward"}, {10: "backward"}], ids=str)
def test_a_gradient_that_only_one_side_has_is_the_first_as_in_the_full_run(
    served: Any, base: dict[int, str], raw: dict[int, str], further: dict[int, str]
) -> None:
    pair = served(HostedModel(net(12, base))), served(HostedModel(net(12, {**further, **raw})))
    assert_same_divergence(*both(*pair))


@pytest.mark.parametrize(
    ("factory", "raw_args", "settings", "stage"),
    [
        ("bert_like", {"eps_at": 1}, {}, "forward"),
        ("bert_like", {"no_scale_at": 1}, {"single_step": True}, "forward"),
        ("bert_like", {"permuted_batch": True}, {}, "forward"),
        ("bert_like", {"nan_output": True}, {}, "forward"),
        ("calls", {"gate": "gelu"}, {"api_calls": True}, "forward"),
        ("calls", {"gate": "factor"}, {"api_calls": True}, "forward"),
        ("tuple_outputs", {"scale": 1.25}, {}, "forward"),
        ("mlp", {"seed": 1}, {"assign": False}, "weights_before"),
        ("mlp", {}, {"raw_loss": parse_loss("sum")}, "loss"),
        ("mlp", {}, {"base_optimizer": SGD, "raw_optimizer": parse_optimizer("SGD(lr=0.2)"), "steps": 3}, "weights"),
        ("conv_net", {"momentum": 0.9}, {"steps": 3}, "buffers"),
    ],
)
@pytest.mark.parametrize("place", ["served", "in this process"])
def test_every_stage_stops_where_the_full_run_diverges_first(
    served: Any, factory: str, raw_args: dict[str, Any], settings: dict[str, Any], stage: str, place: str
) -> None:
    host = served if place == "served" else lambda model: model
    full, fast = (
        align(
            host(hosted(factory)),  # anew for each run, for optimisers change base
            host(hosted(factory, **raw_args)),
            inputs_of(factory),
            inputs_of(factory),
            AlignSettings(**settings, fail_fast=fail_fast),
        )
        for fail_fast in (False, True)
    )
    assert_same_divergence(full, fast)
    assert stage == fast.divergences[0].stage
    assert {0} == {one.step for one in fast.pairs}


def test_a_parameters_gradient_alone_stops_after_the_backward(served: Any) -> None:
    class Doubling(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight * 2.0 - self.weight.detach()
            return (x @ weight.transpose(1, 0)) + self.bias

    wrong = net(4)
    wrong.children()["2"].first.fc = Doubling(8, 8)
    full, fast = both(served(HostedModel(net(4))), served(HostedModel(wrong)))
    assert_same_divergence(full, fast)
    assert ("grads", "2.first.fc") == (fast.divergences[0].stage, fast.divergences[0].raw.route)
    assert [] == [one for one in fast.pairs if one.stage in ("weights", "buffers")]


@pytest.mark.parametrize("single_step", [False, True], ids=["free", "single-step"])
@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_the_models_are_stopped_and_can_be_used_again(
    served: Any, monkeypatch: pytest.MonkeyPatch, phase: str, single_step: bool
) -> None:
    depth = 60
    whole = 2 * (7 * depth + 1)
    bugs = {5: "value"} if phase == "forward" else {depth - 5: "backward"}
    decided = threading.Event()
    judged = PhaseStop.judged

    def deciding(self: PhaseStop, one: Judged) -> None:
        judged(self, one)
        if self.stopped:
            decided.set()

    monkeypatch.setattr(PhaseStop, "judged", deciding)
    held = [Held(HostedModel(model), whole // 2, phase, decided) for model in (net(depth), net(depth, bugs))]
    base, raw = (served(side) for side in held)
    fast = align(base, raw, VECTORS, VECTORS, AlignSettings(fail_fast=True, single_step=single_step))
    assert {"step": 0, "stage": phase, "midway": True, "raised": ""} == fast.figures["stopped_at"]
    assert f"not compared: the rest of the {phase}" in fast.notes[-1]
    for side in held:
        assert side.passed[phase] < whole
        assert 0 == side.store_figures().memory_bytes
        side.held = ""
    healthy = served(HostedModel(net(depth)))
    assert align(base, healthy, VECTORS, VECTORS, AlignSettings()).aligned
    assert align(healthy, base, VECTORS, VECTORS, AlignSettings(single_step=True, fail_fast=True)).aligned


def test_without_a_divergence_nothing_is_left_out(served: Any) -> None:
    full, fast = both(served(hosted("bert_like")), served(hosted("bert_like", seed=1)), inputs_of("bert_like"))
    assert full.pairs == fast.pairs
    assert fast.aligned
    assert "stopped_at" not in fast.figures
    assert full.notes == fast.notes


def test_a_model_that_fails_after_a_difference_is_told_beside_it(served: Any) -> None:
    class Failing(nn.Layer):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("its own")

    wrong = nn.Sequential(net(3, {0: "value"}), Failing())
    right = nn.Sequential(net(3), nn.Tanh())
    result = align(served(HostedModel(right)), served(HostedModel(wrong)), VECTORS, VECTORS, AlignSettings())
    assert result.first_divergence is not None
    assert any(note.startswith("raw: the forward of layer '1'") and "its own" in note for note in result.notes)
