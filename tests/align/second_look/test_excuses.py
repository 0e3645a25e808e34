"""What the floor excuses beyond the table is taken back where the layer got what agrees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from padiff_rpc.align.second_look.excuses import take_back_excuses
from padiff_rpc.align.stages.findings import StepResult
from padiff_rpc.compare.floor import WRONG
from padiff_rpc.result import Pair
from tests.align.hand_made import judged, measured, pair

FLOOR = 0.04


def told(stage: Any, tensor: str, rel_l2: float, excused: bool = False) -> Pair:
    metrics = measured(rel_l2=rel_l2, max_abs=rel_l2, floor=FLOOR, ratio=rel_l2 / FLOOR)
    allowed = WRONG * FLOOR if excused else 0.05
    return replace(pair(stage, "bn", tensor, metrics=metrics), status="pass", metrics=replace(metrics, allowed=allowed))


def statuses(took: float, made: float = 0.064, gradient: float = 0.0) -> list[str]:
    step = StepResult(0)
    step.forward = [
        judged(0, "bn", "input", told("forward", "input.0", took)),
        judged(1, "bn", "output", told("forward", "output.0", made, excused=True)),
    ]
    step.backward = [judged(2, "bn", "output", told("backward", "grad of output.0", took))]
    step.others = [told("grads", "weight", made, excused=True)]
    take_back_excuses([step])
    return [one.status for one in step.pairs]


@pytest.mark.parametrize(("took", "status"), [(0.0, "fail"), (0.003, "fail"), (0.005, "pass"), (0.1, "pass")])
def test_a_layer_is_excused_in_the_measure_in_which_its_inputs_are_apart(took: float, status: str) -> None:
    assert statuses(took) == ["pass", status, "pass", status]


def test_what_is_nothing_but_rounding_stays_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert statuses(took=0.0)[1] == "fail"
    monkeypatch.setitem(globals(), "FLOOR", 0.8)
    assert statuses(took=0.0, made=1.4)[1] == "pass"


def test_one_floor_of_its_inputs_is_all_that_counts() -> None:
    assert statuses(took=4.0, made=WRONG * FLOOR * 1.1)[1] == "fail"
    assert statuses(took=4.0, made=WRONG * FLOOR * 0.9)[1] == "pass"
