"""docs/cli.md and docs/result.md name everything there is, and nothing more."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import click
from padiff_clients.commands import commands
from padiff_clients.run_keys import CompareTable, MapTable, RunFile, SideTable, StoreTable

from padiff_rpc.result import Metrics, Pair, Result, Unmatched

DOCS = Path(__file__).parents[2] / "docs"


def options(command: click.Command) -> set[str]:
    names = {
        name for one in command.params if isinstance(one, click.Option) for name in (*one.opts, *one.secondary_opts)
    }
    return {name for name in names if name.startswith("--")}


def test_every_option_of_every_command_is_documented():
    text = (DOCS / "cli.md").read_text()

    for name in ("diff", "match", "convert", "record", "check", "inspect", "serve", "doctor"):
        documented = set(re.findall(r"--[a-z][a-z-]*", text))
        # The --no- forms are told in one sentence, not one by one.
        lacking = {one for one in options(commands.commands[name]) - documented if not one.startswith("--no-")}
        assert lacking == set()


def test_every_documented_option_exists():
    text = (DOCS / "cli.md").read_text()
    known = set().union(*(options(command) for command in commands.commands.values()))

    assert set(re.findall(r"`(--[a-z][a-z-]*[a-z])", text)) - known == set()


def test_every_key_of_a_run_file_is_documented():
    text = (DOCS / "cli.md").read_text().partition("### Run file")[2].partition("## serve")[0]

    for table in (RunFile, SideTable, CompareTable, MapTable, StoreTable):
        assert {key for key in table.model_fields if f"`{key}`" not in text and f"`[{key}]`" not in text} == set()


def test_every_field_of_the_result_is_documented():
    text = (DOCS / "result.md").read_text()
    top = {"schema", "first_divergence", "unmatched", *(field.name for field in fields(Result))}
    names = top - {"unmatched_base", "unmatched_raw"}

    for kind in (Pair, Metrics, Unmatched):
        names |= {field.name for field in fields(kind)}
    assert {name for name in names if f"`{name}`" not in text} == set()
