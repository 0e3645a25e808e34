"""What recording changes in the examples, on both sides: no bit, but for the order of sums of three or more parts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from padiff_clients.commands import commands

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(("example", "regrouped"), [("resnet50", False), ("minilm", True)])
def test_recording_changes_no_bit_but_the_order_of_sums(tmp_path: Path, example: str, regrouped: bool) -> None:
    """minilm's attention and the residual path around it take one tensor: four parts."""
    options = ["--verify-probe", "--quiet", "--json", str(tmp_path / "r.json")]
    done = CliRunner().invoke(commands, ["diff", str(EXAMPLES / example / "diff.toml"), *options])
    assert (1 if regrouped else 0) == done.exit_code
    result = json.loads((tmp_path / "r.json").read_text())
    assert [] == [pair for pair in result["pairs"] if pair["status"] == "fail"]
    for side in ("base", "raw"):
        finding = result["figures"]["probe"][side]
        assert [] == finding["unsteady"]
        assert regrouped == finding["regrouped"] == bool(finding["disturbed"])
        assert {"gradient"} >= {name.partition(" ")[0] for name in finding["disturbed"]}
