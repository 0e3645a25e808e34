"""The benchmark on models of a tiny size: they align, and every figure of a case is taken."""

from __future__ import annotations

import pytest

from benchmarks.cases import case_of
from benchmarks.huge import measure_huge
from benchmarks.parts import CASE_PARTS, measure_case
from benchmarks.settings import SETTINGS

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_decoder"])
def test_a_tiny_case_aligns_in_every_setting_and_all_its_figures_are_taken(name: str) -> None:
    figures = measure_case(case_of(name), list(CASE_PARTS), 1, str)
    assert [] == [figure.note for figure in figures if figure.value is None]
    steps = {figure.name: figure.note for figure in figures if figure.group == "aligned step"}
    assert set(SETTINGS) == set(steps)
    assert [] == [note for note in steps.values() if "; aligned, " not in note]
    assert {"aligned step", "memory", "disk", "probe", "weights"} == {figure.group for figure in figures}


def test_a_tensor_goes_to_a_worker_and_back_unchanged() -> None:
    figures = measure_huge(1, str, mib=8)
    assert [1.0] * 4 == [figure.value for figure in figures]
