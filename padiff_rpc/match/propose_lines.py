"""Propose lines of a map for what has no partner. Each is tried on the two descriptions before it is proposed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from padiff_rpc.errors import PadiffError
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.map_lines import map_lines
from padiff_rpc.match.stars import alike, numberless
from padiff_rpc.match.user_map import MappedParameters, UserMap
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Unmatched

_MOST_TRIED = 12
"""How many lines are tried, each with a whole matching."""
_NEAR = 0.5
"""How like two names must be, where several could be meant."""


@dataclass(frozen=True)
class _Group:
    """What has no partner and differs in numbers only.

    Attributes:
        name: is the name of all, with stars.
        entries: are they.
    """

    name: str
    entries: tuple[Unmatched, ...]

    def holds(self, sizes: dict[str, int]) -> Counter[int]:
        """Return how many tensors of each number of elements the first entry has."""
        return Counter(sizes[name] for name in self.entries[0].tensors)


@dataclass(frozen=True)
class _Line:
    base: _Group
    raw: _Group
    table: str
    entries: tuple[MappedParameters, ...]


def with_proposals(
    described: PerSide[ModelDescription], matching: Matching, user_map: UserMap, again: Callable[[UserMap], Matching]
) -> Matching:
    """Return the matching with a line of a map for each entry without a partner for which there is a plausible one.

    Plausible is a partner that needs one as well, holds tensors as large, and has the nearest name. A line that the map does not
    take, or that leaves a tensor of the two without a partner, is not proposed.

    Args:
        described: are the two models.
        matching: is the whole matching.
        user_map: is the map that the user gives.
        again: matches the two models by another map.
    """
    groups = PerSide(_groups(matching.unmatched_base), _groups(matching.unmatched_raw))
    if not groups.base or not groups.raw:
        return matching
    proposed: PerSide[dict[str, str]] = PerSide({}, {})
    for line in list(_plausible(described, groups))[:_MOST_TRIED]:
        if not _links_all(line, user_map, again):
            continue
        known = {layer.route for layer in described.base.layers}
        if line.table == "parameters":
            known = {info.name for info in described.base.parameters}
        texts = [f"[{line.table}]\n{text}" for text in map_lines(line.entries, known)]
        for found, group in zip(proposed, (line.base, line.raw), strict=True):
            each = texts if len(texts) == len(group.entries) else texts[:1] * len(group.entries)
            found.update({entry.name: text for entry, text in zip(group.entries, each, strict=True)})
    return replace(
        matching,
        unmatched_base=_with(matching.unmatched_base, proposed.base),
        unmatched_raw=_with(matching.unmatched_raw, proposed.raw),
    )


def _groups(entries: Sequence[Unmatched]) -> list[_Group]:
    lost = [entry for entry in entries if entry.fails and entry.tensors]
    found = alike([(entry.name,) for entry in lost], [(entry.what, numberless(entry.why)) for entry in lost])
    return [_Group(one.names[0], tuple(lost[at] for at in one.rows)) for one in found]


def _plausible(described: PerSide[ModelDescription], groups: PerSide[list[_Group]]) -> Iterator[_Line]:
    """Yield a line for each group of base and the one group of raw that is most like it, if there is one."""
    sizes = described.map(lambda model: {info.name: info.spec.count for info in model.parameters})
    taken: set[str] = set()
    for base in groups.base:
        rivals = [
            raw
            for raw in groups.raw
            if raw.name not in taken
            and len(raw.entries) == len(base.entries)
            and raw.holds(sizes.raw) == base.holds(sizes.base)
        ]
        likeness = [_likeness(base.name, raw.name) for raw in rivals]
        best = max(likeness, default=0.0)
        if not rivals or (len(rivals) > 1 and (best < _NEAR or likeness.count(best) > 1)):
            continue
        raw = rivals[likeness.index(best)]
        taken.add(raw.name)
        yield _line(base, raw)


def _likeness(base: str, raw: str) -> float:
    return SequenceMatcher(None, base.lower(), raw.lower(), autojunk=False).ratio()


def _line(base: _Group, raw: _Group) -> _Line:
    """Pair the layers; where one of the two is no layer, or all that they hold is one tensor, link the tensors."""
    pairs = list(zip(base.entries, raw.entries, strict=True))
    if base.entries[0].what == raw.entries[0].what == "layer" and len(base.entries[0].tensors) > 1:
        entries = tuple(MappedParameters((one.name,), (other.name,)) for one, other in pairs)
        return _Line(base, raw, "layers", entries)
    entries = tuple(
        MappedParameters((mine,), (theirs,))
        for one, other in pairs
        for mine, theirs in zip(one.tensors, other.tensors, strict=True)
    )
    return _Line(base, raw, "parameters", entries)


def _links_all(line: _Line, user_map: UserMap, again: Callable[[UserMap], Matching]) -> bool:
    """Say whether all tensors of both groups are linked by a map that has this line as well."""
    if line.table == "layers":
        layers = {entry.base[0]: entry.raw[0] for entry in line.entries}
        tried = replace(user_map, layers={**user_map.layers, **layers})
    else:
        tried = replace(user_map, parameters=(*user_map.parameters, *line.entries))
    try:
        found = again(tried)
    except PadiffError:
        return False  # the line contradicts the map, or no layout rule joins the shapes
    linked = PerSide({n for link in found.links for n in link.base}, {n for link in found.links for n in link.raw})
    return all(
        names.issuperset(name for entry in group.entries for name in entry.tensors)
        for names, group in zip(linked, (line.base, line.raw), strict=True)
    )


def _with(entries: Sequence[Unmatched], proposed: dict[str, str]) -> tuple[Unmatched, ...]:
    return tuple(replace(entry, proposal=proposed.get(entry.name, "") if entry.fails else "") for entry in entries)
