"""match: layers, tensors and rules, what has no partner, as text, as JSON and as a map file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def test_the_map_is_shown_with_a_star_and_a_count_for_what_is_alike(cli, worker):
    result = cli("match", "--base", worker("deep", depth=3), "--raw", worker("deep", depth=3))

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "  3  certain          *.fc" in lines
    assert "  3  identity  *.fc.weight" in lines
    assert "nothing lacks a partner that it needs" == lines[-1]


def test_what_has_no_partner_is_shown_and_fails(cli, worker):
    result = cli("match", "--base", worker("deep", depth=2), "--raw", worker("deep", depth=4))

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[lines.index("only raw has, and needs a partner") + 1].startswith(
        "  2 layers: *: base has no counterpart"
    )
    assert lines[-1] == "2 lack a partner that is needed"


def test_the_map_is_written_and_read_back(cli, worker, tmp_path: Path):
    sides = ("--base", worker("tied"), "--raw", worker("tied"))
    first = cli("match", *sides, "-o", tmp_path / "map.toml", "--json", tmp_path / "map.json")
    again = cli("match", *sides, "--map", tmp_path / "map.toml", "-o", tmp_path / "again.toml")

    assert (first.exit_code, again.exit_code) == (0, 0)
    assert (tmp_path / "map.toml").read_text() == (tmp_path / "again.toml").read_text()
    assert "certain (map)" in again.stdout
    read = json.loads((tmp_path / "map.json").read_text())
    assert read["schema"] == "padiff-rpc/map/1"
    assert read["links"][-1] == {
        "base": ["table.weight"],
        "raw": ["table.weight"],
        "rule": "identity",
        "kind": "parameter",
        "undecided": False,
    }


@pytest.mark.parametrize(
    ("arguments", "status", "expected"),
    [
        (["--base", "nonsense", "--raw", "nonsense"], 2, "error [BAD_SPEC]"),
        (["--base", "unix:/none"], 2, "raw is not given"),
        (["--base", "unix:/none", "--raw", "unix:/none", "-o", "/none/map.toml"], 2, "cannot write '/none/map.toml'"),
    ],
)
def test_what_goes_wrong_is_said_with_its_exit_status(cli, arguments, status, expected):
    result = cli("match", *arguments)

    assert result.exit_code == status
    assert expected in result.stderr


def test_the_map_is_written_as_aoa_statements_and_read_back(cli, worker, tmp_path: Path):
    sides = ("--base", worker("bert_like"), "--raw", worker("bert_like", layout="io"))
    path = tmp_path / "map.aoa"

    written = cli("match", *sides, "-o", path)
    again = cli("match", *sides, "--map", path, "-o", tmp_path / "again.aoa")

    assert (written.exit_code, again.exit_code) == (0, 0), again.output
    assert "encoder.0.attention.q.weight^T -> encoder.0.attention.q.weight" in path.read_text().splitlines()
    assert path.read_text() == (tmp_path / "again.aoa").read_text()


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("map.aoa", "words.weight", "the AOA statement 'words.weight' cannot be read: `->` is wanted"),
        ("map.json", '{"aoa_statements": ["a -> b"]}', "none of the 1 AOA statements leads"),
        ("map.json", '{"aoa_statements": ["a -> b"], "aoa_config_reverse": true}', "from raw to base"),
        ("map.json", '{"aoa_statements": "a -> b"}', "aoa_statements"),
    ],
)
def test_aoa_statements_that_cannot_be_used_are_refused(
    cli, worker, tmp_path: Path, file: str, text: str, expected: str
):
    (tmp_path / file).write_text(text)

    result = cli("match", "--base", worker("mlp"), "--raw", worker("mlp"), "--map", tmp_path / file)

    assert (result.exit_code, result.stdout) == (2, "")
    assert expected in result.stderr


def test_statements_of_raws_own_class_are_asked_for_where_there_are_none(cli, worker):
    result = cli("match", "--base", worker("mlp"), "--raw", worker("mlp"), "--map", "raw")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "its class gives none" in result.stderr
