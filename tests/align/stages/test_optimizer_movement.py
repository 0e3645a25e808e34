"""Whether the optimisers changed anything: what counts as a change, and which parameters are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from padiff_rpc.align.sides import Sides, Traffic
from padiff_rpc.align.stages.optimizer_movement import Moved, Movement
from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.model.model import Model
from padiff_rpc.per_side import PerSide
from tests.align.hand_made import HeldModel, link

LINKS = [link("driven"), link("idle")]
VALUES = {"driven": [1.0, 2.0], "idle": [3.0, 4.0]}
GRADIENTS = {"driven": [0.0, 1e-30], "idle": [0.0, 0.0]}
CHANGED = {"driven": np.nextafter(np.array([1.0, 2.0], np.float32), np.float32(9.0))}


def held(gradients: dict[str, Any] | None = None) -> HeldModel:
    return HeldModel(VALUES, GRADIENTS if gradients is None else gradients)


def movement(base: HeldModel, raw: HeldModel, links: Sequence[ParameterLink] = LINKS) -> Movement:
    rules = CompareRules()
    return Movement(Sides(cast("Model", base), cast("Model", raw), rules, False, Traffic()), links)


def moved(
    base_after: dict[str, Any],
    raw_after: dict[str, Any],
    base: HeldModel | None = None,
    raw: HeldModel | None = None,
) -> Moved:
    """Return what a step tells that leaves these values."""
    models = PerSide(base or held(), raw or held())
    watched = movement(*models)
    watched.before_step()
    for model, after in zip(models, (base_after, raw_after), strict=True):
        for name, value in after.items():
            model.set(name, value)
    return watched.after_step()


def test_each_side_is_told_by_itself() -> None:
    assert PerSide(True, False) == moved(CHANGED, {})
    assert PerSide(False, True) == moved({}, CHANGED)
    assert PerSide(True, True) == moved(CHANGED, CHANGED)


def test_a_step_that_changes_nothing_moves_nothing() -> None:
    assert PerSide(False, False) == moved({}, {})


def test_a_change_of_a_single_bit_counts() -> None:
    assert PerSide(True, False) == moved({"driven": [1.0, np.nextafter(np.float32(2.0), np.float32(3.0))]}, {})


def test_weight_decay_of_a_parameter_without_a_gradient_is_no_movement() -> None:
    """An optimiser that holds other parameters than these must not pass for its decay alone."""
    decayed = {"idle": [2.9, 3.9]}
    assert PerSide(False, False) == moved(decayed, decayed)


def test_beside_a_parameter_that_decays_one_with_a_gradient_is_still_seen_to_move() -> None:
    assert PerSide(True, False) == moved({"idle": [2.9, 3.9], **CHANGED}, {"idle": [2.9, 3.9]})


@pytest.mark.parametrize("gradients", [{}, {"driven": [0.0, 0.0], "idle": [0.0, 0.0]}], ids=["none", "zero"])
def test_a_side_whose_gradients_are_zero_or_absent_cannot_tell(gradients: dict[str, Any]) -> None:
    base = held(gradients)
    assert PerSide(None, False) == moved(CHANGED, {}, base=base)
    assert [["driven", "idle"]] == base.asked  # for the gradients alone, and nothing was asked for nothing


def test_a_parameter_without_a_gradient_beside_one_that_has_it_does_not_count() -> None:
    assert PerSide(False, False) == moved({"idle": [9.0, 9.0]}, {}, base=held({"driven": [1.0, 1.0]}))


def test_a_gradient_of_nan_drives_its_parameter() -> None:
    nan = held({"driven": [np.nan, 0.0]})
    assert PerSide(False, False) == moved({}, {}, base=nan)
    assert PerSide(True, False) == moved({"driven": [np.nan, 2.0]}, {}, base=held({"driven": [np.nan, 0.0]}))


def test_only_linked_parameters_are_watched_each_of_them_once() -> None:
    base = HeldModel({**VALUES, "loose": [1.0]}, {**GRADIENTS, "loose": [1.0]})
    raw = HeldModel({"q": [1.0], "k": [1.0]}, {"q": [1.0], "k": [1.0]})
    packed = replace(link("driven"), raw=("q", "k"))
    watched = movement(base, raw, [packed, replace(packed, raw=("q",))])
    watched.before_step()
    assert ["driven"] == base.asked[0]
    assert ["q", "k"] == raw.asked[0]
    base.set("loose", [5.0])
    raw.set("k", [5.0])
    assert PerSide(False, True) == watched.after_step()


def test_each_step_is_held_against_the_one_before() -> None:
    base, raw = held(), held()
    watched = movement(base, raw)
    told = []
    for value in ([5.0, 5.0], [5.0, 5.0]):
        watched.before_step()
        base.set("driven", value)
        told.append(watched.after_step().base)
    assert [True, False] == told
