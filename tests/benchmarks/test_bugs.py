"""The planted bugs: enough of them, each known by its name to the code that has it, and scores that count what they say."""

from __future__ import annotations

import ast
import io
from functools import cache

import pytest
from rich.console import Console

from benchmarks.bugs.bug import Bug, Found, Outcome
from benchmarks.bugs.catalogue import BUGS
from benchmarks.bugs.healthy import HEALTHY
from benchmarks.bugs.pairs import INPUTS, MODELS, ROOT, training_file
from benchmarks.bugs.report import report_bugs, report_healthy

EXACT = Found("differs", "forward", "blocks.0.norm1", "output.0: differs", "its epsilon is 1e-5 for 1e-6", 300.0)
ALIGNED = Found("aligned", worst=0.5)


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return functions | {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}


def bug_of(title: str) -> Bug:
    return next(bug for bug in BUGS if bug.title == title)


def test_there_are_many_bugs_over_all_architectures_in_two_halves() -> None:
    assert len(BUGS) == len({bug.title for bug in BUGS})
    assert len(BUGS) >= 80
    assert set(INPUTS) == {bug.run.architecture for bug in BUGS}
    assert len(INPUTS) >= 8
    for half in ("first", "second"):
        assert sum(bug.half == half for bug in BUGS) >= 40
    assert sum(bug.run.dtype == "bfloat16" for bug in BUGS) >= 10


def test_there_are_many_healthy_pairs_and_none_has_a_bug() -> None:
    assert len(HEALTHY) == len({pair.title for pair in HEALTHY})
    assert len(HEALTHY) >= 60
    assert [] == [pair.title for pair in HEALTHY if "bug" in pair.run.raw_args or "__" in pair.run.raw_loss]
    assert {"float64", "float32", "bfloat16", "float16"} == {pair.run.dtype for pair in HEALTHY}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.title)
def test_the_code_of_raw_has_the_bug_under_its_name(bug: Bug) -> None:
    function = bug.run.raw_loss or bug.run.raw_optimizer
    if "__" in function:
        names = names_in(training_file(bug.run.raw))
        assert function in names or set(function.split("__")) <= names
    else:
        model = f"{MODELS}/{bug.run.raw}_{bug.run.architecture}.py"
        assert bug.run.raw_args["bug"] in names_in(model) | names_in(f"{MODELS}/{bug.run.raw}_parts.py")


def test_a_place_is_a_stage_and_a_layer_and_a_cause_is_a_word_outside_quotes() -> None:
    bug = bug_of("vit:layer_norm_eps")
    assert bug.is_place("forward", "blocks.0.norm1")
    assert not bug.is_place("forward", "blocks.0")
    assert not bug.is_place("backward", "blocks.0.norm1")
    assert bug.is_cause("its Epsilon is another")
    assert not bug.is_cause("input.0 of 'epsilon'")
    assert bug.is_cause("base's has another epsilon than raw's")
    assert bug_of("decoder:epsilon").is_place("weights", "embed")


def test_scores_are_counted_by_half_and_tolerance() -> None:
    outcomes = [
        Outcome("vit:layer_norm_eps", 0, {"auto": EXACT, "table": ALIGNED}, False, 1.0),
        Outcome("vit:gelu_tanh", 0, {"auto": EXACT, "table": ALIGNED}, True, 1.0),
    ]
    text = io.StringIO()
    assert report_bugs(outcomes, BUGS, Console(file=text, width=200))
    rows = [line.split("│")[1:-1] for line in text.getvalue().splitlines() if "half" in line and "│" in line]
    cells = {tuple(cell.strip() for cell in row[:2]): [cell.strip() for cell in row[2:]] for row in rows}
    assert ["2", "2 (100%)", "1 (50%)", "1 (50%)"] == cells["first half", "auto"]
    assert ["2", "0 (0%)", "0 (0%)", "0 (0%)"] == cells["first half", "table"]
    assert ["2", "1 (50%)", "", ""] == cells["first half", "torch.testing on outputs"]


def test_a_bug_called_aligned_and_an_alarm_are_told() -> None:
    text = io.StringIO()
    console = Console(file=text, width=200)
    assert not report_bugs([Outcome("vit:gelu_tanh", 2, {"": ALIGNED}, False, 1.0)], BUGS, console)
    assert "ALIGNED: vit:gelu_tanh, seed 2" in text.getvalue()
    assert not report_healthy([Outcome(HEALTHY[0].title, 3, {"": EXACT}, False, 1.0)], console)
    assert f"ALARM: {HEALTHY[0].title}, seed 3: differs, forward blocks.0.norm1" in text.getvalue()
    assert report_healthy([Outcome(HEALTHY[0].title, 3, {"": ALIGNED}, False, 1.0)], console)
