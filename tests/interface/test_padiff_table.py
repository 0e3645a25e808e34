"""docs/padiff.md names all that PaDiff documents, with tests that are there; and it all is there, with PaDiff's defaults."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import padiff_rpc

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs" / "padiff.md").read_text(encoding="utf-8").partition("## The table")[2]
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
    for line in TABLE.splitlines()
    if line.startswith("|") and not line.startswith("|---")
]
HEADER = "held by"
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")

# Name -> PaDiff's arguments after the first, with their defaults; ... where there is none.
FUNCTIONS: dict[str, dict[str, Any]] = {
    "auto_diff": {"raw_model": ..., "inputs": ..., "loss_fns": None, "optimizers": None},
    "assign_weight": {"raw_model": ...},
    "create_model": {"name": None, "dump_freq": 1},
    "check_report": {"report_path_1": ..., "cfg": None},
    "check_params": {"report_path_1": ..., "cfg": None},
    "check_weights": {"report_path_1": ..., "cfg": None},
    "check_grads": {"report_path_1": ..., "cfg": None},
    "check_dataloader": {"loader_1": ...},
    "set_dump_root_path": {},
    "get_dump_root_path": {},
    "add_special_init": {"base_class": ..., "raw_framework": ..., "raw_class": ..., "func": ...},
}
METHODS: dict[str, dict[str, Any]] = {
    "update_black_list": {"layers": ..., "mode": "all"},
    "update_white_list": {"layers": ..., "mode": "self"},
    "update_black_list_with_class": {"layer_class": ..., "mode": "self"},
    "update_white_list_with_class": {"layer_class": ..., "mode": "self"},
    "set_layer_map": {"layers": ...},
    "auto_layer_map": {"place": ...},
    "backward": {"loss": ...},
    "try_dump": {"dump_path": None},
    "dump_report": {"dump_path": None},
    "dump_params": {"dump_path": None},
    "dump_weights": {"dump_path": None},
    "dump_grads": {"dump_path": None},
    "clear_report": {},
}
# None stands for PaDiff's 0 and 1e-7, which the run prints; in mode "scaled", which PaDiff lacks, for the table by dtype.
OPTIONS: dict[str, Any] = {
    "atol": None,
    "rtol": None,
    "auto_init": True,
    "compare_mode": "mean",
    "diff_phase": "both",
    "single_step": False,
    "steps": 1,
}
WORDS = (
    *("model.model", "name", "dump_freq", "mode", "base_model", "raw_model", "inputs", "loss_fns", "optimizers"),
    *('cfg["atol"]', 'cfg["rtol"]', 'cfg["compare_mode"]'),
    *("PADIFF_SIKP_WRAP_LAYER", "PADIFF_PATH_LOG", "PADIFF_API_CHECK", "PADDLE_THIRDPARTY_API"),
    *("report.json", "params.json", "weights.json", "grads.json"),
    *("model_name", "framework", "file_path", "tree", "layer_map", "route", "type", "children", "metas", "stack"),
    *("fwd_outputs", "bwd_grads", "path", "shape", "dtype", "place", "layout", "repr", "available", "weights", "grads"),
    *("(skip)", "SUCCESS !!!", "FAILED !!!", "Assign weight success !!!", "Assign weight Failed !!!"),
)


def test_every_row_names_a_test() -> None:
    assert len(ROWS) > 80
    assert [] == [row[0] for row in ROWS if row[-1] != HEADER and not _TEST.search(row[-1])]
    assert {3} == {len(row) for row in ROWS}


@cache
def functions_in(file: str) -> frozenset[str]:
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_test_that_is_named_exists() -> None:
    named = [match.groups() for row in ROWS for match in _TEST.finditer(row[-1])]
    assert [] == [f"{file}::{name}" for file, name in named if name not in functions_in(file)]


@pytest.mark.parametrize("word", [*FUNCTIONS, *METHODS, *OPTIONS, *WORDS])
def test_whatever_padiff_documents_has_a_row(word: str) -> None:
    texts = {text for row in ROWS for text in re.findall(r"`([^`]+)`", row[0])}
    words = texts | {part for text in texts for part in re.findall(r"[\w.]+|\w+$", text.partition("(")[0])}
    assert word in words | {part.removeprefix("model.") for part in words}


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    parameters = list(inspect.signature(function).parameters.values())[1:]
    named = [one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    return {one.name: ... if one.default is one.empty else one.default for one in named}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_public_with_padiffs_defaults(name: str) -> None:
    assert name in padiff_rpc.__all__
    assert FUNCTIONS[name] == defaults_of(getattr(padiff_rpc, name))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_the_proxy_has_padiffs_defaults(name: str) -> None:
    assert METHODS[name] == defaults_of(getattr(padiff_rpc.ProxyModel, name))


def test_the_options_of_auto_diff_have_padiffs_defaults() -> None:
    parameters = inspect.signature(padiff_rpc.auto_diff).parameters.values()
    assert OPTIONS == {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}
