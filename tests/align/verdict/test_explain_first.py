"""The causes of a first divergence, from the evidence that the models give after the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.inputs_from_arrays import as_inputs
from padiff_rpc.model.losses_and_optimizers import parse_loss, parse_optimizer
from padiff_rpc.model.model import ForwardRequest, ForwardResult
from padiff_rpc.numpy_framework import functions as F
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.result import Result
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tape.write_tape import record
from padiff_rpc.tensors.tensor import collect_all
from tests.align.pairs import Elsewhere

X = as_inputs({"x": np.random.default_rng(0).normal(size=(4, 6, 16)).astype(np.float32)})


class Block(nn.Layer):
    """A residual branch; `fault` names what is wrong in its own code."""

    def __init__(self, fault: str, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16, eps)
        self.fc1 = nn.Linear(16, 32)
        self.fc2 = nn.Linear(32, 16)
        self._fault = fault

    def forward(self, x: Any) -> Any:
        hidden = F.gelu(self.fc1(self.norm(x)), "tanh" if self._fault == "tanh" else "none")
        y = self.fc2(hidden)
        if self._fault == "doubled":
            y = y + (y - y.detach())
        if self._fault == "raises":
            raise ValueError("never written")
        return x + y * (0.5 if self._fault == "half" else 1.0)


class Net(nn.Layer):
    def __init__(self, fault: str = "", eps: float = 1e-5) -> None:
        super().__init__()
        self.first = Block("")
        self.second = Block(fault, eps)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.second(self.first(x)))


def differing(raw: nn.Layer, base: nn.Layer | None = None, apart: bool = False, **settings: Any) -> Result:
    models: list[Any] = [HostedModel(base or Net()), HostedModel(raw)]
    if apart:
        models = [Elsewhere(model) for model in models]
    result = align(models[0], models[1], X, X, AlignSettings(**settings))
    assert not result.aligned
    return result


STEP = parse_optimizer("Adam(lr=0.01)")
STEPS = {"base_optimizer": STEP, "raw_optimizer": STEP}


@pytest.mark.parametrize("settings", [{}, {"single_step": True}, STEPS, {"fail_fast": True}, {"diff_phase": "forward"}])
@pytest.mark.parametrize("apart", [False, True])
def test_a_fault_in_a_layers_own_code_is_explained_in_every_kind_of_run(settings: dict[str, Any], apart: bool) -> None:
    result = differing(Net("tanh"), apart=apart, **settings)

    assert "base computes gelu, raw computes gelu by tanh" == result.causes[0].words
    assert "fc1's output.0" in result.causes[0].evidence


def test_a_backward_and_an_update_are_explained_by_the_step_run_again() -> None:
    doubled = differing(Net("doubled"))
    weights = differing(
        Net(),
        base_optimizer=parse_optimizer("AdamW(lr=0.01, weight_decay=0.5)"),
        raw_optimizer=parse_optimizer("AdamW(lr=0.01, weight_decay=0)"),
    )

    assert ("backward", "raw = 2.0000 x base, r = 1.000000") == (
        doubled.divergences[0].stage,
        doubled.causes[0].evidence,
    )
    assert ("weights", "weight decay") == (weights.divergences[0].stage, weights.causes[0].name)
    assert "which is lr x weight_decay = 0.005" in weights.causes[0].evidence


def test_hyperparameters_and_the_fit_of_the_same_layer_agree() -> None:
    names = [cause.name for cause in differing(Net(eps=0.3), single_step=True).causes]

    assert ["epsilon", "hyper-parameter"] == [name for name in names if name in ("epsilon", "hyper-parameter")]


def test_an_aligned_run_and_one_that_is_not_to_explain_run_no_forward_more() -> None:
    class Counting(HostedModel):
        forwards = 0

        def forward(self, request: ForwardRequest, observer: Any = None) -> ForwardResult:
            self.forwards += 1
            return super().forward(request, observer)

    for raw, explain, forwards in ((Net(), True, 1), (Net("tanh"), False, 1), (Net("tanh"), True, 2)):
        base = Counting(Net())
        result = align(base, HostedModel(raw), X, X, AlignSettings(explain=explain))
        assert forwards == base.forwards
        assert bool(result.causes) == (forwards == 2)


def test_a_model_that_raises_later_on_is_explained_as_well() -> None:
    raw = Net("tanh")
    raw.head = _Raising(16, 3)

    result = differing(raw)
    assert "base computes gelu, raw computes gelu by tanh" == result.causes[0].words


class _Raising(nn.Linear):
    def forward(self, x: Any) -> Any:
        raise ValueError("never written")


def test_a_failure_of_the_gathering_is_a_note_and_the_verdict_stands() -> None:
    class Tired(HostedModel):
        runs = 0

        def forward(self, request: ForwardRequest, observer: Any = None) -> ForwardResult:
            self.runs += 1
            if self.runs > 1:
                raise PadiffError("out of memory", reason=Reason.INTERNAL)
            return super().forward(request, observer)

    result = align(HostedModel(Net()), Tired(Net("tanh", eps=0.2)), X, X, AlignSettings())
    assert "second" == result.divergences[0].base.route.partition(".")[0]
    (note,) = [note for note in result.notes if note.startswith("causes were looked for without tensors")]
    assert note.endswith("out of memory")
    assert {"hyper-parameter", "configuration"} >= {cause.name for cause in result.causes}


def test_a_step_that_does_not_differ_again_proves_nothing() -> None:
    class Once(Net):
        """Wrong in its first forward only, as what depends on time or on a cache is."""

        calls = 0

        def forward(self, x: Any) -> Any:
            self.calls += 1
            return super().forward(x) * (2.0 if self.calls == 1 else 1.0)

    result = differing(Once())
    assert [] == result.causes
    assert any("differs by 0 where the run differed by 1" in note for note in result.notes)


def test_buffers_are_as_the_run_left_them() -> None:
    class Batch(nn.Layer):
        def __init__(self, gain: float = 1.0) -> None:
            super().__init__()
            self.norm = nn.BatchNorm(16)
            self.out = nn.Linear(16, 3)
            self._gain = gain

        def forward(self, x: Any) -> Any:
            return self.out(self.norm(x.reshape(24, 16)) * self._gain)

    def statistics(explain: bool) -> np.ndarray:
        base = HostedModel(Batch())
        align(base, HostedModel(Batch(2.0)), X, X, AlignSettings(training=True, explain=explain))
        names = [info.name for info in base.describe().parameters if info.kind == "buffer"]
        return np.concatenate(
            [tensor.to_array().reshape(-1) for tensor in collect_all(base.read_parameters(names)).values()]
        )

    assert (statistics(True) == statistics(False)).all()


@pytest.mark.parametrize("settings", [{}, STEPS])
def test_a_tape_is_replayed_once_more(tmp_path: Path, settings: dict[str, Any]) -> None:
    loss = AlignSettings().base_loss
    record(
        HostedModel(Net()), X, tmp_path / "tape", model_name="Net", loss=loss, optimizer=settings.get("base_optimizer")
    )
    result = align(RecordedModel(tmp_path / "tape"), HostedModel(Net("tanh")), X, X, AlignSettings(**settings))

    assert "base computes gelu, raw computes gelu by tanh" == result.causes[0].words


class Experts(nn.Layer):
    """Experts in a list, which is never called itself, each with its share at each position."""

    def __init__(self, first: int = 0) -> None:
        super().__init__()
        self.gate = nn.Linear(16, 3)
        self.experts = nn.LayerList(*(nn.Linear(16, 16) for _ in range(3)))
        self._first = first

    def forward(self, x: Any) -> Any:
        shares = F.softmax(self.gate(x), -1)
        total = x
        for at, expert in enumerate(self.experts):
            total = total + expert(x) * F.linear(
                shares, Tensor(np.eye(3, dtype=np.float32)[:, [(at + self._first) % 3]])
            )
        return total


def test_the_experts_in_a_list_are_what_their_layer_made_its_output_from() -> None:
    result = differing(Experts(first=1), Experts())

    assert "the experts are in another order: each gets the weight of another" == result.causes[0].words


def test_a_loss_is_explained_by_its_gradients_of_the_outputs() -> None:
    result = differing(Net(), base_loss=parse_loss("mean"), raw_loss=parse_loss("sum"))

    assert "loss" == result.divergences[0].stage
    assert "raw sums the loss where base takes the mean" in result.causes[0].words
    assert "which is the number of elements, 72" in result.causes[0].evidence


def test_a_norm_that_runs_later_on_one_side_is_told_by_the_order_of_calls() -> None:
    class Late(Block):
        def forward(self, x: Any) -> Any:
            return x + self.norm(self.fc2(F.gelu(self.fc1(x), "none")))

    raw = Net()
    raw.second = Late("")
    result = differing(raw)

    assert "the norm norm comes at another place" in " ".join(cause.words for cause in result.causes)
