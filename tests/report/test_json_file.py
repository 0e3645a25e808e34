"""The JSON file: the schema, and all or nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.report import json_file
from tests.report import results


def test_a_result_is_written_in_its_schema(tmp_path: Path):
    json_file.write_result(tmp_path / "result.json", results.bert_differs())

    read = json.loads((tmp_path / "result.json").read_text())
    assert read["schema"] == "padiff-rpc/result/1"
    assert read["aligned"] is False
    assert read["first_divergence"]["raw"]["route"] == "encoder.layers.3.output.norm2"
    assert read["first_divergence"]["metrics"]["index"] == [0, 3, 17]
    assert len(read["pairs"]) == 68


def test_numbers_that_json_lacks_are_text(tmp_path: Path):
    pairs = [results.pair("a", "a", 0.5, metrics=results.metrics(math.nan, max_abs=math.inf))]
    json_file.write_result(tmp_path / "result.json", results.result(pairs))

    read = json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)
    assert (read["pairs"][0]["metrics"]["measured"], read["pairs"][0]["metrics"]["max_abs"]) == ("nan", "inf")


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path):
    (tmp_path / "result.json").write_text("old")

    with pytest.raises(TypeError):
        json_file.write_json(tmp_path / "result.json", {"bad": object()})
    with pytest.raises(UnicodeEncodeError):
        json_file.write_json(tmp_path / "result.json", "\ud800")

    assert (tmp_path / "result.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("name", ["missing/result.json", "."])
def test_a_place_that_cannot_be_written_is_said_before_the_run(tmp_path: Path, name: str):
    with pytest.raises(PadiffError) as caught:
        json_file.check_writable(tmp_path / name)

    assert caught.value.reason == Reason.BAD_CONFIG
    assert str(tmp_path) in caught.value.message
