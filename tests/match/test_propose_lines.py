"""Lines of a map that are proposed for what has no partner: pasted, they pair it; where none is plausible, there is none."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import pytest

from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.match import match_models
from padiff_rpc.match.propose_lines import with_proposals
from padiff_rpc.match.user_map import UserMap, parse_parameters
from padiff_rpc.per_side import PerSide
from tests.match.descriptions import L, describe, net, paddle_linear, seq, torch_linear, user

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def proposed(base: L, raw: L, user_map: UserMap | None = None) -> Matching:
    described = PerSide(describe("torch", base), describe("paddle", raw))
    user_map = user_map or UserMap()

    def matched(by: UserMap) -> Matching:
        return match_models(*described, by)

    return with_proposals(described, matched(user_map), user_map, matched)


def lines(found: Matching) -> set[str]:
    return {entry.proposal for entry in (*found.unmatched_base, *found.unmatched_raw) if entry.fails}


def pasted(proposal: str) -> UserMap:
    tables: Mapping[str, Mapping[str, str]] = tomllib.loads(proposal)
    return UserMap(tables.get("layers", {}), parse_parameters(tables.get("parameters", {})))


def blocks(linear: L, **children: L) -> L:
    return net(layers=seq(*(user("Block", {"fc": linear, **children}) for _ in range(3))))


def embedding(rows: int) -> L:
    return L("Embedding", {"weight": (rows, 8)})


GATES = (
    blocks(torch_linear(8, 4), gate_proj=user("Gate", {"w": torch_linear(4, 5)})),
    blocks(paddle_linear(8, 4), gating=user("Gates", weight=(4, 5), bias=(5,))),
)
TABLES = (
    net(layers=seq(*(user("Block", {"fc": torch_linear(8, 4)}, first=(1, 9)) for _ in range(3)))),
    blocks(paddle_linear(8, 4), gain=user("Gain", weight=(9,))),
)
POSITIONS = (
    net(words=embedding(16), position=embedding(12)),
    user("Net", {"words": embedding(16)}, pos_embed=(12, 8)),
)


@pytest.mark.parametrize(
    ("models", "proposal"),
    [
        (GATES, '[layers]\n"layers.*.gate_proj" = "layers.*.gating"'),
        (TABLES, '[parameters]\n"layers.*.first" = "layers.*.gain.weight"'),
        (POSITIONS, '[parameters]\n"position.weight" = "pos_embed"'),
    ],
    ids=["layers", "parameters", "an embedding and a parameter"],
)
def test_a_line_is_proposed_that_pairs_all_when_it_is_pasted(models: tuple[L, L], proposal: str) -> None:
    found = proposed(*models)
    assert {proposal} == lines(found)
    again = proposed(*models, pasted(proposal))
    assert [] == [entry for entry in (*again.unmatched_base, *again.unmatched_raw) if entry.fails]


def test_what_one_side_alone_has_gets_no_line() -> None:
    pooler = user("Pooler", {"dense": paddle_linear(4, 4)})
    assert {""} == lines(proposed(net(fc=torch_linear(8, 4)), net(fc=paddle_linear(8, 4), pooler=pooler)))


def test_among_several_the_nearest_name_is_proposed_and_without_one_nothing() -> None:
    base = user("Net", {"fc": torch_linear(8, 4)}, position_table=(1, 12))
    other = {"fc": paddle_linear(8, 4), "words": user("Words", w=(12,))}
    near = proposed(base, user("Net", {**other, "positions": user("Table", position=(12,))}))
    assert '[parameters]\n"position_table" = "positions.position"' in lines(near)
    assert {""} == lines(proposed(base, user("Net", {**other, "second": user("Table", u=(12,))})))


def test_a_line_that_the_users_map_forbids_is_not_proposed() -> None:
    forbidding = UserMap({"layers.0.fc": "layers.0.gating"})
    with_map = proposed(
        blocks(torch_linear(4, 5), gate_proj=user("Gate", {"w": torch_linear(4, 5)})), GATES[1], forbidding
    )
    assert not [line for line in lines(with_map) if '"layers.*.gate_proj" = "layers.*.gating"' in line]
