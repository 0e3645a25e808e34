"""verify_probe: a recording that changes nothing is proved, and one that changes something is found out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from padiff_rpc.align.align import align
from padiff_rpc.align.run.verify_probe import verify_probe
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.model.hosting.hosted import HostedModel
from padiff_rpc.model.losses_and_optimizers import parse_loss
from padiff_rpc.model.model import RecordOptions
from padiff_rpc.model.recording import recorder
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.tensors.tensor import collect_all
from tests.align.pairs import hosted, inputs_of

LOSS = parse_loss("projection")
FACTORIES = ["mlp", "shared", "tuple_outputs", "conv_net", "tied", "calls", "random"]


@pytest.mark.parametrize("factory", FACTORIES)
def test_recording_changes_nothing(factory: str) -> None:
    model = hosted(factory)
    names = [info.name for info in model.describe().parameters]
    before = collect_all(model.read_parameters(names))
    finding = verify_probe(model, inputs_of(factory), loss=LOSS)
    assert (True, (), ()) == (finding.proved, finding.disturbed, finding.unsteady)
    assert finding.compared >= len(names) + 2
    assert before == collect_all(model.read_parameters(names))
    assert 0 == model.store_figures().memory_bytes


def test_sums_of_three_parts_are_added_up_in_another_order_and_that_is_told() -> None:
    """The residual path, query, key and value take one tensor: see docs/frameworks.md."""
    finding = verify_probe(hosted("bert_like"), inputs_of("bert_like"), loss=LOSS)
    assert not finding.proved
    assert {"gradient"} == {name.partition(" ")[0] for name in finding.disturbed}
    assert finding.regrouped
    assert "in another way" in finding.words()
    options = RecordOptions(inputs=False)
    assert verify_probe(hosted("bert_like"), inputs_of("bert_like"), loss=LOSS, options=options).proved


def test_a_recording_that_writes_into_what_it_records_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = recorder.Recorder._capture

    def writing(self: recorder.Recorder, name: str, tensor: Any) -> Any:
        record = capture(self, name, tensor)
        if isinstance(tensor, Tensor) and tensor.data.shape == (4, 16):
            tensor.data[0, 0] *= 1 + 1e-6
        return record

    monkeypatch.setattr(recorder.Recorder, "_capture", writing)
    finding = verify_probe(hosted("mlp"), inputs_of("mlp"), loss=LOSS)
    assert not finding.proved
    assert "gradient of head.weight" in finding.disturbed
    assert () == finding.unsteady
    assert "recording changes " in finding.words()
    inputs = inputs_of("mlp")
    result = align(hosted("mlp"), hosted("mlp", seed=1), inputs, inputs, AlignSettings(verify_probe=True))
    assert not result.aligned
    assert [side for side in ("base", "raw") if result.figures["probe"][side]["disturbed"]] == ["base", "raw"]


def test_a_model_that_does_not_repeat_itself_proves_nothing() -> None:
    class Unsteady(nn.Layer):
        def forward(self, x: Tensor) -> Tensor:
            self.calls = getattr(self, "calls", 0) + 1
            return x * float(self.calls)

    finding = verify_probe(HostedModel(nn.Sequential(nn.Linear(8, 4), Unsteady())), inputs_of("mlp"), loss=LOSS)
    assert not finding.proved
    assert {"output 0", "the loss"} <= set(finding.unsteady)
    assert "does not repeat its own step" in finding.words()


@pytest.mark.parametrize("phase", ["forward", "both"])
def test_an_alignment_says_that_it_was_proved(phase: Any) -> None:
    inputs = inputs_of("conv_net")
    settings = AlignSettings(verify_probe=True, diff_phase=phase)
    result = align(hosted("conv_net"), hosted("conv_net", seed=1), inputs, inputs, settings)
    assert result.aligned
    assert 2 == len([note for note in result.notes if "recording changes no bit" in note])


def test_after_a_recorded_step_no_hook_is_left_and_forward_is_the_classes() -> None:
    model = hosted("bert_like")
    verify_probe(model, inputs_of("bert_like"), loss=LOSS)
    for layer in model.model.walk():
        assert [] == layer._hooks
        assert "forward" not in vars(layer)
    assert np.isfinite(model.digest_parameters(["norm.weight"])["norm.weight"].norm)
