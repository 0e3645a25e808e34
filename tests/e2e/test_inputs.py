"""The command line on a torch and a paddle model whose forwards call their inputs by other names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from padiff_clients.commands import commands

from tests.e2e.workers import MODELS, python_of

pytestmark = pytest.mark.e2e
Diff = Callable[..., Result]


@pytest.fixture
def diff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Diff:
    """Align the torch model with a paddle one; the file holds the mask first."""
    monkeypatch.setenv("COLUMNS", "400")
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(3, 4)).astype("float32") for name in ("mask", "x")}
    np.savez(tmp_path / "in.npz", **arrays)

    def run(raw: str, *options: object) -> Result:
        base = f"torch@{MODELS / 'inputs_torch.py'}:Net"
        sides = ["--base", base, "--raw", f"paddle@{MODELS / 'inputs_paddle.py'}:{raw}"]
        pythons = ["--base-python", python_of("torch"), "--raw-python", python_of("paddle")]
        return CliRunner().invoke(
            commands, [str(each) for each in ("diff", *sides, *pythons, "--inputs", tmp_path / "in.npz", *options)]
        )

    return run


@pytest.mark.parametrize(
    ("raw", "moved"),
    [
        ("Renamed", "forward(inputs, attn_mask=None): given by position: x as inputs, mask as attn_mask"),
        ("PositionalOnly", "forward(inputs, gate, /): given by position: x as inputs, mask as gate"),
        ("Starred", "forward(*tensors): given by position: x as *tensors, mask as *tensors"),
        ("MaskFirst", "forward(mask, inputs): given by position: x as inputs; by name: mask"),
    ],
)
def test_inputs_of_other_names_reach_raw_and_a_note_says_how(diff: Diff, raw: str, moved: str, tmp_path: Path) -> None:
    result = diff(raw, "--json", tmp_path / "r.json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"inputs of raw, {moved}" in result.stdout
    assert json.loads((tmp_path / "r.json").read_text())["notes"][0] == f"inputs of raw, {moved}"


def test_a_fault_behind_them_is_found(diff: Diff) -> None:
    result = diff("Renamed", "--raw-arg", "wrong=1.02")
    assert result.exit_code == 1
    assert "x as inputs, mask as attn_mask" in result.stdout


def test_what_cannot_be_told_shows_both_signatures_and_the_option(diff: Diff) -> None:
    result = diff("TwoOptions")
    assert result.exit_code == 2
    assert "forward of raw does not take the inputs mask, x: it has no" in result.stderr
    assert "raw's is forward(inputs, cache=None, attn_mask=None), base's is forward(x, mask=None)" in result.stderr
    assert "--base-inputs and --raw-inputs" in result.stderr
