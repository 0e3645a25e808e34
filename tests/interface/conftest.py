"""Every test of PaDiff's interface runs in a folder of its own, with no switch set: dumps and logs go there."""

from __future__ import annotations

from pathlib import Path

import pytest

from padiff_rpc.interface.places import set_dump_root_path

_SWITCHES = (
    "PADIFF_SIKP_WRAP_LAYER",
    "PADIFF_SKIP_WRAP_LAYER",
    "PADIFF_PATH_LOG",
    "PADIFF_API_CHECK",
    "PADDLE_THIRDPARTY_API",
    "PADDLE_TRAINER_ID",
    "RANK",
    "WORLD_SIZE",
    "PADDLE_TRAINERS_NUM",
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in _SWITCHES:
        monkeypatch.delenv(name, raising=False)
    set_dump_root_path(tmp_path / "padiff_dump")
    return tmp_path
