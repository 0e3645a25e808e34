"""A dump of ours and one of PaDiff's of the same model are compared with each other."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc import check_params, check_report, create_model
from padiff_rpc.model.model import ForwardRequest
from padiff_rpc.numpy_framework import nn
from padiff_rpc.numpy_framework.autograd import Tensor
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tensors.tensor import collect_all
from tests.align.pairs import models
from tests.interface import planted as plant
from tests.interface.planted import as_padiff, dump, spoil_held, spoil_tensor
from tests.tape.tapes import PADIFF_DUMPS, Listener, edit

CLOSE = {"atol": 1e-6, "rtol": 1e-5, "compare_mode": "strict"}
THEIRS = PADIFF_DUMPS / "paddle_good" / "step_0" / "rank_0"
SUM = "is a dump that holds the sum over all users of this tensor, "


class PNet(nn.Layer):
    """The model of PaDiff's dumps in NumPy, with the weights of one of them."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.emb = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.fc1 = nn.LinearIO(8, 16)
        self.act = nn.GELU()
        self.fc2 = nn.LinearIO(16, 4)
        for layer_name, layer in self.children().items():
            for name, parameter in layer.parameters().items():
                parameter.overwrite(weights[f"{layer_name}.{name}"])

    def forward(self, ids: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(self.norm(self.emb(ids)))))


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """Our dump of the run that PaDiff dumped. PaDiff keeps no inputs: the embedding's rows tell them."""
    model = RecordedModel(THEIRS)
    names = [info.name for info in model.describe().parameters]
    weights = {name: tensor.to_array() for name, tensor in collect_all(model.read_parameters(names)).items()}
    heard = Listener(model)
    model.forward(ForwardRequest({}), heard)
    rows = heard.values[0].to_array()
    ids = np.abs(rows[:, :, None] - weights["emb.weight"]).sum(-1).argmin(-1)
    proxy = create_model(PNet(weights), name="ours")
    output = proxy(Tensor(ids))
    proxy.backward((output * output).mean())
    proxy.try_dump(tmp_path / "ours")
    return tmp_path / "ours"


def test_our_dump_agrees_with_padiffs_of_the_same_run(ours: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for base, raw in ((THEIRS, ours), (ours, THEIRS)):
        assert check_report(base, raw, CLOSE)
        assert check_params(base, raw, CLOSE)
    assert SUM not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("route", "key", "stage"),
    [("fc1", "fwd_outputs", "Forward"), ("fc2", "bwd_grads", "Backward"), ("norm", "bwd_grads", "Backward")],
)
@pytest.mark.parametrize("spoilt", ["ours", "theirs"])
def test_a_planted_difference_from_padiffs_dump_is_found(
    ours: Path, tmp_path: Path, spoilt: str, route: str, key: str, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every tensor of this model has one user, so that every gradient counts."""
    theirs = Path(shutil.copytree(THEIRS, tmp_path / "theirs"))
    spoil_tensor(ours if spoilt == "ours" else theirs, route, key, plant.bump)
    if spoilt == "ours" and key == "bwd_grads":
        # A layer whose backward is wrong sends this very gradient to the layer before it.
        spoil_tensor(ours, {"fc2": "act", "norm": "emb"}[route], "bwd_output_grads", plant.bump)
    assert not check_report(theirs, ours, CLOSE)
    out = capsys.readouterr().out
    assert f"Diff found in {stage} Stage\n" in out
    assert SUM not in out
    assert f"ours.{route}\n" in out


@pytest.mark.parametrize("kind", ["weights", "grads"])
def test_a_planted_difference_from_padiffs_parameters_is_found(
    ours: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_held(ours, "fc1", kind, "weight", plant.bump)
    assert not check_params(THEIRS, ours, CLOSE)
    assert "ours.fc1.weight: 1 of 128 elements differ" in capsys.readouterr().out


@pytest.mark.parametrize("padiffs_is_base", [True, False])
@pytest.mark.parametrize(
    ("factory", "several"),
    [("mlp", 0), ("shared", 0), ("tuple_outputs", 0), ("conv_net", 1), ("bert_like", 10), ("deep", 11)],
)
def test_the_gradient_of_a_tensor_that_several_take_is_skipped_with_the_reason(
    tmp_path: Path, factory: str, several: int, padiffs_is_base: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of deep's twelve blocks adds its input to its branch, so that its norm gets a part; the first one's is the data."""
    theirs, ours = as_padiff(dump(tmp_path / "theirs", factory)), dump(tmp_path / "ours", factory)
    base, raw = (theirs, ours) if padiffs_is_base else (ours, theirs)
    assert check_report(base, raw, CLOSE)
    sides = ("base", "raw") if padiffs_is_base else ("raw", "base")
    reason = f"{sides[0]} {SUM}{sides[1]} the layer's own part; others take it too"
    assert several == sum(
        int(count) for count in re.findall(rf"skipped (\d+): {re.escape(reason)}", capsys.readouterr().out)
    )


def test_a_tensor_that_no_recorded_layer_made_is_skipped_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = []
    for name in ("theirs", "ours"):
        proxy = create_model(models()._seeded(PreNorm(), 0), name=name)
        plant.run_once(proxy, "deep")
        for write in (proxy.dump_report, proxy.dump_params):
            write(tmp_path / name)
        folders.append(tmp_path / name)
    edit(
        folders[0] / "report.json",
        lambda content: plant.node_of(content, "norm")["bwd_grads"][0].update(_whole(content)),
    )
    as_padiff(folders[0])
    assert check_report(folders[0], folders[1], CLOSE)
    assert "skipped 1: base is a dump that holds the sum" in (out := capsys.readouterr().out)
    assert "no layer that is recorded made it, so that it is not known whether others take it too" in out


@pytest.mark.parametrize("route", ["3.fc", "3", "3.act", "3.norm"])
def test_beside_shared_tensors_a_difference_is_still_found(
    tmp_path: Path, route: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sum that PaDiff holds at a norm must be the tensor's whole gradient."""
    theirs, ours = as_padiff(dump(tmp_path / "theirs", "deep")), dump(tmp_path / "ours", "deep")
    spoil_tensor(theirs, route, "bwd_grads", plant.bump)
    assert not check_report(theirs, ours, CLOSE)
    out = capsys.readouterr().out
    assert "Diff found in Backward Stage\n" in out
    assert f"ours.{route}\n" in out


def test_inputs_that_padiff_numbers_are_paired_in_their_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`merge` takes a tuple of two: 0.0 and 0.1 in our words, 0 and 1 in PaDiff's."""
    theirs, ours = (dump(tmp_path / side, "tuple_outputs") for side in ("theirs", "ours"))
    as_padiff(theirs)
    assert check_report(theirs, ours, CLOSE)
    spoil_tensor(theirs, "merge", "bwd_grads", plant.bump, index=1)
    assert not check_report(theirs, ours, CLOSE)
    assert "    Tensor: grad of input." in (out := capsys.readouterr().out)
    assert "ours.merge\n" in out


def test_gradients_of_inputs_passed_by_name_which_padiff_has_not_are_skipped_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, ours = as_padiff(dump(tmp_path / "theirs", "bert_like")), dump(tmp_path / "ours", "bert_like")
    assert check_report(theirs, ours, CLOSE)
    assert "base is a dump of PaDiff's, which records none of inputs that are passed by name" in capsys.readouterr().out


def test_between_two_dumps_of_one_tool_no_gradient_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, raw = (as_padiff(dump(tmp_path / side, "deep")) for side in ("base", "raw"))
    assert check_report(base, raw, CLOSE)
    spoil_tensor(raw, "3.norm", "bwd_grads", plant.bump)
    assert not check_report(base, raw, CLOSE)
    assert SUM not in capsys.readouterr().out


class PreNorm(nn.Layer):
    """Its own code makes the tensor that its norm takes, and takes that tensor too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.fc2 = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x + self.fc1(x)
        return hidden + self.fc2(self.norm(hidden))


def _whole(content: dict[str, Any]) -> dict[str, Any]:
    """What comes back to fc1 is the whole gradient of what its output was added to."""
    return plant.node_of(content, "fc1")["bwd_output_grads"][0]
