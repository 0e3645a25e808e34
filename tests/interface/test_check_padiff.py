"""The offline checks of dumps that PaDiff 0.3 itself wrote: its healthy and its bad pair, and faults planted into copies."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest

from padiff_rpc import check_params, check_report
from padiff_rpc.errors import PadiffError, Reason
from tests.interface import planted as plant
from tests.interface.planted import STRICT, node_of, padiffs, spoil_held, spoil_tensor
from tests.tape.tapes import PADIFF_DUMPS, edit

LOG = Path("padiff_log")


def leaves(quality: str, step: int) -> tuple[Path, Path]:
    torch, paddle = (
        PADIFF_DUMPS / f"{framework}_{quality}" / f"step_{step}" / "rank_0" for framework in ("torch", "paddle")
    )
    return torch, paddle


@pytest.mark.parametrize("step", [0, 1, 2])
def test_the_good_pair_agrees_at_each_step(step: int) -> None:
    assert check_report(*leaves("good", step), STRICT)
    assert check_params(*leaves("good", step), STRICT)


@pytest.mark.parametrize(("step", "expected"), [(1, True), (2, False)])
def test_the_bad_pair_differs_from_step_2_on(step: int, expected: bool) -> None:
    assert expected == check_report(*leaves("bad", step), STRICT)
    assert expected == check_params(*leaves("bad", step), STRICT)


def test_the_layer_of_the_bad_pair_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert not check_report(*leaves("bad", 2), STRICT)
    out = capsys.readouterr().out
    assert "[AutoDiff]     Diff found in Forward Stage\n" in out
    assert "[AutoDiff]     Type of layer is: Linear vs Linear\n" in out
    assert "[AutoDiff]     Route: torch_bad.fc1\n[AutoDiff]            paddle_bad.fc1\n" in out
    assert "Max absolute difference: 0.05" in out
    for side in ("torch", "paddle"):
        tree = (LOG / f"report_{side}_bad.log").read_text().splitlines()
        assert ["Linear    <---  *** HERE ***"] == [line.strip(" |+-") for line in tree if "HERE" in line]


def test_the_weight_of_the_bad_pair_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert not check_params(*leaves("bad", 2), STRICT)
    assert "torch_bad.fc1.bias and paddle_bad.fc1.bias: 16 of 16 elements differ" in capsys.readouterr().out
    assert "    paddle_bad.fc1.bias\n" in (LOG / "weights_diff.log").read_text()


@pytest.mark.parametrize("check", [check_report, check_params])
def test_asked_with_the_models_folder_every_step_is_compared(check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """PaDiff looks at the first step alone, and says True."""
    assert not check(PADIFF_DUMPS / "torch_bad", PADIFF_DUMPS / "paddle_bad", STRICT)
    out = capsys.readouterr().out
    assert ["step 1, rank 0: agrees", "step 2, rank 0: DIFFERS"] == [
        line.removeprefix("[AutoDiff] ") for line in out.splitlines() if line.startswith("[AutoDiff] step")
    ]
    assert check(PADIFF_DUMPS / "torch_good", PADIFF_DUMPS / "paddle_good", STRICT)


def test_gradients_that_padiff_records_in_paddle_alone_are_said_to_be_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check_report(*leaves("good", 0), STRICT)
    assert "NOTE: a side's dump holds no gradients of layers (PaDiff records none in torch)" in capsys.readouterr().out


def test_two_dumps_of_paddle_are_compared_by_their_gradients_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, raw = padiffs(tmp_path)
    assert check_report(base, raw, STRICT)
    spoil_tensor(raw, "fc2", "bwd_grads", plant.bump)
    assert not check_report(base, raw, STRICT)
    out = capsys.readouterr().out
    assert "Diff found in Backward Stage" in out
    assert "paddle_good.fc2\n" in out


REPORT_FAULTS: dict[str, tuple[Any, str]] = {
    "value": (
        lambda leaf: spoil_tensor(leaf, "fc1", "fwd_outputs", plant.bump),
        "its inputs agree, its output does not",
    ),
    "shape": (lambda leaf: spoil_tensor(leaf, "fc1", "fwd_outputs", plant.reshaped), "shapes differ"),
    "dtype": (lambda leaf: spoil_tensor(leaf, "fc1", "fwd_outputs", plant.doubled_precision), "element types differ"),
    "NaN": (lambda leaf: spoil_tensor(leaf, "fc1", "fwd_outputs", plant.with_nan), "NaN in raw"),
    "Inf": (lambda leaf: spoil_tensor(leaf, "fc1", "fwd_outputs", plant.with_inf), "0 Inf in base, 1 in raw"),
    "permuted": (
        lambda leaf: spoil_tensor(leaf, "fc1", "fwd_outputs", plant.turn),
        "its inputs agree, its output does not",
    ),
    "missing gradient": (
        lambda leaf: edit(leaf / "report.json", lambda content: node_of(content, "fc1")["bwd_grads"].clear()),
        "only base has this gradient",
    ),
    "missing output": (
        lambda leaf: edit(leaf / "report.json", lambda content: node_of(content, "fc1")["fwd_outputs"].clear()),
        "base's layer returns 1 tensor, raw's 0 tensors",
    ),
    "missing layer": (
        lambda leaf: edit(leaf / "report.json", lambda content: content["tree"][0]["children"].pop(2)),
        "base calls it once, raw never",
    ),
    "extra layer": (
        lambda leaf: edit(leaf / "report.json", lambda content: _add(content, "paddle_good.fc3")),
        "only raw has the layer 'fc3'",
    ),
    "another call": (
        lambda leaf: edit(leaf / "report.json", lambda content: _add(content, "paddle_good.fc1")),
        "base calls it once, raw twice",
    ),
    "missing backward": (
        lambda leaf: edit(
            leaf / "report.json", lambda content: [node["bwd_grads"].clear() for node in content["tree"][0]["children"]]
        ),
        "base's dump holds a backward, raw's none",
    ),
    "another forward": (
        lambda leaf: edit(leaf / "report.json", lambda content: content["tree"].append(content["tree"][0])),
        "base's dump holds 1 forward, raw's 2 forwards",
    ),
}


@pytest.mark.parametrize("fault", REPORT_FAULTS)
def test_a_planted_difference_is_found_and_named(
    tmp_path: Path, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, raw = padiffs(tmp_path)
    put, why = REPORT_FAULTS[fault]
    put(raw)
    assert not check_report(base, raw, STRICT)
    out = capsys.readouterr().out
    assert "FAILED !!!" in out
    assert why in out


@pytest.mark.parametrize("framework", ["torch", "paddle"])
@pytest.mark.parametrize(
    ("kind", "change", "why"),
    [
        ("weights", plant.bump, "1 of 128 elements differ"),
        ("grads", plant.bump, "1 of 128 elements differ"),
        ("weights", plant.doubled_precision, "element types differ: F32 in base, F64 in raw"),
        ("weights", plant.with_nan, "NaN in raw"),
        ("weights", plant.turn, "128 of 128 elements differ"),
    ],
)
def test_a_planted_difference_in_what_is_held_is_found_and_named(
    tmp_path: Path, framework: str, kind: str, change: Any, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    base, raw = padiffs(tmp_path, framework)
    assert check_params(base, raw, STRICT)
    spoil_held(raw, "fc1", kind, "weight", change)
    assert not check_params(base, raw, STRICT)
    assert f"{framework}_good.fc1.weight: {why}" in capsys.readouterr().out


def test_a_gradient_that_one_side_lacks_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, raw = padiffs(tmp_path)
    edit(raw / "params.json", lambda content: node_of(content, "fc1")["grads"].update(weight=None))
    assert not check_params(base, raw, STRICT)
    assert "no gradient for fc1.weight in raw, though the other side has one" in capsys.readouterr().out


def test_a_weight_that_one_side_lacks_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, raw = padiffs(tmp_path)
    for kind in ("weights", "grads"):
        edit(raw / "params.json", lambda content, kind=kind: node_of(content, "fc1")[kind].pop("bias"))
    assert not check_params(base, raw, STRICT)
    assert "parameter 'fc1.bias' of base_model has no counterpart" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("check", "files", "key"),
    [(check_report, "report.json", "fwd_outputs"), (check_params, "params.json", "weights.weight")],
)
@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:-4])])
def test_a_damaged_tensor_is_an_error_that_names_the_file(
    tmp_path: Path, check: Any, files: str, key: str, damage: Any
) -> None:
    base, raw = padiffs(tmp_path)
    file = plant.file_of(raw, "fc1", key, files)
    damage(file)
    with pytest.raises(PadiffError) as caught:
        check(base, raw, STRICT)
    assert Reason.DATA_LOSS is caught.value.reason
    assert repr(str(file)) in caught.value.message


def test_a_missing_report_is_an_error_and_parameters_do_not_need_it(tmp_path: Path) -> None:
    base, raw = padiffs(tmp_path)
    (raw / "report.json").unlink()
    with pytest.raises(PadiffError, match=r"report\.json' is missing"):
        check_report(base, raw)
    assert check_params(base, raw)


def test_running_statistics_that_padiff_keeps_in_paddle_alone_are_no_difference(tmp_path: Path) -> None:
    """PaDiff dumps what a framework lists as parameters: paddle's running statistics are among them, torch's are not."""
    base, raw = (Path(shutil.copytree(leaf, tmp_path / leaf.parts[-3])) for leaf in leaves("good", 0))

    def as_batch_norm(content: dict[str, Any]) -> None:
        for key in ("weights", "grads"):
            held = node_of(content, "norm")[key]
            held.update({} if content["framework"] == "torch" else _statistics(held, key))

    for leaf in (base, raw):
        edit(leaf / "params.json", as_batch_norm)
    assert check_params(base, raw, STRICT)


def _statistics(held: dict[str, Any], key: str) -> dict[str, Any]:
    return (
        {"_mean": held["bias"], "_variance": held["weight"]} if key == "weights" else {"_mean": None, "_variance": None}
    )


def _add(content: dict[str, Any], route: str) -> None:
    node = copy.deepcopy(node_of(content, "fc1"))
    node.update(route=route, bwd_grads=[], metas={"fwd_step": 90, "bwd_step": 91, "net_id": 90})
    content["tree"][0]["children"].append(node)
