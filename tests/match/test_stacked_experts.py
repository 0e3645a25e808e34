"""Experts that one side stacks, [E, D, F], and the other keeps in a list: which parts are linked with which Linears, and how."""

from __future__ import annotations

import pytest

from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.match import match_models
from padiff_rpc.match.user_map import UserMap, parse_parameters
from padiff_rpc.per_side import PerSide
from tests.match.descriptions import L, describe, failing, links, match, net, paddle_linear, routes, seq, user

D, F, COUNT = 8, 6, 3


def listed(
    inner: int = F, bias: bool = False, names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
) -> L:
    gate, up, down = names
    expert = {
        gate: paddle_linear(D, inner, bias),
        up: paddle_linear(D, inner, bias),
        down: paddle_linear(inner, D, bias),
    }
    return seq(*(user("Expert", expert) for _ in range(COUNT)), kind="LayerList")


def moe(experts: L, **own: tuple[int, ...]) -> L:
    return net(moe=user("Moe", {"router": L("Linear", {"weight": (4, D)}), "experts": experts}, **own))


def paddle_moe(experts: L) -> L:
    return net(moe=user("Moe", {"router": L("Linear", {"weight": (D, 4)}), "experts": experts}))


def fails(matching: Matching) -> list[str]:
    return [*failing(matching.unmatched_base), *failing(matching.unmatched_raw)]


@pytest.mark.parametrize("stacked", ["out_in", "in_out"])
def test_gate_and_up_stacked_and_packed_are_linked_with_both_linears_of_each_expert(stacked: str) -> None:
    shapes = {"gate_up_proj": (2 * F, D), "down_proj": (D, F), "gate_up_proj_bias": (2 * F,), "down_proj_bias": (D,)}
    own = {name: (COUNT, *(shape[::-1] if stacked == "in_out" else shape)) for name, shape in shapes.items()}
    found = match(moe(L("Experts", own, own_class=True)), paddle_moe(listed(bias=True)))
    assert {"": "", "moe": "moe", "moe.router": "moe.router", "moe.experts": "moe.experts"} == routes(found)
    assert [] == fails(found)
    made = links(found)
    assert 4 * COUNT + 1 == len(made)
    gate_up = "moe.experts.2.gate_proj.weight,moe.experts.2.up_proj.weight"
    cut, moved = ("split_transpose", "transpose") if stacked == "out_in" else ("split_columns", "identity")
    assert (gate_up, cut) == made["moe.experts.gate_up_proj[2]"]
    assert (gate_up.replace("weight", "bias"), "split") == made["moe.experts.gate_up_proj_bias[2]"]
    assert ("moe.experts.1.down_proj.weight", moved) == made["moe.experts.down_proj[1]"]
    assert ("moe.experts.0.down_proj.bias", "identity") == made["moe.experts.down_proj_bias[0]"]


def test_a_list_of_linears_for_each_matrix_is_linked_with_the_stacks_of_a_layer_above_it() -> None:
    lists = {
        name: seq(*(paddle_linear(*size, False) for _ in range(COUNT)), kind="LayerList")
        for name, size in (("w1", (D, F)), ("w3", (D, F)), ("w2", (F, D)))
    }
    base = net(
        moe=user(
            "Moe", {"router": L("Linear", {"weight": (4, D)})}, w1=(COUNT, D, F), w3=(COUNT, D, F), w2=(COUNT, F, D)
        )
    )
    found = match(base, net(moe=user("Moe", {"router": L("Linear", {"weight": (D, 4)}), **lists})))
    assert [] == fails(found)
    made = links(found)
    assert {"moe.w1[1]": "moe.w1.1.weight", "moe.w2[0]": "moe.w2.0.weight", "moe.w3[2]": "moe.w3.2.weight"}.items() <= {
        name: raw for name, (raw, _) in made.items()
    }.items()
    assert {"identity", "transpose"} == {rule for _, rule in made.values()}
    assert ("moe.router.weight", "transpose") == made["moe.router.weight"]


def test_square_matrices_leave_the_choice_to_trying_all_experts_together() -> None:
    found = match(moe(user("Experts", w1=(COUNT, D, D), w3=(COUNT, D, D), w2=(COUNT, D, D))), paddle_moe(listed(D)))
    assert [COUNT] * 3 == [len(choice.alternatives[0].links) for choice in found.choices]
    rules = [{link.rule for link in each.links} for choice in found.choices for each in choice.alternatives]
    assert [{"transpose"}, {"identity"}] * 3 == rules


def test_names_that_say_nothing_are_linked_in_order_and_called_a_guess() -> None:
    named = listed(names=("a", "b", "c"))
    found = match(moe(user("Experts", x=(COUNT, D, F), y=(COUNT, D, F), z=(COUNT, F, D))), paddle_moe(named))
    assert [] == fails(found)
    assert ("moe.experts.1.b.weight", "identity") == links(found)["moe.experts.y[1]"]
    assert any("matched x -> moe.experts.0.a and so on by order, which is a guess" in note for note in found.notes)


def test_what_both_sides_stack_is_matched_whole() -> None:
    own = {"gate_up_proj": (COUNT, 2 * F, D), "down_proj": (COUNT, D, F)}
    found = match(moe(L("Experts", own, own_class=True)), paddle_moe(L("Experts", own, own_class=True)))
    assert ("moe.experts.down_proj", "identity") == links(found)["moe.experts.down_proj"]


@pytest.mark.parametrize("sizes", [(COUNT + 1, D, F), (COUNT, D, F + 1)], ids=str)
def test_stacks_of_other_sizes_stay_whole_and_are_said_to_have_no_partner(sizes: tuple[int, int, int]) -> None:
    count, width, inner = sizes
    own = {"w1": (count, width, inner), "w3": (count, width, inner), "w2": (count, inner, width)}
    found = match(moe(L("Experts", own, own_class=True)), paddle_moe(listed()))
    alone = [name for entry in found.unmatched_base if entry.fails for name in entry.tensors]
    assert ["moe.experts.w1", "moe.experts.w3", "moe.experts.w2"] == alone


def test_a_map_that_names_parts_cuts_what_would_stay_whole() -> None:
    """Two of three experts lie in a list, which no rule takes for the same: the map says what corresponds."""
    pair = PerSide(
        describe("torch", net(w=user("W", w=(2, D, F)))),
        describe("paddle", net(first=user("W", w=(D, F)), second=user("W", w=(F, D)))),
    )
    parameters = parse_parameters({"w.w[0]": "first.w", "w.w[1]": "second.w by transpose"})
    found = match_models(pair.base, pair.raw, UserMap(parameters=parameters))
    assert {"w.w[0]": ("first.w", "identity"), "w.w[1]": ("second.w", "transpose")} == links(found)
    assert [] == fails(found)


def test_a_map_that_names_a_stack_keeps_it_whole() -> None:
    own = {"w1": (COUNT, D, F), "w3": (COUNT, D, F), "w2": (COUNT, F, D)}
    raw = net(moe=user("Moe", {"experts": listed(), "spare": user("Spare", w=(COUNT * D, F))}))
    base = net(moe=user("Moe", {"experts": L("Experts", own, own_class=True)}))
    found = match(base, raw, parameter_map={"moe.experts.w1": "moe.spare.w by reshape"})
    assert ("moe.spare.w", "reshape") == links(found)["moe.experts.w1"]
