"""docs/result.schema.json: what the code writes, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from padiff_rpc import result as results_of
from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.compare.rules import CompareMode, CompareRules
from padiff_rpc.model.model import ModelInfo
from padiff_rpc.result import Metrics, Pair, Unmatched
from padiff_rpc.tensors.tensor import DType
from tests.report import results
from tests.report.schema import SCHEMA, wrong_in

OF_THE_COMMAND_LINE = {"base", "raw", "inputs"}
DEFS = SCHEMA["$defs"]


def plain(**changes: Any) -> dict[str, Any]:
    return json.loads(json.dumps(results.bert_differs(**changes).to_json()))


def objects(schema: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object schema that lists properties, with its place."""
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
            yield where, schema
        for key, value in schema.items():
            yield from objects(value, f"{where}/{key}")
    elif isinstance(schema, list):
        for at, value in enumerate(schema):
            yield from objects(value, f"{where}/{at}")


def test_it_is_a_schema_of_draft_2020_12() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert results_of.SCHEMA == SCHEMA["properties"]["schema"]["const"] == SCHEMA["title"]


def test_every_object_with_named_fields_is_closed() -> None:
    assert [] == [where for where, schema in objects(SCHEMA) if schema.get("additionalProperties") is not False]
    assert 15 < len(list(objects(SCHEMA)))


@pytest.mark.parametrize(
    ("name", "kind", "more"),
    [
        ("pair", Pair, set()),
        ("metrics", Metrics, set()),
        ("unmatched", Unmatched, set()),
        ("environment", ModelInfo, set()),
        ("settings", AlignSettings, OF_THE_COMMAND_LINE),
    ],
)
def test_it_names_the_fields_of_the_code(name: str, kind: Any, more: set[str]) -> None:
    names = {field.name for field in fields(kind)}
    assert names | more == set(DEFS[name]["properties"])
    assert names == set(DEFS[name]["required"])


def test_it_names_the_words_of_the_code() -> None:
    assert list(results_of.STAGES) == DEFS["stage"]["enum"]
    assert list(get_args(results_of.Status)) == DEFS["pair"]["properties"]["status"]["enum"]
    assert list(get_args(results_of.Failure)) == DEFS["pair"]["properties"]["failure"]["enum"]
    assert ["", *(dtype.value for dtype in DType)] == DEFS["dtype"]["enum"]
    compare = DEFS["settings"]["properties"]["compare"]["properties"]
    assert {field.name for field in fields(CompareRules)} == set(compare)
    assert list(get_args(CompareMode)) == compare["mode"]["enum"]


def test_every_field_is_told_in_the_document() -> None:
    text = (Path(__file__).parents[2] / "docs" / "result.md").read_text()
    names = {name for _, schema in objects(SCHEMA) for name in schema["properties"]}
    assert set() == {name for name in names if f"`{name}`" not in text}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["extra"], 1, "$: Additional properties are not allowed ('extra' was unexpected)"),
        (["schema"], "padiff-rpc/result/2", "$.schema: 'padiff-rpc/result/1' was expected"),
        (["pairs", 0, "status"], "passed", "$.pairs[0].status: 'passed' is not one of ['pass', 'fail', 'skipped']"),
        (["pairs", 0, "metrics", "max_abs"], "NaN", "$.pairs[0].metrics: "),
        (["settings", "training"], "yes", "$.settings.training: 'yes' is not of type 'boolean', 'null'"),
        (["figures", "step_s"], 1.0, "$.figures.step_s: 1.0 is not of type 'array'"),
        (["trees", "base", 0], ["a"], "$.trees.base[0]: ['a'] is too short"),
    ],
)
def test_what_the_code_does_not_write_is_refused(path: list[Any], value: Any, said: str) -> None:
    content = plain()
    assert [] == wrong_in(content)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert 1 == len(wrong_in(content))
    assert wrong_in(content)[0].startswith(said)
