"""What the offline checks print and log, in PaDiff's words: stage, classes, routes, assertion, trees, lists of parameters."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface.check_dumps import check_grads, check_params, check_report, check_weights
from padiff_rpc.interface.messages import DEFAULT_TOLERANCES
from padiff_rpc.model.selection import Selection
from tests.tape.tapes import record_tape

STRICT = {"atol": 1e-5, "rtol": 1e-4, "compare_mode": "strict"}
LEAF = Path("step_0") / "rank_0"


@pytest.fixture
def dumps(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal dumps of one model, to be changed by hand."""
    first = record_tape(tmp_path / "first")
    shutil.copytree(first, tmp_path / "second")
    return first, tmp_path / "second"


def spoil(file: Path) -> None:
    np.save(file, np.load(file) + np.float32(0.5))


def tensor_of(leaf: Path, kind: str, *children: int) -> Path:
    """Return the file of the first tensor of a kind that the node down these children has."""
    node = json.loads((leaf / "report.json").read_text())["tree"][0]
    for child in children:
        node = node["children"][child]
    return leaf / "tensors" / Path(node[kind][0]["path"]).name


def test_a_check_says_its_tolerances_and_each_step_and_rank(
    dumps: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_report(*dumps)
    assert [
        "[AutoDiff] Check report cfg: {'atol': 0, 'rtol': 1e-07, 'compare_mode': 'mean'}",
        f"[AutoDiff] Checking report in {dumps[0] / LEAF} and {dumps[1] / LEAF}",
        "[AutoDiff] step 0, rank 0: agrees",
        "[AutoDiff] report compared.",
    ] == capsys.readouterr().out.splitlines()


def test_a_difference_in_the_forward_is_told_as_documented(
    dumps: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    spoil(tensor_of(dumps[1] / LEAF, "fwd_outputs", 0, 0))
    assert not check_report(*dumps, STRICT)
    out = capsys.readouterr().out
    logs = [tmp_path / "padiff_log" / f"report_net({side}_model)_step_0.log" for side in ("base", "raw")]
    for text in (
        "[AutoDiff] FAILED !!!\n[AutoDiff]     Diff found in Forward Stage\n",
        "[AutoDiff]     Type of layer is: Linear vs Linear\n",
        "[AutoDiff]     Route: net.body.fc1\n[AutoDiff]            net.body.fc1\n",
        "\nAssertionError:\nNot equal to tolerance rtol=0.0001, atol=1e-05\n\nMismatched elements: 64 / 64 (100%)\n",
        "\nMax absolute difference: 0.5",
        "\nMax relative difference: ",
        "\n x: array(",
        "\n y: array(",
        f"[AutoDiff] Check model struct:\nLogs: {logs[0]}\n      {logs[1]}\n",
        "[AutoDiff] The forward stage comparing failed !!!\n",
        "[AutoDiff] step 0, rank 0: DIFFERS\n[AutoDiff] report: 1 of 1 dumps differ\n",
    ):
        assert text in out
    assert [
        "net",
        "========================================",
        "    Mlp",
        "     |--- Body",
        "     |     |--- Linear    <---  *** HERE ***",
        "     |     |--- Tanh",
        "     |     +--- Linear",
        "     +--- Linear",
    ] == logs[1].read_text().splitlines()


def test_a_difference_in_the_backward_is_told_as_such(
    dumps: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(tensor_of(dumps[1] / LEAF, "bwd_grads", 1))
    assert not check_report(*dumps, STRICT)
    out = capsys.readouterr().out
    assert "[AutoDiff]     Diff found in Backward Stage\n" in out
    assert "[AutoDiff]     Route: net.head\n" in out
    assert "[AutoDiff] The backward stage comparing failed !!!\n" in out


@pytest.mark.parametrize(
    ("check", "files", "what"),
    [
        (check_params, "weights/weights_{}.npy", "weights"),
        (check_params, "grads/grads_{}.npy", "grads"),
        (check_weights, "weights/weights_only_{}.npy", "weights"),
    ],
)
def test_every_parameter_that_differs_is_in_the_log(
    dumps: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    check: Callable[..., bool],
    files: str,
    what: str,
) -> None:
    for number in (0, 2):
        spoil(dumps[1] / LEAF / files.format(number))
    assert not check(*dumps, STRICT)
    log = tmp_path / "padiff_log" / f"{what}_diff_step_0.log"
    said = f"[AutoDiff] Diff found when compare {what}, please check report\n        {log}\n"
    assert said in capsys.readouterr().out
    first, second = log.read_text().split("=" * 25 + "\n")[1:]
    assert first.startswith(
        f"{what} value is different.\nbetween base_model: Linear()\n        raw_model:  Linear()\n\n"
        "base_model param path:\n    net.body.fc1.weight\nraw_model param path:\n    net.body.fc1.weight\n"
    )
    assert "AssertionError:\nNot equal to tolerance rtol=0.0001, atol=1e-05\n" in first
    assert "    net.body.fc2.weight\n" in second


def test_what_was_left_out_is_marked_in_the_tree(tmp_path: Path) -> None:
    selection = Selection({"body.act": "on the black list"})
    dumps = [record_tape(tmp_path / name, selection=selection) for name in ("first", "second")]
    spoil(tensor_of(dumps[1] / LEAF, "fwd_outputs", 1))
    assert not check_report(*dumps, STRICT)
    lines = (tmp_path / "padiff_log" / "report_net(raw_model)_step_0.log").read_text().splitlines()
    assert ["     |     |--- Tanh (skip)"] == [line for line in lines if "(skip)" in line]


def test_what_was_never_dumped_is_missing_by_name(dumps: tuple[Path, Path]) -> None:
    with pytest.raises(PadiffError, match=r"grads\.json' is missing") as raised:
        check_grads(*dumps)
    assert Reason.DATA_LOSS is raised.value.reason
    assert "dump_grads() writes it" in raised.value.hint


def test_each_rank_is_told_and_logs_by_itself(
    dumps: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for dump in dumps:
        shutil.copytree(dump / LEAF, dump / "step_0" / "rank_1")
    spoil(tensor_of(dumps[1] / "step_0" / "rank_1", "fwd_outputs", 1))
    assert not check_report(*dumps, STRICT)
    out = capsys.readouterr().out
    assert "[AutoDiff] step 0, rank 0: agrees\n" in out
    assert "[AutoDiff] step 0, rank 1: DIFFERS\n[AutoDiff] report: 1 of 2 dumps differ\n" in out
    logs = sorted(path.name for path in (tmp_path / "padiff_log").iterdir())
    assert [f"report_net({side}_model)_step_0_rank_1.log" for side in ("base", "raw")] == logs


def test_padiffs_default_tolerances_are_named_where_they_fail(
    dumps: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(tensor_of(dumps[1] / LEAF, "fwd_outputs", 1))
    note = f"[AutoDiff] {DEFAULT_TOLERANCES}\n"
    assert not check_report(*dumps, {"compare_mode": "strict"})
    assert note in capsys.readouterr().out
    assert not check_report(*dumps, STRICT)
    assert note not in capsys.readouterr().out
