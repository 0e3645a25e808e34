"""The planted bugs with both frameworks: every factory builds and has the layers that are named; a healthy pair is aligned."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.bugs import __main__ as program
from benchmarks.bugs.catalogue import BUGS
from benchmarks.bugs.pairs import FRAMEWORKS, ROOT, Framework, environment

pytestmark = pytest.mark.e2e

BUILD = """
import json
from benchmarks.bugs.catalogue import BUGS
from padiff_rpc.model.hosting.hosted import HostedModel

routes = {}
for bug in BUGS:
    if bug.run.raw == FRAMEWORK:
        model = HostedModel.from_spec(bug.run.spec(FRAMEWORK), model_args=bug.run.full_args[1])
        routes[bug.title] = [layer.route for layer in model.describe().layers]
print(json.dumps(routes))
"""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_bug_builds_and_sits_in_a_layer_of_its_model(framework: Framework) -> None:
    code = BUILD.replace("FRAMEWORK", repr(framework))
    done = subprocess.run(
        [str(environment(framework)), "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    routes = json.loads(done.stdout.splitlines()[-1])
    bugs = [bug for bug in BUGS if bug.run.raw == framework]
    assert {bug.title for bug in bugs} == set(routes)
    assert [] == [bug.title for bug in bugs if not bug.exact <= set(routes[bug.title])]


def test_a_bug_is_found_and_a_healthy_pair_is_aligned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(program, "RESULTS", tmp_path)
    found = CliRunner().invoke(program.main, ["--only", "moe:experts_rotated"])
    assert found.exit_code == 0, found.output
    assert "1 (100%)" in found.output
    aligned = CliRunner().invoke(program.main, ["--healthy", "--seeds", "2", "--only", "healthy moe-eval"])
    assert aligned.exit_code == 0, aligned.output
    assert "1 healthy pairs, 2 runs, 0 alarms" in aligned.output
