"""check: the offline checks on the command line, their exit statuses, and their findings on stdout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.interface import planted as plant
from tests.interface.planted import pair, spoil_held, spoil_tensor
from tests.tape.tapes import PADIFF_DUMPS

Run = Callable[..., Result]
LOOSE = ("--atol", "1e-5", "--rtol", "1e-4", "--compare-mode", "strict")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("what", ["report", "params", "weights", "grads"])
def test_equal_dumps_agree_with_exit_status_0(cli: Run, tmp_path: Path, what: str) -> None:
    result = cli("check", what, *pair(tmp_path))
    assert (0, "") == (result.exit_code, result.stderr)
    assert f"Check {what} cfg: {{'atol': 0, 'rtol': 1e-07, 'compare_mode': 'mean'}}\n" in result.stdout
    assert result.stdout.endswith(f"[AutoDiff] the dump: agrees\n[AutoDiff] {what} compared.\n")


def test_a_difference_is_exit_status_1_and_stands_on_stdout(cli: Run, tmp_path: Path) -> None:
    base, raw = pair(tmp_path)
    spoil_tensor(raw, "body.fc2", "fwd_outputs", plant.bump)
    result = cli("check", "report", base, raw, *LOOSE)
    assert (1, "") == (result.exit_code, result.stderr)
    assert "Not equal to tolerance rtol=0.0001, atol=1e-05\n" in result.stdout
    assert "Route: base.body.fc2\n" in result.stdout
    assert (tmp_path / "padiff_log" / "report_base.log").is_file()


@pytest.mark.parametrize(("what", "kind"), [("params", "weights"), ("weights", "weights"), ("grads", "grads")])
def test_a_difference_in_what_is_held_is_exit_status_1(cli: Run, tmp_path: Path, what: str, kind: str) -> None:
    base, raw = pair(tmp_path)
    spoil_held(raw, "head", kind, "weight", plant.bump, f"{what}.json")
    result = cli("check", what, base, raw)
    assert (1, "") == (result.exit_code, result.stderr)
    assert f"Diff found when compare {kind}, please check report\n" in result.stdout


def test_the_mode_and_the_tolerances_are_the_users(cli: Run, tmp_path: Path) -> None:
    base, raw = pair(tmp_path)
    spoil_tensor(raw, "body.fc2", "fwd_outputs", plant.turn)
    modes = [("mean", 0), ("abs_mean", 0), ("strict", 1), ("scaled", 1)]
    assert [status for _, status in modes] == [
        cli("check", "report", base, raw, "--rtol", "1e-6", "--compare-mode", mode).exit_code for mode, _ in modes
    ]


def test_padiffs_own_dumps_are_compared(cli: Run) -> None:
    statuses = [
        cli("check", what, PADIFF_DUMPS / f"torch_{one}", PADIFF_DUMPS / f"paddle_{one}", *LOOSE).exit_code
        for what in ("report", "params")
        for one in ("good", "bad")
    ]
    assert [0, 1, 0, 1] == statuses


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["report", "base", "none"], "error [BAD_CONFIG]: there is no folder 'none'"),
        (["reprot", "base", "raw"], "'reprot' is not one of"),
        (["report", "base"], "Missing argument 'DIR1'"),
        (["report", "base", "raw", "--atol", "-1"], "--atol"),
        (["report", "base", "raw", "--compare-mode", "strct"], "strct"),
        (["report", "base", "raw", "--rtoll", "1"], "No such option"),
    ],
)
def test_bad_usage_is_exit_status_2(cli: Run, tmp_path: Path, arguments: list[str], expected: str) -> None:
    pair(tmp_path)
    result = cli("check", *arguments)
    assert 2 == result.exit_code
    assert expected in result.stderr
    assert "FAILED" not in result.stdout


def test_a_damaged_dump_is_exit_status_2_and_names_the_file(cli: Run, tmp_path: Path) -> None:
    base, raw = pair(tmp_path)
    file = plant.file_of(raw, "head", "fwd_outputs")
    file.write_bytes(file.read_bytes()[:-1])
    result = cli("check", "report", base, raw)
    assert 2 == result.exit_code
    assert f"error [DATA_LOSS]: the tensor file {str(file)!r} is truncated" in result.stderr
    assert "agrees" not in result.stdout
