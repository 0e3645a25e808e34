"""The offline checks of folders of steps and ranks: every one is compared, and the one that differs is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from padiff_rpc import check_grads, check_params, check_report, check_weights
from padiff_rpc.errors import PadiffError, Reason
from tests.interface import planted as plant
from tests.interface.planted import STRICT, dump, spoil_held, spoil_tensor

STEPS, RANKS = (0, 1, 2, 3, 4, 10), (0, 1)
CHECKS = (check_report, check_params, check_weights, check_grads)


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps of two ranks each; every one has weights of its own, so that none passes for another."""
    folder = tmp_path_factory.mktemp("dumped")
    for seed, (step, rank) in enumerate((step, rank) for step in STEPS for rank in RANKS):
        for side in ("base", "raw"):
            dump(folder / side / f"step_{step}" / f"rank_{rank}", seed=seed, name=side)
    return folder


@pytest.fixture
def trees(dumped: Path, tmp_path: Path) -> tuple[Path, Path]:
    shutil.copytree(dumped, tmp_path, dirs_exist_ok=True)
    return tmp_path / "base", tmp_path / "raw"


def lines(out: str) -> list[str]:
    return [line.removeprefix("[AutoDiff] ") for line in out.splitlines() if line.startswith("[AutoDiff] step ")]


def expected(*differing: tuple[int, int]) -> list[str]:
    return [
        f"step {step}, rank {rank}: {'DIFFERS' if (step, rank) in differing else 'agrees'}"
        for step in STEPS
        for rank in RANKS
    ]


def logs() -> list[str]:
    return sorted(path.name for path in Path("padiff_log").iterdir())


@pytest.mark.parametrize("check", CHECKS)
def test_every_step_and_rank_gets_its_line(
    trees: tuple[Path, Path], check: plant.Check, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(*trees, STRICT)
    assert expected() == lines(capsys.readouterr().out)


def test_the_one_report_that_differs_is_found_and_named(
    trees: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil_tensor(trees[1] / "step_4" / "rank_1", "body.fc2", "fwd_outputs", plant.bump)
    assert not check_report(*trees, STRICT)
    out = capsys.readouterr().out
    assert expected((4, 1)) == lines(out)
    assert 1 == out.count("FAILED !!!")
    assert "Route: base.body.fc2\n" in out
    assert "report: 1 of 12 dumps differ\n" in out
    assert ["report_base_step_4_rank_1.log", "report_raw_step_4_rank_1.log"] == logs()


@pytest.mark.parametrize(
    ("check", "files", "kind", "log"),
    [
        (check_params, "params.json", "weights", "weights_diff_step_4_rank_1.log"),
        (check_weights, "weights.json", "weights", "weights_diff_step_4_rank_1.log"),
        (check_grads, "grads.json", "grads", "grads_diff_step_4_rank_1.log"),
    ],
)
def test_the_one_dump_of_parameters_that_differs_is_found_and_named(
    trees: tuple[Path, Path],
    check: plant.Check,
    files: str,
    kind: str,
    log: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil_held(trees[1] / "step_4" / "rank_1", "head", kind, "weight", plant.bump, files)
    assert not check(*trees, STRICT)
    out = capsys.readouterr().out
    assert expected((4, 1)) == lines(out)
    assert "base.head.weight and raw.head.weight: " in out
    assert [log] == logs()
    assert f"stage: {kind}, step 4, rank 1\n" in (Path("padiff_log") / log).read_text()


def test_several_that_differ_keep_their_own_logs(trees: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for step, rank, route in ((10, 0, "head"), (2, 1, "body.fc1")):
        spoil_tensor(trees[1] / f"step_{step}" / f"rank_{rank}", route, "fwd_outputs", plant.bump)
    assert not check_report(*trees, STRICT)
    assert expected((2, 1), (10, 0)) == lines(capsys.readouterr().out)
    assert [f"report_{side}_step_{at}.log" for side in ("base", "raw") for at in ("10", "2_rank_1")] == logs()


def test_a_single_step_or_rank_can_be_asked_for(trees: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    spoil_tensor(trees[1] / "step_4" / "rank_1", "body.fc2", "fwd_outputs", plant.bump)
    base, raw = (tree / "step_4" for tree in trees)
    assert not check_report(base, raw, STRICT)
    assert check_report(base / "rank_0", raw / "rank_0", STRICT)
    assert not check_report(base / "rank_1", raw / "rank_1", STRICT)
    out = capsys.readouterr().out
    assert "[AutoDiff] rank 0: agrees\n[AutoDiff] Checking report" in out
    assert "[AutoDiff] rank 1: DIFFERS\n" in out


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("step_10", "has step 10 rank 0, step 10 rank 1"),
        ("step_3/rank_1", "has step 3 rank 1"),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_a_step_or_rank_that_one_side_lacks_is_an_error_that_names_it(
    trees: tuple[Path, Path], lost: str, message: str, side: int
) -> None:
    shutil.rmtree(trees[side] / lost)
    with pytest.raises(PadiffError) as caught:
        check_report(*trees)
    assert Reason.BAD_CONFIG is caught.value.reason
    assert f"only {str(trees[1 - side])!r} {message}" in caught.value.message


@pytest.mark.parametrize(("lost", "checks"), [("report.json", CHECKS[:1]), ("params.json", CHECKS[1:2])])
def test_a_file_that_one_step_lacks_is_an_error_that_names_it(
    trees: tuple[Path, Path], lost: str, checks: tuple[plant.Check, ...]
) -> None:
    (trees[1] / "step_10" / "rank_0" / lost).unlink()
    for check in checks:
        with pytest.raises(PadiffError) as caught:
            check(*trees)
        assert f"raw/step_10/rank_0/{lost}' is missing" in caught.value.message
