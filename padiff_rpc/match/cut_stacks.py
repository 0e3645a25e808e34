"""Choose the stacks of tensors that are matched part by part: those whose parts a map names, and those beside lists of layers."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.match.stacked_experts import stacked_beside_lists
from padiff_rpc.match.tree import build_tree
from padiff_rpc.match.user_map import STAR, UserMap
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.model.part_names import in_parts, stack_name
from padiff_rpc.per_side import SIDES, PerSide

_PART = re.compile(r"(.+)\[(?:\d+|\*)\]")


@dataclass(frozen=True)
class CutStacks:
    """Two models' descriptions with stacks cut into parts.

    Attributes:
        described: the descriptions.
        found: the full names of each side's stacks that were cut since the other side has lists, and not for the map.
    """

    described: PerSide[ModelDescription]
    found: PerSide[set[str]]

    def idle(self, links: Iterable[ParameterLink]) -> PerSide[set[str]]:
        """Return those of the found stacks of which no part has got a link."""
        kept = list(links)
        base = self.found.base - {stack_name(name) for link in kept for name in link.base}
        return PerSide(base, self.found.raw - {stack_name(name) for link in kept for name in link.raw})


def cut_stacks(described: PerSide[ModelDescription], user_map: UserMap, whole: PerSide[Collection[str]]) -> CutStacks:
    """Cut the stacks that are to be matched part by part.

    Args:
        described: the two models.
        user_map: names tensors; one that it names whole stays whole.
        whole: the full names of other stacks that are to stay whole.
    """
    named = PerSide(
        [name for entry in user_map.parameters for name in entry.base],
        [name for entry in user_map.parameters for name in entry.raw],
    )
    asked = PerSide(*(_asked(described.of(side), named.of(side)) for side in SIDES))
    kept = PerSide(*(set(_like(described.of(side), named.of(side))) for side in SIDES))
    found: PerSide[set[str]] = PerSide(set(), set())
    if any(len(info.spec.shape) == 3 for model in described for info in model.parameters):
        found = stacked_beside_lists(described.map(build_tree))
        found = PerSide(*(found.of(side) - asked.of(side) - kept.of(side) - set(whole.of(side)) for side in SIDES))
    cut = PerSide(*(in_parts(described.of(side), asked.of(side) | found.of(side)) for side in SIDES))
    return CutStacks(cut, found)


def _asked(model: ModelDescription, names: Iterable[str]) -> set[str]:
    own = {name for info in model.parameters for name in (info.name, *info.aliases)}
    return set(_like(model, (found[1] for name in names if name not in own and (found := _PART.fullmatch(name)))))


def _like(model: ModelDescription, names: Iterable[str]) -> Iterator[str]:
    """Yield the model's names of the tensors that a map calls so, where a star is a number."""
    patterns = [re.compile("\\d+".join(map(re.escape, name.split(STAR)))) for name in dict.fromkeys(names)]
    for info in model.parameters if patterns else ():
        if any(pattern.fullmatch(name) for name in (info.name, *info.aliases) for pattern in patterns):
            yield info.name
