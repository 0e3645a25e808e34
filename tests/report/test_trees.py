"""Which rows of the two trees are shown, and which stand on one line."""

from __future__ import annotations

from padiff_rpc.report.trees import side_by_side
from padiff_rpc.result import LayerRef
from tests.report import results


def rows(base, raw, paired, target, found=None, **changes):
    """(base label, raw label, mark) of every row, for a divergence at `target` (base route, raw route)."""
    found_at = results.pair(*(found or target), 0.5)
    one = results.divergence(found_at, LayerRef(target[0], "X"), LayerRef(target[1], "X"))
    result = results.result(
        [found_at],
        [one],
        trees={"base": [(route, "X") for route in base], "raw": [(route, "X") for route in raw]},
        paired_routes=paired,
        **changes,
    )

    def label(node):
        if node is None:
            return None
        return f"+{node.hidden}" if node.hidden else node.label

    return [(label(row.base), label(row.raw), row.mark) for row in side_by_side(result, one)]


def test_only_two_siblings_on_either_side_are_shown_and_the_others_counted():
    base = ["", *(f"l{i}" for i in range(9))]

    assert rows(base, base, [(one, one) for one in base], ("l4", "l4")) == [
        ("", "", ""),
        ("+2", "+2", ""),
        ("l2", "l2", ""),
        ("l3", "l3", ""),
        ("l4", "l4", "here"),
        ("l5", "l5", ""),
        ("l6", "l6", ""),
        ("+2", "+2", ""),
    ]


def test_a_layer_without_partner_stands_alone():
    assert rows(["", "a", "drop"], ["", "extra", "x"], [("", ""), ("a", "x")], ("a", "x")) == [
        ("", "", ""),
        (None, "extra", ""),
        ("a", "x", "here"),
        ("drop", None, ""),
    ]


def test_layers_that_cross_are_both_shown():
    assert rows(["", "q", "k"], ["", "k", "q"], [("", ""), ("q", "q"), ("k", "k")], ("q", "q")) == [
        ("", "", ""),
        (None, "k", ""),
        ("q", "q", "here"),
        ("k", None, ""),
    ]


def test_a_long_chain_of_ancestors_is_folded_below_the_root():
    chain = ["", "a", "a.b", "a.b.c", "a.b.c.d", "a.b.c.d.e"]

    assert rows(chain, chain, [(one, one) for one in chain], ("a.b.c.d.e", "a.b.c.d.e")) == [
        ("", "", ""),
        ("a.b.c", "a.b.c", ""),
        ("d", "d", ""),
        ("e", "e", "here"),
    ]


def test_children_around_the_place_where_it_was_seen_are_shown():
    base = ["", "m", *(f"m.l{i}" for i in range(9))]

    shown = rows(base, base, [(one, one) for one in base], ("m", "m"), ("m.l5", "m.l5"))

    assert shown[1:6] == [
        ("m", "m", "here"),
        ("+3", "+3", ""),
        ("l3", "l3", ""),
        ("l4", "l4", ""),
        ("l5", "l5", "seen"),
    ]


def test_the_root_itself_can_be_the_place():
    assert rows(["", "a"], ["", "a"], [("", ""), ("a", "a")], ("", "")) == [("", "", "here"), ("a", "a", "")]


def test_a_result_without_trees_shows_none():
    assert rows([], [], [], ("a", "a")) == []
