"""Which gradients follow from a difference, and what may be left of it in them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from padiff_rpc.align.run.judged_boundary import Judged
from padiff_rpc.align.verdict.following_gradients import CUT_SHARE, FollowingGradients
from padiff_rpc.model.model import BoundarySide, LayerCall
from padiff_rpc.result import Pair
from tests.align.hand_made import judged, measured, pair

BLOCK: LayerCall = ("block", 0)


def apart(error: float, stage: str = "backward", route: str = "fc") -> Pair:
    return replace(pair("backward" if stage == "backward" else "grads", route), metrics=measured(rel_l2=error))


def boundary(seq: int, route: str, side: BoundarySide, error: float, caller: LayerCall | None = BLOCK) -> Judged:
    return judged(seq, route, side, apart(error, route=route), caller=caller)


def error_of(one: Pair) -> float:
    assert one.metrics is not None
    return one.metrics.rel_l2


def heal(
    left: float, seq: int = 2, side: BoundarySide = "output", size: float = 1.0, before: float = 0.0
) -> str | None:
    """Heal a difference at block.drop, of whose follower block.fc a share is left; block sends that back, too."""
    backward = [
        boundary(0, "block", "output", before, ("", 0)),
        boundary(seq, "block.drop", side, size),
        boundary(3, "block.fc", "input", left),
        boundary(4, "block", "input", left, ("", 0)),
    ]
    following = FollowingGradients(backward, [apart(left, "grads", "block.fc")], error_of)
    return following.heal(backward[1].base, size)


@pytest.mark.parametrize(("left", "route"), [(0.9 * CUT_SHARE, "block"), (1.1 * CUT_SHARE, None)])
@pytest.mark.parametrize("size", [1.0, 0.1])
def test_a_difference_heals_where_a_thousandth_of_it_is_left(left: float, route: str | None, size: float) -> None:
    assert route == heal(left * size, size=size)
    assert route == heal(left * size, size=size, side="input")


@pytest.mark.parametrize(("before", "route"), [(1e-3, "block"), (1e-4, None)])
def test_where_gradients_are_apart_before_it_as_much_may_be_left_after_it(before: float, route: str | None) -> None:
    assert route == heal(5e-3, before=before)


def test_what_follows_from_an_output_are_the_layers_own_gradients_first() -> None:
    backward = [boundary(0, "embed", "output", 1.0, ("", 0)), boundary(1, "", "input", 0.5, None)]
    following = FollowingGradients(backward, [apart(0.0, "grads", "embed")], error_of)
    assert "embed" == following.heal(backward[0].base, 1.0)


def test_where_nothing_that_follows_was_compared_nothing_heals() -> None:
    backward = [boundary(0, "drop", "output", 1.0, ("", 0))]
    assert FollowingGradients(backward, [], error_of).heal(backward[0].base, 1.0) is None
