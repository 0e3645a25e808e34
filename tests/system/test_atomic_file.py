"""A file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from padiff_rpc.system.atomic_file import replacing


def test_a_reader_finds_the_old_file_until_the_whole_new_one_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("old")
    with replacing(path) as file:
        file.write("né")
        file.flush()
        assert "old" == path.read_text()
    assert "né" == path.read_text(encoding="utf-8")
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_raises_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.json"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as file:
            file.write("half")
            raise error

    with pytest.raises(error):
        fail()
    assert "old" == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_a_place_that_a_file_cannot_take_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="directory"), replacing(tmp_path / "folder") as file:
        file.write("new")
    assert [tmp_path / "folder"] == list(tmp_path.iterdir())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_it_follows_from_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with replacing(tmp_path / "file.json"):
            pass
    finally:
        os.umask(before)
    assert mode == (tmp_path / "file.json").stat().st_mode & 0o777
