"""In the offline checks a damaged dump, and what is no dump, is an error that names the file; a wrong cfg is one too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from padiff_rpc import check_grads, check_params, check_report, check_weights
from padiff_rpc.errors import PadiffError, Reason
from tests.interface import planted as plant
from tests.interface.planted import STRICT, node_of, pair, spoil_tensor
from tests.tape.tapes import edit


# -- damage -------------------------------------------------------------------------------------------------------
def _truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4])


def _other_shape(file: Path) -> None:
    np.save(file, np.load(file).reshape(-1, 1, 1))


def _other_dtype(file: Path) -> None:
    np.save(file, np.load(file).astype(np.float64))


def _objects(file: Path) -> None:
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)


DAMAGES = {
    Path.unlink: "is missing",
    _truncated: "is truncated",
    _other_shape: "the JSON file that refers to it says F32",
    _other_dtype: "the JSON file that refers to it says F32",
    _objects: "holds Python objects, which are never unpickled",
}
FILES = [
    (check_report, "report.json", "head", "fwd_outputs"),
    (check_report, "report.json", "body.fc2", "bwd_grads"),
    (check_params, "params.json", "head", "weights.weight"),
    (check_params, "params.json", "head", "grads.weight"),
    (check_weights, "weights.json", "head", "weights.weight"),
    (check_grads, "grads.json", "head", "grads.weight"),
]


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("check", "files", "route", "key"), FILES)
def test_a_damaged_tensor_is_an_error_that_names_the_file(
    tmp_path: Path, check: Any, files: str, route: str, key: str, damage: Any, side: int
) -> None:
    folders = pair(tmp_path)
    file = plant.file_of(folders[side], route, key, files)
    damage(file)
    with pytest.raises(PadiffError) as caught:
        check(*folders, STRICT)
    assert Reason.DATA_LOSS is caught.value.reason
    assert f"{str(file)!r} " in caught.value.message
    assert DAMAGES[damage] in caught.value.message


JSON_FILES = [
    (check_report, "report.json"),
    (check_params, "params.json"),
    (check_weights, "weights.json"),
    (check_grads, "grads.json"),
]


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(("check", "name"), JSON_FILES)
@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (Path.unlink, "is missing"),
        (lambda file: file.write_text(file.read_text()[:-20]), "is broken"),
        (lambda file: file.write_text("[]"), "holds a list, not an object"),
        (lambda file: edit(file, lambda content: content.pop("tree")), "lacks the key 'tree'"),
        (lambda file: edit(file, lambda content: content.pop("file_path")), "lacks the key 'file_path'"),
        (lambda file: edit(file, lambda content: node_of(content, "head").pop("children")), "lacks the key 'children'"),
        (lambda file: edit(file, lambda content: content.pop("model_name")), "lacks the key 'model_name'"),
    ],
)
def test_a_damaged_json_file_is_an_error_that_names_it(
    tmp_path: Path, check: Any, name: str, damage: Any, what: str, side: int
) -> None:
    folders = pair(tmp_path)
    damage(folders[side] / name)
    with pytest.raises(PadiffError) as caught:
        check(*folders)
    assert Reason.DATA_LOSS is caught.value.reason
    assert f"{str(folders[side] / name)!r} {what}" in caught.value.message


def test_a_weight_that_the_file_forgot_is_an_error(tmp_path: Path) -> None:
    base, raw = pair(tmp_path)
    edit(raw / "params.json", lambda content: node_of(content, "head")["weights"].pop("weight"))
    with pytest.raises(PadiffError, match=r"params\.json' does not hold 'head\.weight'"):
        check_params(base, raw)


def test_what_is_no_dump_is_an_error(tmp_path: Path) -> None:
    base, _ = pair(tmp_path)
    empty, file = tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.write_text("no dump")
    for other, what in ((empty, "is empty"), (file, "there is no folder"), (tmp_path / "none", "there is no folder")):
        for folders in ((base, other), (other, base)):
            with pytest.raises(PadiffError) as caught:
                check_report(*folders)
            assert Reason.BAD_CONFIG is caught.value.reason
            assert what in caught.value.message
            assert repr(str(other)) in caught.value.message


# -- cfg ----------------------------------------------------------------------------------------------------------
def test_the_defaults_are_padiffs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = pair(tmp_path)
    assert check_report(*folders)
    assert "Check report cfg: {'atol': 0, 'rtol': 1e-07, 'compare_mode': 'mean'}\n" in capsys.readouterr().out
    spoil_tensor(folders[1], "head", "fwd_outputs", lambda array: array * np.float32(1.001))
    assert not check_report(*folders)
    assert "Not equal to tolerance rtol=1e-07, atol=0\n" in capsys.readouterr().out


def test_a_cfg_holds_for_one_call_only(tmp_path: Path) -> None:
    base, raw = pair(tmp_path)
    spoil_tensor(raw, "body.fc2", "fwd_outputs", plant.turn)
    cfg = {"rtol": 1e9, "atol": 1e9}
    assert check_report(base, raw, cfg)
    assert {"rtol": 1e9, "atol": 1e9} == cfg
    assert not check_report(base, raw, {"compare_mode": "strict"})
    assert check_report(base, raw, {"rtol": 1e-6})


@pytest.mark.parametrize(
    ("cfg", "message", "hint"),
    [
        ({"rtoll": 1.0}, "cfg has no key 'rtoll'", "did you mean 'rtol'? there are atol, rtol, compare_mode"),
        ({"compare_mod": "mean"}, "cfg has no key 'compare_mod'", "did you mean 'compare_mode'?"),
        ({3: 1}, "cfg has no key 3", "there are atol, rtol, compare_mode"),
        ({"compare_mode": "strct"}, "no compare mode 'strct'", "did you mean 'strict'?"),
        ({"compare_mode": None}, "no compare mode None", "there are mean"),
        ({"atol": "small"}, "atol is 'small', it must be a number of 0 or more", ""),
        ({"atol": -1}, "atol is -1, it must be a number of 0 or more", ""),
        ({"rtol": float("nan")}, "rtol is nan, it must be a number of 0 or more", ""),
        (["atol"], "cfg is a dict, got list", "such as"),
    ],
)
@pytest.mark.parametrize("check", [check_report, check_params, check_weights, check_grads])
def test_a_wrong_cfg_is_an_error(tmp_path: Path, check: Any, cfg: Any, message: str, hint: str) -> None:
    folders = pair(tmp_path)
    with pytest.raises(PadiffError) as caught:
        check(*folders, cfg)
    assert Reason.BAD_CONFIG is caught.value.reason
    assert message == caught.value.message
    assert hint in (caught.value.hint or "")
