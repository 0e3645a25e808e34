"""Tests with both frameworks in one process: `make test-together`, in an environment that has both.

Other environments do not collect them; with PADIFF_TEST_TOGETHER set, a missing framework fails.
"""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path

import pytest

from padiff_rpc.interface.places import set_dump_root_path

if not os.environ.get("PADIFF_TEST_TOGETHER"):
    collect_ignore_glob = ["test_*.py"]
else:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the frameworks' own, while they are imported
        for name in ("padiff_rpc.model.backends.paddle.import_paddle", "torch"):
            importlib.import_module(name)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Dumps and logs of each test go to a folder of its own."""
    monkeypatch.chdir(tmp_path)
    set_dump_root_path(tmp_path / "padiff_dump")
    return tmp_path
