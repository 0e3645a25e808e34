"""A damaged dump is an error that names the file, whatever is wrong with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import ForwardRequest
from padiff_rpc.tape.recorded_model import RecordedModel
from tests.tape.tapes import LOSS, PADIFF_DUMPS, SGD, edit, record_tape


@pytest.fixture
def leaf(tmp_path: Path) -> Path:
    """One step of ours."""
    return record_tape(tmp_path / "tape") / "step_0" / "rank_0"


@pytest.fixture
def padiffs(tmp_path: Path) -> Path:
    """One step of PaDiff's."""
    shutil.copytree(PADIFF_DUMPS / "paddle_good" / "step_0" / "rank_0", tmp_path / "padiff")
    return tmp_path / "padiff"


def use(leaf: Path) -> None:
    """Ask for everything that a dump holds."""
    model = RecordedModel(leaf)
    names = [info.name for info in model.describe().parameters]
    for stream in model.read_parameters(names):
        stream.collect()
    model.forward(ForwardRequest({}))
    model.backward(LOSS)
    model.digest_parameters(names, "gradient")
    if (leaf / "weights.json").exists():
        model.optimizer_step(SGD)
        model.digest_parameters(names)


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def lengthen(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def shorten_header(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def other_shape(file: Path) -> None:
    np.save(file, np.load(file).reshape(-1, 1, 1))


def other_dtype(file: Path) -> None:
    np.save(file, np.load(file).astype(np.float64))


def objects(file: Path) -> None:
    np.save(file, np.array([object()]), allow_pickle=True)


def no_array(file: Path) -> None:
    file.write_text("nothing that NumPy knows")


def broken_header(file: Path) -> None:
    text = b"{'descr': '<f4', 'fortran_order': False"
    file.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)


def strange_dtype(file: Path) -> None:
    np.save(file, np.array(["text"]))


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


TENSOR_FILES = ["tensors/tensor_1.npy", "weights/weights_0.npy", "grads/grads_0.npy"]
DAMAGES = [
    Path.unlink,
    shorten,
    lengthen,
    shorten_header,
    other_shape,
    other_dtype,
    objects,
    no_array,
    broken_header,
    strange_dtype,
    a_folder,
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*TENSOR_FILES, "weights/weights_only_0.npy"])
def test_a_damaged_tensor_file_of_ours_is_named(leaf: Path, name: str, damage: Callable[[Path], object]) -> None:
    use(leaf)
    damage(leaf / name)
    with pytest.raises(PadiffError, match=name) as caught:
        use(leaf)
    assert Reason.DATA_LOSS is caught.value.reason


@pytest.mark.parametrize("damage", [each for each in DAMAGES if each is not other_shape and each is not other_dtype])
@pytest.mark.parametrize("name", TENSOR_FILES)
def test_a_damaged_tensor_file_of_padiffs_is_named(padiffs: Path, name: str, damage: Callable[[Path], object]) -> None:
    use(padiffs)
    damage(padiffs / name)
    with pytest.raises(PadiffError, match=name) as caught:
        use(padiffs)
    assert Reason.DATA_LOSS is caught.value.reason


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("tensors/tensor_1.npy", other_shape),
        ("tensors/tensor_1.npy", other_dtype),
        ("grads/grads_0.npy", other_shape),
    ],
)
def test_a_tensor_of_padiffs_that_is_not_what_its_json_says_is_named(
    padiffs: Path, name: str, damage: Callable[[Path], object]
) -> None:
    damage(padiffs / name)
    with pytest.raises(PadiffError, match=name):
        use(padiffs)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"model_name": "net"}', "\xff"])
@pytest.mark.parametrize("name", ["report.json", "params.json"])
def test_broken_json_is_named(leaf: Path, padiffs: Path, name: str, text: str) -> None:
    for folder in (leaf, padiffs):
        (folder / name).write_text(text, encoding="latin1")
        with pytest.raises(PadiffError, match=name) as caught:
            use(folder)
        assert Reason.DATA_LOSS is caught.value.reason


def test_a_missing_report_is_named(leaf: Path) -> None:
    (leaf / "report.json").unlink()
    with pytest.raises(PadiffError, match=r"report\.json' is missing"):
        use(leaf)


NODE_KEYS = ["route", "type", "fwd_outputs", "bwd_grads", "children", "metas"]


@pytest.mark.parametrize("key", NODE_KEYS)
def test_a_key_that_padiffs_report_lacks_is_named(padiffs: Path, key: str) -> None:
    edit(padiffs / "report.json", lambda content: content["tree"][0]["children"][2].pop(key))
    with pytest.raises(PadiffError, match=f"report.json' lacks the key '{key}'"):
        use(padiffs)


@pytest.mark.parametrize("key", ["route", "weights", "grads", "children", "repr", "name"])
def test_a_key_that_padiffs_parameters_lack_is_named(padiffs: Path, key: str) -> None:
    edit(padiffs / "params.json", lambda content: content["tree"]["children"][2].pop(key))
    with pytest.raises(PadiffError, match=f"params.json' lacks the key '{key}'"):
        use(padiffs)


@pytest.mark.parametrize("key", ["route", "fwd_inputs", "fwd_outputs", "bwd_grads", "bwd_output_grads", "children"])
def test_a_key_that_our_report_lacks_is_named(leaf: Path, key: str) -> None:
    edit(leaf / "report.json", lambda content: content["tree"][0]["children"][0].pop(key))
    with pytest.raises(PadiffError, match=f"report.json' lacks the key '{key}'"):
        use(leaf)


@pytest.mark.parametrize("key", ["model_name", "framework", "file_path", "layer_map", "tree"])
def test_a_key_missing_at_the_top_is_named(leaf: Path, padiffs: Path, key: str) -> None:
    for folder in (leaf, padiffs):
        edit(folder / "report.json", lambda content: content.pop(key))
        with pytest.raises(PadiffError, match=f"report.json' lacks the key '{key}'"):
            use(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda node: node.update(route="other.fc1"),
        lambda node: node.update(fwd_outputs="none"),
        lambda node: node.update(fwd_outputs=["none"]),
        lambda node: node.update(children=[3]),
        lambda node: node["fwd_outputs"][0].update(path=None),
        lambda node: node["fwd_outputs"][0]["padiff_rpc"].update(dtype="F33"),
        lambda node: node["fwd_outputs"][0]["padiff_rpc"].update(shape=[-1]),
        lambda node: node["fwd_outputs"][0]["padiff_rpc"].update(digest={}),
        lambda node: node["fwd_outputs"][0]["padiff_rpc"]["digest"].update(hash="xyz"),
        lambda node: node["padiff_rpc"].update(run=7),
        lambda node: node["padiff_rpc"].update(caller=["body"]),
        lambda node: node["padiff_rpc"]["seq"].update(output=0),
        lambda node: node["padiff_rpc"]["seq"].pop("output"),
        lambda node: node.pop("padiff_rpc"),
    ],
)
def test_nonsense_in_our_report_is_named(leaf: Path, change: Callable[[dict], object]) -> None:
    edit(leaf / "report.json", lambda content: change(content["tree"][0]["children"][0]))
    with pytest.raises(PadiffError, match=r"report\.json") as caught:
        use(leaf)
    assert Reason.DATA_LOSS is caught.value.reason


@pytest.mark.parametrize(
    "change",
    [
        lambda node: node["padiff_rpc"].pop("class_path"),
        lambda node: node["padiff_rpc"]["tensors"]["weight"].update(kind="thing"),
        lambda node: node["padiff_rpc"]["tensors"].pop("weight"),
        lambda node: node["weights"].update(weight=3),
    ],
)
def test_nonsense_in_our_parameters_is_named(leaf: Path, change: Callable[[dict], object]) -> None:
    edit(leaf / "params.json", lambda content: change(content["tree"]["children"][1]))
    with pytest.raises(PadiffError, match=r"params\.json") as caught:
        use(leaf)
    assert Reason.DATA_LOSS is caught.value.reason


@pytest.mark.parametrize("wrong", [{"passing": "thrown"}, {"required": "yes"}, {"name": None}])
def test_nonsense_about_forward_is_named(leaf: Path, wrong: dict[str, object]) -> None:
    edit(leaf / "params.json", lambda content: content["tree"]["padiff_rpc"]["forward"][0].update(wrong))
    with pytest.raises(PadiffError, match=r"params\.json") as caught:
        use(leaf)
    assert Reason.DATA_LOSS is caught.value.reason


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("tape.json", lambda file: file.write_text("{")),
        ("tape.json", lambda file: edit(file, lambda content: content.pop("steps"))),
        ("tape.json", lambda file: edit(file, lambda content: content["inputs"]["tensors"].pop("x"))),
        ("inputs/input_0.npy", Path.unlink),
        ("inputs/input_0.npy", shorten),
        ("inputs/input_0.npy", other_dtype),
    ],
)
def test_a_damaged_tape_is_named(leaf: Path, name: str, damage: Callable[[Path], object]) -> None:
    tape = leaf.parents[1]
    damage(tape / name)
    with pytest.raises(PadiffError, match=name) as caught:
        RecordedModel(tape)
    assert Reason.DATA_LOSS is caught.value.reason


def test_a_tape_that_lost_a_step_is_no_tape(tmp_path: Path) -> None:
    tape = record_tape(tmp_path / "tape", steps=3)
    shutil.rmtree(tape / "step_2")
    with pytest.raises(PadiffError, match="recorded with 3 steps and holds 2") as caught:
        RecordedModel(tape)
    assert Reason.DATA_LOSS is caught.value.reason


def test_steps_of_different_models_are_no_dump(tmp_path: Path) -> None:
    for step, factory in enumerate(["mlp", "shared"]):
        source = record_tape(tmp_path / factory, factory) / "step_0"
        shutil.copytree(source, tmp_path / "dump" / f"step_{step}")
    model = RecordedModel(tmp_path / "dump")
    for _ in range(2):
        model.forward(ForwardRequest({}))
    with pytest.raises(PadiffError, match=r"params\.json' does not hold 'head\.weight'"):
        model.digest_parameters(["head.weight"])
