"""Options follow from the keys that they stand for: their names, their kinds, and the settings that they set."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click
import pytest
from padiff_clients.commands import commands
from padiff_clients.options import as_run, as_run_of_one
from padiff_clients.run_keys import CompareTable, Option, RunFile, SideTable, StoreTable, marked

from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.compare.rules import CompareRules

MADE_BY_PLAN = {
    *("compare", "base_loss", "raw_loss", "base_optimizer", "raw_optimizer", "layer_map", "parameter_map"),
    *("renames", "aoa_statements", "raw_statements"),
    *("base_selection", "raw_selection", "held"),
}


def option_of(command: str, name: str) -> click.Option:
    found = [one for one in commands.commands[command].params if name in one.opts]
    assert 1 == len(found)
    assert isinstance(found[0], click.Option)
    return found[0]


def parsed(command: str, *arguments: str) -> dict[str, Any]:
    return commands.commands[command].make_context(command, list(arguments)).params


@pytest.mark.parametrize(
    ("table", "settings", "others"), [(RunFile, AlignSettings, MADE_BY_PLAN), (CompareTable, CompareRules, set())]
)
def test_every_setting_is_set_by_one_key_or_made_by_the_plan(table: Any, settings: Any, others: set[str]) -> None:
    named = [option.sets for _, option in marked(table, Option) if option.sets]
    assert sorted({field.name for field in fields(settings)} - others) == sorted(named)


def test_diff_has_an_option_for_every_declared_key_of_every_table() -> None:
    names = {one.name for one in commands.commands["diff"].params}
    for table, before in ((RunFile, [""]), (CompareTable, [""]), (StoreTable, [""]), (SideTable, ["base_", "raw_"])):
        assert set() == {f"{side}{key}" for key, _ in marked(table, Option) for side in before} - names


@pytest.mark.parametrize(
    ("command", "name", "flags", "kind", "bound"),
    [
        ("diff", "steps", ["--steps"], click.IntRange, 1),
        ("diff", "depth", ["--depth"], click.IntRange, 0),
        ("diff", "connect_timeout_s", ["--connect-timeout"], click.FloatRange, 0),
        ("diff", "atol", ["--atol"], click.FloatRange, 0),
        ("diff", "seed", ["--seed"], click.types.IntParamType, None),
        ("diff", "raw_dtype", ["--raw-dtype"], click.Choice, None),
        ("diff", "single_step", ["--single-step", "--no-single-step"], click.types.BoolParamType, None),
        ("diff", "train", ["--train", "--eval"], click.types.BoolParamType, None),
        ("diff", "base_args", ["--base-arg"], click.types.StringParamType, None),
        ("inspect", "args", ["--model-arg"], click.types.StringParamType, None),
    ],
)
def test_an_option_takes_its_names_and_kind_from_the_key(
    command: str, name: str, flags: list[str], kind: type[click.ParamType], bound: int | None
) -> None:
    option = option_of(command, flags[0])
    assert (name, flags) == (option.name, [*option.opts, *option.secondary_opts])
    assert kind is type(option.type)
    assert bound == getattr(option.type, "min", None)


def test_a_bound_that_is_itself_no_value_is_open() -> None:
    assert {"--atol": False, "--connect-timeout": True} == {
        name: option_of("diff", name).type.min_open  # pyright: ignore[reportAttributeAccessIssue]
        for name in ("--atol", "--connect-timeout")
    }


def test_only_the_keys_that_are_given_are_set() -> None:
    options = parsed(
        "diff",
        *("--base", "unix:/v", "--raw-arg", "n=1", "--no-assign", "--seed", "0", "--layers", "a", "--mode", "mean"),
    )
    expected = {
        "base": {"spec": "unix:/v"},
        "raw": {"args": {"n": 1}},
        "assign": False,
        "seed": 0,
        "layers": ["a"],
        "compare": {"mode": "mean"},
        "map": {},
        "store": {},
    }
    assert expected == as_run(options).model_dump(exclude_unset=True)


def test_of_one_model_what_a_side_has_stands_in_bases_table_and_the_rest_at_the_top() -> None:
    options = parsed("record", "unix:/v", "-o", "out", "--loss", "mean", "--threads", "2", "--steps", "3")
    run = as_run_of_one(options)
    assert ("unix:/v", "mean", 2) == (run.base.spec, run.base.loss, run.base.threads)
    assert (3, None, None) == (run.steps, run.loss, run.threads)
