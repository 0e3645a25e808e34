"""The generated code, and all that stands on it, works under the oldest and the newest runtimes.

PADIFF_PROTO_PYTHONS names their interpreters, separated by os.pathsep; `make test-e2e` creates the environments and sets it.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from .generated_code_check import run_step

ROOT = Path(__file__).resolve().parents[2]
SPEC = f"numpy@{ROOT}/tests/models/numpy_models.py:mlp"
ENV = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "servers")])}

pytestmark = pytest.mark.e2e


def pythons() -> list[str]:
    found = [text for text in os.environ.get("PADIFF_PROTO_PYTHONS", "").split(os.pathsep) if text]
    assert found, "PADIFF_PROTO_PYTHONS is not set: run `make test-e2e`"
    return [os.path.abspath(python) for python in found]


def test_messages_round_trip_and_a_worker_runs_under_every_runtime() -> None:
    expected = run_step(SPEC)
    assert expected["boundaries"] > 10
    versions = set()
    for python in pythons():
        done = subprocess.run(
            [python, str(Path(__file__).with_name("generated_code_check.py")), SPEC],
            capture_output=True,
            text=True,
            env={**os.environ, **ENV},
            check=False,
        )
        assert 0 == done.returncode, f"{python}\n{done.stderr}"
        found = json.loads(done.stdout)
        assert found.pop("messages") > 40
        versions.add((found.pop("protobuf"), found.pop("grpc")))
        assert expected == pytest.approx(found)
    assert len(pythons()) == len(versions), f"the interpreters do not differ: {versions}"


def test_this_runtime_drives_workers_under_every_other() -> None:
    expected = run_step(SPEC)
    for python in pythons():
        assert expected == pytest.approx(run_step(SPEC, python=python, env=ENV))
