"""Our dumps hold every key of PaDiff 0.3's, with the same meaning and types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc.model.model import ForwardRequest
from padiff_rpc.tape.recorded_model import RecordedModel
from padiff_rpc.tape.write_tape import record
from tests.align.pairs import hosted, inputs_of
from tests.tape.tapes import LOSS, PADIFF_DUMPS, edit, record_tape

LEAF = Path("step_0") / "rank_0"


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def shape_of(padiff: Any, where: str) -> list[tuple[str, str]]:
    """List (place, type) of every key; all nodes of a tree are one place."""
    if isinstance(padiff, dict):
        found = [(where, "dict")]
        for key, value in padiff.items():
            place = where if key == "children" else f"{where}.{'*' if where.endswith(('weights', 'grads')) else key}"
            found += shape_of(value, place)
        return found
    if isinstance(padiff, list):
        return [(f"{where}[]", "list"), *(entry for item in padiff for entry in shape_of(item, where))]
    return [(where, type(padiff).__name__)]


@pytest.mark.parametrize("name", ["report.json", "params.json"])
@pytest.mark.parametrize("framework", ["torch", "paddle"])
def test_every_key_of_padiffs_is_in_ours_with_its_type(tmp_path: Path, framework: str, name: str) -> None:
    padiffs = set(shape_of(load(PADIFF_DUMPS / f"{framework}_good" / LEAF / name), ""))
    ours = set(shape_of(load(record_tape(tmp_path / "tape", "bert_like") / LEAF / name), ""))
    assert set() == padiffs - ours
    assert len(padiffs) > 10


def test_the_files_lie_where_padiff_puts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    leaf = record_tape(Path("dumps/net"), "conv_net") / LEAF
    kinds = {"tensors", "weights", "grads", "buffers", "report.json", "params.json", "weights.json"}
    assert kinds == {path.name for path in leaf.iterdir()}
    report, params = load(leaf / "report.json"), load(leaf / "params.json")
    assert "dumps/net/step_0/rank_0/report.json" == report["file_path"]
    assert "dumps/net/step_0/rank_0/tensors/tensor_0.npy" == report["tree"][0]["fwd_inputs"][0]["path"]
    conv = params["tree"]["children"][0]
    assert "dumps/net/step_0/rank_0/weights/weights_0.npy" == conv["weights"]["weight"]
    assert (6, 3, 3, 3) == np.load(conv["weights"]["weight"]).shape


def test_nodes_say_of_layers_what_padiff_says(tmp_path: Path) -> None:
    params = load(record_tape(tmp_path / "tape", "mlp") / LEAF / "params.json")["tree"]
    body, head = params["children"]
    assert ("Mlp", "net", True, {}) == (params["name"], params["route"], params["available"], params["weights"])
    assert ("net.body", False) == (body["route"], body["available"])  # holds no parameter itself
    assert ["net.body.fc1", "net.body.act", "net.body.fc2"] == [child["route"] for child in body["children"]]
    assert [True, False, True] == [child["available"] for child in body["children"]]
    assert "Linear(in_features=16, out_features=4" in head["repr"]
    assert ["weight", "bias"] == list(head["weights"])


def test_a_parameter_without_gradient_has_null(tmp_path: Path) -> None:
    params = load(record_tape(tmp_path / "tape", backward=False, optimizer=None) / LEAF / "params.json")["tree"]
    assert {"weight": None, "bias": None} == params["children"][1]["grads"]


def test_gradients_of_inputs_stand_in_the_order_of_inputs(tmp_path: Path) -> None:
    report = load(record_tape(tmp_path / "tape", "tuple_outputs") / LEAF / "report.json")["tree"][0]
    split, merge, head = report["children"]
    names = [entry["padiff_rpc"]["name"] for entry in merge["fwd_inputs"]]
    assert names == [entry["padiff_rpc"]["name"] for entry in merge["bwd_grads"]]
    assert ["0.0", "0.1"] == names
    assert ["net.split", "net.merge", "net.head"] == [node["route"] for node in (split, merge, head)]


def test_calls_are_numbered_as_they_end(tmp_path: Path) -> None:
    root = load(record_tape(tmp_path / "tape", "mlp") / LEAF / "report.json")["tree"][0]
    body, head = root["children"]
    steps = [child["metas"]["fwd_step"] for child in body["children"]]
    assert [0, 2, 4, 6, 8, 10] == [*steps, *(node["metas"]["fwd_step"] for node in (body, head, root))]
    assert [0, 1, 5] == [node["metas"]["net_id"] for node in (root, body, head)]


def test_a_layer_registered_twice_stands_at_both_places(tmp_path: Path) -> None:
    tree = load(record_tape(tmp_path / "tape", "tied") / LEAF / "params.json")["tree"]
    table, _, projection = tree["children"]
    assert table["weights"]["weight"] == projection["weights"]["weight"]
    assert table["grads"]["weight"] == projection["grads"]["weight"]


def test_a_dump_is_read_wherever_it_was_moved_to_and_from_no_other_place(tmp_path: Path) -> None:
    """The place where it was written may hold another dump by now."""
    record_tape(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    record_tape(tmp_path / "old", model_args={"seed": 5})
    moved, fresh = RecordedModel(tmp_path / "new"), hosted("mlp")
    name = "head.weight"
    assert fresh.digest_parameters([name]) == moved.digest_parameters([name])
    outputs = [model.forward(ForwardRequest(inputs_of("mlp"), seed=0)).outputs[0].digest for model in (moved, fresh)]
    assert outputs[0] == outputs[1]


def test_what_was_changed_by_hand_is_what_counts(tmp_path: Path) -> None:
    """A digest in the JSON must not hide what the file holds by now."""
    leaf = record_tape(tmp_path / "tape") / LEAF
    entry = load(leaf / "report.json")["tree"][0]["fwd_outputs"][0]
    np.save(entry["path"], np.load(entry["path"])[::-1])
    output = RecordedModel(leaf).forward(ForwardRequest({})).outputs[0]
    assert entry["padiff_rpc"]["digest"]["hash"] != output.digest.hash.hex()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    leaf = record_tape(tmp_path / "tape") / LEAF
    edit(leaf / "report.json", lambda content: content["padiff_rpc"].update(format=99))
    with pytest.raises(Exception, match="upgrade padiff-rpc"):
        RecordedModel(leaf).forward(ForwardRequest({}))


def test_a_failed_recording_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="does not take the inputs"):
        record(hosted("mlp"), {"y": 1, "z": 2}, tmp_path / "tape", model_name="net", loss=LOSS)
    assert [] == list(tmp_path.iterdir())
