"""A value for each side."""

from __future__ import annotations

from padiff_rpc.per_side import PerSide


def test_a_pair_unpacks_base_first() -> None:
    base, raw = PerSide("b", "r")
    assert ("b", "r") == (base, raw)


def test_a_pair_can_be_made_with_its_type() -> None:
    assert PerSide(1, 2) == PerSide[int](1, 2)


def test_values_are_found_by_the_sides_name() -> None:
    pair = PerSide(1, 2)
    assert (1, 2) == (pair.of("base"), pair.of("raw"))
    assert (("base", 1), ("raw", 2)) == pair.items()
    assert PerSide("1", "2") == pair.map(str)
