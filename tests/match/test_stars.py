"""Names that are alike are written once, with a star for each number that goes the same way in all of them."""

from __future__ import annotations

import pytest

from padiff_rpc.match.stars import alike


@pytest.mark.parametrize(
    ("rows", "written"),
    [
        ([("h.0.w", "l.0.w"), ("h.1.w", "l.1.w")], {("h.*.w", "l.*.w"): 2}),
        ([("h.0.w", "l.1.w"), ("h.1.w", "l.2.w")], {("h.0.w", "l.1.w"): 1, ("h.1.w", "l.2.w"): 1}),
        ([("h.3.w", "l.3.w")], {("h.3.w", "l.3.w"): 1}),
        ([("h.0.fc", "l_0.mlp.2"), ("h.1.fc", "l_1.mlp.2")], {("h.*.fc", "l_*.mlp.2"): 2}),
        (
            [(f"h.{layer}.m.{at}", f"l.{layer}.m.{at + 1}") for layer in range(3) for at in (0, 2)],
            {("h.*.m.0", "l.*.m.1"): 3, ("h.*.m.2", "l.*.m.3"): 3},
        ),
        ([(f"h.{a}.{b}", f"l{a}_{b}") for a in range(2) for b in range(3)], {("h.*.*", "l*_*"): 6}),
        (
            [(f"h.{a}.{b}", f"l.{b}.{a}") for a in range(2) for b in range(2)],
            {("h.*.0", "l.0.*"): 2, ("h.*.1", "l.1.*"): 2},
        ),
        ([("h.0.q", "h.0.k", "l.0.qk"), ("h.1.q", "h.1.k", "l.1.qk")], {("h.*.q", "h.*.k", "l.*.qk"): 2}),
        (
            [("h.0.q", "h.0.k", "l.0.qk"), ("h.1.q", "h.0.k", "l.1.qk")],
            {("h.0.q", "h.0.k", "l.0.qk"): 1, ("h.1.q", "h.0.k", "l.1.qk"): 1},
        ),
    ],
)  # fmt: skip
def test_numbers_that_go_the_same_way_become_stars(
    rows: list[tuple[str, ...]], written: dict[tuple[str, ...], int]
) -> None:
    assert written == {one.names: len(one.rows) for one in alike(rows, [0] * len(rows))}


def test_rows_that_are_to_stand_apart_do() -> None:
    found = alike([("h.0", "l.0"), ("h.1", "l.1"), ("h.2", "l.2")], ["identity", "transpose", "identity"])
    assert [(("h.*", "l.*"), (0, 2)), (("h.1", "l.1"), (1,))] == [(one.names, one.rows) for one in found]
