"""Hold results against the schema that docs/ publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from padiff_rpc.result import Result

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "result.schema.json").read_text())
_VALIDATOR = Draft202012Validator(SCHEMA)


def wrong_in(value: Any) -> list[str]:
    """Return what of a result's JSON is not as the schema has it, each with its place."""
    return [f"{error.json_path}: {error.message}" for error in _VALIDATOR.iter_errors(value)]


@pytest.fixture
def every_result_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold against the schema every result that is turned into JSON during a test."""
    to_json = Result.to_json

    def checked(result: Result) -> dict[str, Any]:
        value = to_json(result)
        assert [] == wrong_in(json.loads(json.dumps(value, allow_nan=False)))
        return value

    monkeypatch.setattr(Result, "to_json", checked)
