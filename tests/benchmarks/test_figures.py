"""Ratios, verdicts, the table and the file of the benchmark."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.depth import worst_deviation
from benchmarks.figures import Figure, ratio
from benchmarks.table import show, write


def figure(value: float | None, at_most: float | None = None, at_least: float | None = None) -> Figure:
    return Figure("group", "case", "name", value, "x", at_most, at_least, note="why [not]")


def test_a_ratio_is_that_of_the_medians_and_tells_the_median_of_the_rounds_too() -> None:
    found = ratio("group", "case", "name", over=[1.0, 2.0, 9.0], under=[1.0, 4.0, 3.0], unit="x", at_most=0.5)
    assert 2.0 / 3.0 == found.value
    assert 1.0 == found.samples["median_of_ratios"]
    assert [1.0, 2.0, 9.0] == found.samples["over"]
    assert "2 over 3; 1 by round" == found.note


def test_series_of_different_rounds_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio("group", "case", "name", over=[1.0, 2.0], under=[1.0], unit="x")


@pytest.mark.parametrize(
    ("value", "at_most", "at_least", "verdict"),
    [
        (1.25, 1.25, None, "ok"),
        (1.26, 1.25, None, "short"),
        (0.5, None, 0.5, "ok"),
        (0.49, None, 0.5, "short"),
        (math.nan, 1.25, None, "short"),
        (math.nan, None, 0.5, "short"),
        (7.0, None, None, ""),
        (None, 1.25, None, "not taken"),
    ],
)
def test_a_verdict_follows_from_value_and_target(
    value: float | None, at_most: float | None, at_least: float | None, verdict: str
) -> None:
    assert verdict == figure(value, at_most, at_least).verdict


def test_the_table_has_a_row_for_every_figure_those_that_were_not_taken_with_the_reason() -> None:
    out = io.StringIO()
    show([figure(1.3, at_most=1.25), figure(None)], Console(file=out, width=120))
    rows = [line for line in out.getvalue().splitlines() if "group" in line]
    assert 3 == len(rows)  # the title too
    assert "1.3 x" in rows[1]
    assert "<= 1.25" in rows[1]
    assert "short" in rows[1]
    assert "not taken" in rows[2]
    assert "why [not]" in rows[2]


def test_the_file_holds_the_machine_and_every_figure_with_verdict_and_samples(tmp_path: Path) -> None:
    path = tmp_path / "results" / "latest.json"
    found = ratio("group", "case", "name", [1.0], [2.0], "x", at_most=1.0)
    write([found, figure(None)], {"cores": 2}, path)
    content = json.loads(path.read_text())
    assert {"cores": 2} == content["machine"]
    assert ["ok", "not taken"] == [one["verdict"] for one in content["figures"]]
    assert [1.0] == content["figures"][0]["samples"]["over"]


def test_times_on_a_line_do_not_deviate_and_others_do() -> None:
    assert worst_deviation({12: 1.5, 24: 2.5, 48: 4.5, 96: 8.5}) < 1e-9
    assert worst_deviation({depth: depth**2 / 100 for depth in (12, 24, 48, 96)}) > 0.10
