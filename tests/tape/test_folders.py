"""Steps and ranks below a folder are found in the order of their numbers, and what only one side has is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import ForwardRequest
from padiff_rpc.tape.folders import walk, walk_one
from padiff_rpc.tape.recorded_model import RecordedModel
from tests.tape.tapes import record_tape


def make(root: Path, *leaves: str) -> Path:
    for leaf in leaves:
        (root / leaf).mkdir(parents=True)
        (root / leaf / "report.json").touch()
    return root


def test_steps_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    root = make(tmp_path, "step_10/rank_0", "step_2/rank_1", "step_2/rank_0", "step_0/rank_0")
    assert [(0, 0), (2, 0), (2, 1), (10, 0)] == [dump[:2] for dump in walk_one(root)]
    assert root / "step_2" / "rank_1" == walk_one(root)[2].folder


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        (["."], [(None, None)]),
        (["step_3"], [(3, None)]),
        (["rank_0", "rank_1"], [(None, 0), (None, 1)]),
        (["step_0", "other"], [(None, None)]),
        (["step_0/rank_0", "step_0/other"], [(0, None)]),
    ],
)
def test_a_folder_is_walked_only_where_all_in_it_are_steps_or_ranks(
    tmp_path: Path, leaves: list[str], expected: list[tuple[int | None, int | None]]
) -> None:
    root = tmp_path / "dump"
    for leaf in leaves:
        (root / leaf).mkdir(parents=True, exist_ok=True)
        (root / leaf / "report.json").touch()
    assert expected == [dump[:2] for dump in walk_one(root)]


def test_a_tape_is_walked_past_its_own_files(tmp_path: Path) -> None:
    assert [(0, 0), (1, 0)] == [dump[:2] for dump in walk_one(record_tape(tmp_path / "tape", steps=2))]


def test_a_dump_that_was_never_finished_is_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "step_0/rank_0", "step_0/.rank_1.partial")
    assert [(0, 0)] == [dump[:2] for dump in walk_one(tmp_path)]


def test_two_folders_are_paired_by_step_and_rank(tmp_path: Path) -> None:
    for side in ("a", "b"):
        make(tmp_path / side, "step_2/rank_0", "step_10/rank_0")
    pairs = walk(tmp_path / "a", tmp_path / "b")
    assert [(2, 0), (10, 0)] == [pair[:2] for pair in pairs]
    assert (tmp_path / "a/step_10/rank_0", tmp_path / "b/step_10/rank_0") == pairs[1][2:]


@pytest.mark.parametrize(
    ("ours", "theirs", "text"),
    [
        (["step_0/rank_0", "step_1/rank_0"], ["step_0/rank_0"], "a' has step 1 rank 0"),
        (["step_0/rank_0"], ["step_0/rank_0", "step_0/rank_1"], "b' has step 0 rank 1"),
        (["step_0/rank_0"], ["."], "b' has a dump without steps and ranks"),
    ],
)
def test_what_only_one_side_has_is_named(tmp_path: Path, ours: list[str], theirs: list[str], text: str) -> None:
    for side, leaves in (("a", ours), ("b", theirs)):
        for leaf in leaves:
            (tmp_path / side / leaf).mkdir(parents=True)
            (tmp_path / side / leaf / "report.json").touch()
    with pytest.raises(PadiffError, match=text) as caught:
        walk(tmp_path / "a", tmp_path / "b")
    assert Reason.BAD_CONFIG is caught.value.reason


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_a_folder_that_holds_no_dump_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    for act in (walk_one, RecordedModel):
        with pytest.raises(PadiffError, match=name) as caught:
            act(tmp_path / name)
        assert Reason.BAD_CONFIG is caught.value.reason


@pytest.mark.parametrize("names", [["step_a"], ["step_1", "step_01"]])
def test_a_step_without_a_number_of_its_own_is_named(tmp_path: Path, names: list[str]) -> None:
    make(tmp_path, *names)
    with pytest.raises(PadiffError, match=r"step_(a|1|01)'") as caught:
        walk_one(tmp_path)
    assert Reason.DATA_LOSS is caught.value.reason


def test_a_rank_is_chosen_and_a_missing_one_named(tmp_path: Path) -> None:
    tape = record_tape(tmp_path / "tape", steps=2)
    for step in (0, 1):
        other = record_tape(tmp_path / f"other_{step}", model_args={"seed": 7})
        (other / "step_0" / "rank_0").rename(tape / f"step_{step}" / "rank_1")
    outputs = {RecordedModel(tape, rank).forward(ForwardRequest({})).outputs[0].digest.hash for rank in (0, 1)}
    assert 2 == len(outputs)
    with pytest.raises(PadiffError, match="no rank 2") as caught:
        RecordedModel(tape, 2)
    assert "it has the ranks 0, 1" == caught.value.hint


def test_twelve_steps_are_replayed_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    tape = record_tape(tmp_path / "tape", steps=12)
    (tape / "tape.json").unlink()
    for path in (tape / "inputs").iterdir():
        path.unlink()
    (tape / "inputs").rmdir()
    model = RecordedModel(tape)
    replayed = [model.forward(ForwardRequest({})).outputs[0].digest for _ in range(12)]
    single = [RecordedModel(tape / f"step_{step}").forward(ForwardRequest({})).outputs[0].digest for step in range(12)]
    assert single == replayed
