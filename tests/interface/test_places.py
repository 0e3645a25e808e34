"""Folders: the dump root, one folder a proxy, nothing of an earlier run among this one's steps; trees in log files."""

from __future__ import annotations

from pathlib import Path

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.interface import places
from padiff_rpc.interface.dump_folders import ProxyFolder
from padiff_rpc.interface.places import get_dump_root_path, set_dump_root_path, write_log
from padiff_rpc.interface.tree_log import log_names, write_tree
from padiff_rpc.per_side import PerSide

LAYERS = [
    ("", "Net"),
    ("encoder", "Encoder"),
    ("encoder.attn", "MultiHeadAttention"),
    ("encoder.fc", "Linear"),
    ("head", "Linear"),
]


def test_the_dump_root_is_what_was_set(tmp_path: Path) -> None:
    set_dump_root_path(tmp_path / "elsewhere")
    assert str(tmp_path / "elsewhere") == get_dump_root_path()


def test_without_setting_the_dump_root_lies_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places._Root, "path", None)
    assert str(tmp_path / "padiff_dump") == get_dump_root_path()


def test_a_proxy_dumps_to_its_names_folder_by_step_and_rank(tmp_path: Path) -> None:
    assert tmp_path / "padiff_dump" / "Simple" / "step_4" / "rank_1" == ProxyFolder("Simple", "Net").of_step(4, 1)


def test_a_second_model_of_a_class_gets_a_name_of_its_own() -> None:
    first, second = ProxyFolder(None, "Net"), ProxyFolder(None, "Net")
    assert ["Net", "Net_1"] == [first.name, second.name]


def test_a_name_is_free_again_when_its_proxy_is_gone() -> None:
    first = ProxyFolder(None, "Net")
    del first
    assert "Net" == ProxyFolder(None, "Net").name


def test_two_living_models_do_not_dump_into_one_folder() -> None:
    first, second = ProxyFolder("Simple", "Net"), ProxyFolder("Simple", "Net")
    first.of_step(0, 0)
    with pytest.raises(PadiffError) as raised:
        second.of_step(0, 0)
    assert raised.value.reason is Reason.BAD_CONFIG
    assert raised.value.message.startswith("two living models are called 'Simple'")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_name_that_is_no_folders_is_refused(name: str) -> None:
    with pytest.raises(PadiffError) as raised:
        ProxyFolder(name, "Net")
    assert raised.value.reason is Reason.BAD_CONFIG


def test_dumps_of_an_earlier_run_are_set_aside_and_this_runs_own_stay(tmp_path: Path) -> None:
    folder = tmp_path / "padiff_dump" / "Simple"
    for step, rank in ((0, 0), (0, 1), (5, 0)):
        (folder / f"step_{step}" / f"rank_{rank}").mkdir(parents=True)
    (folder / "step_5" / "rank_0" / "report.json").write_text("old")
    proxy = ProxyFolder("Simple", "Net")
    proxy.of_step(0, 0).mkdir(parents=True)
    proxy.of_step(1, 0).mkdir(parents=True)
    found = sorted(str(path.relative_to(folder)) for path in folder.glob("step_*/rank_*"))
    assert ["step_0/rank_0", "step_0/rank_1", "step_1/rank_0"] == found  # rank 1 sees to its own
    assert "old" == (folder.with_name("Simple.previous") / "step_5" / "rank_0" / "report.json").read_text()
    assert not (folder / "step_5").exists()


def test_dumps_of_ranks_that_this_run_lacks_are_set_aside_by_rank_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "padiff_dump" / "Simple"
    for rank in range(4):
        (folder / "step_0" / f"rank_{rank}").mkdir(parents=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    ProxyFolder("Simple", "Net").of_step(0, 0)
    assert ["rank_1"] == [path.name for path in (folder / "step_0").iterdir()]
    assert ["rank_0", "rank_2", "rank_3"] == sorted(
        path.name for path in (folder.with_name("Simple.previous") / "step_0").iterdir()
    )


def test_what_a_killed_run_left_unfinished_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "padiff_dump" / "Simple"
    (folder / "step_5" / ".rank_0.partial" / "tensors").mkdir(parents=True)
    (folder / "step_6" / ".rank_1.partial").mkdir(parents=True)
    ProxyFolder("Simple", "Net").of_step(0, 0)
    assert ["step_6"] == [path.name for path in folder.iterdir()]


def test_a_tree_shows_where_and_what_was_skipped(tmp_path: Path) -> None:
    path = write_tree("report_Net_step_0.log", "Net", LAYERS, {"encoder.fc"}, {"encoder.attn"})
    assert str(tmp_path / "padiff_log" / "report_Net_step_0.log") == path
    assert [
        "Net",
        "========================================",
        "    Net",
        "     |--- Encoder",
        "     |     |--- MultiHeadAttention (skip)",
        "     |     +--- Linear    <---  *** HERE ***",
        "     +--- Linear",
    ] == Path(path).read_text().splitlines()


def test_path_log_adds_the_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADIFF_PATH_LOG", "ON")
    lines = Path(write_tree("t.log", "Net", LAYERS, set())).read_text().splitlines()
    assert "     |     +--- Linear  (Net.encoder.fc)" == lines[5]
    assert "    Net  (Net)" == lines[2]


def test_two_models_of_one_name_have_log_files_of_their_own() -> None:
    assert PerSide("Net(base_model)", "Net(raw_model)") == log_names("Net", "Net")
    assert PerSide("A", "B") == log_names("A", "B")


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "padiff_log").write_text("")
    with pytest.raises(PadiffError, match=r"cannot write a log file to '.*padiff_log'"):
        write_log("report.log", "text")
