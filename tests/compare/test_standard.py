"""A standard is all that a verdict depends on beside the tensors, and equal ones are one key."""

from __future__ import annotations

from padiff_rpc.compare.rules import CompareRules
from padiff_rpc.compare.standard import Standard


def test_equal_standards_are_one_key() -> None:
    one = Standard(CompareRules(mode="strict"), "forward", single_step=False)
    other = Standard(CompareRules(mode="strict"), "forward", single_step=False, noise_scale=0.0)
    assert {one: "known"} == {other: "known"}


def test_standards_of_two_stages_are_two_keys() -> None:
    rules = CompareRules()
    assert 2 == len({Standard(rules, "forward", single_step=False), Standard(rules, "backward", single_step=False)})
