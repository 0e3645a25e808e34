"""Link the parameters and buffers of two layers that correspond, each link under a layout rule."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import get_args

from padiff_rpc.match.adapters import find_adapter
from padiff_rpc.match.embedding_weights import link_tables, other_kind
from padiff_rpc.match.layer_families import parameter_name
from padiff_rpc.match.layer_map import Choice, ParameterLink, Special
from padiff_rpc.match.link_stacks import link_stacks
from padiff_rpc.match.packed_parameters import link_own
from padiff_rpc.match.rule_between import RuleFound, rule_between, rule_for_namesakes
from padiff_rpc.match.special_init import SpecialInit
from padiff_rpc.match.tree import LayerNode
from padiff_rpc.model.model import ParameterInfo, ParameterKind
from padiff_rpc.per_side import OTHER_SIDE, PerSide
from padiff_rpc.result import Unmatched


@dataclass
class LayerLinks:
    """The outcome of linking the tensors of one layer pair.

    Attributes:
        links: the links of parameters and buffers.
        unmatched: the parameters and buffers of each side without a link, and why.
        absorbed: sublayers whose parameters the other side's layer holds itself, each with the reason why it has no partner.
        notes: sentences that a reader should see.
        choices: what names and shapes leave in doubt of the links.
        guesses: the full names, in base and raw, of tensors that were linked by their order alone.
    """

    links: list[ParameterLink] = field(default_factory=list)
    unmatched: PerSide[list[Unmatched]] = field(default_factory=lambda: PerSide([], []))
    absorbed: dict[LayerNode, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    guesses: list[tuple[str, str]] = field(default_factory=list)


def link_layers(pair: PerSide[LayerNode], mapped: PerSide[set[str]], partnered: Collection[LayerNode]) -> LayerLinks:
    """Link the tensors that two layers hold themselves, and those of sublayers if one side packs them into its own.

    Args:
        pair: two layers that correspond.
        mapped: full names of the tensors that the user's parameter map links; they are passed over.
        partnered: layers that have a partner already; their tensors are passed over.
    """
    result = LayerLinks()
    unlinked = PerSide(_own_tensors(pair.base, mapped.base), _own_tensors(pair.raw, mapped.raw))
    result.links, result.absorbed = link_own(pair, unlinked, mapped)
    _link_adapter(result, pair, unlinked, mapped)
    stacks = link_stacks(pair, unlinked, mapped)
    result.links += [link for choice in stacks.choices for link in choice.alternatives[0].links]
    result.choices += stacks.choices
    result.absorbed |= stacks.absorbed
    result.notes += stacks.notes
    result.guesses += stacks.guesses
    _link_by_name(result, pair, unlinked)
    for link in link_tables(pair, unlinked, mapped, partnered):
        result.links.append(link.link)
        result.absorbed[link.table] = link.why
        result.notes.append(link.note)
    if not pair.base.family or not pair.raw.family:
        _link_by_shape(result, pair, unlinked)
    for side, tensors in unlinked.items():
        node, other_side = pair.of(side), OTHER_SIDE[side]
        for name, info in tensors.items():
            result.unmatched.of(side).append(_unmatched(node, name, info, pair.of(other_side), other_side))
    return result


def link_specially(base: LayerNode, raw: LayerNode, init: SpecialInit, linked: Collection[str]) -> list[ParameterLink]:
    """Link all tensors in and below two layers through a special initialiser.

    Returns at most two links: one for raw's parameters, and one for raw's buffers.

    Args:
        base: base's layer, all of whose tensors the initialiser may use.
        raw: raw's layer, whose tensors it fills.
        init: the special initialiser.
        linked: full names of raw's tensors that have a link already, since the parameter map names them, or they are tied to
            tensors outside the layer. They get no second link.
    """
    sources = dict.fromkeys(info.name for node in base.subtree() for info in node.own.values())
    targets = {
        info.name: (info, node.why_dispensable(name))
        for node in reversed(list(raw.subtree()))
        for name, info in reversed(node.own.items())
    }
    free = {name: entry for name, entry in reversed(targets.items()) if name not in linked}
    required = tuple(name for name, (_, why) in free.items() if not why)
    optional = tuple(name for name in targets if name not in required)
    special = Special(init.base, init.raw, init.live, required, optional)
    links: list[ParameterLink] = []
    for kind in get_args(ParameterKind):
        names = tuple(name for name, (info, _) in free.items() if info.kind == kind)
        if names:
            rule = f"special:{init.base}->{init.raw}"
            links.append(ParameterLink(base.route, raw.route, tuple(sources), names, rule, kind, special))
    return links


def _own_tensors(node: LayerNode, mapped: Collection[str]) -> dict[str, ParameterInfo]:
    """Return the tensors that a layer holds itself, by their names in it, without those that the parameter map links."""
    return {name: info for name, info in node.own.items() if info.name not in mapped}


def _link_adapter(
    result: LayerLinks,
    pair: PerSide[LayerNode],
    unlinked: PerSide[dict[str, ParameterInfo]],
    mapped: PerSide[set[str]],
) -> None:
    """Link what one layer of a pair holds itself with what the other keeps in layers inside it, which get no partner then."""
    adapter = find_adapter(pair)
    if adapter is None:
        return
    side, other = adapter.whole_side, OTHER_SIDE[adapter.whole_side]
    whole = pair.of(side)
    for name, (node, local) in adapter.places.items():
        info = node.own[local]
        if name not in unlinked.of(side) or info.name in mapped.of(other):
            continue
        base, raw = ((whole, name), (node, local)) if side == "base" else ((node, local), (whole, name))
        found = rule_between(*base, *raw)
        if not found.rule:
            continue
        own = unlinked.of(side).pop(name)
        _add(result, pair, PerSide(own, info) if side == "base" else PerSide(info, own), found)
    why = f"{whole.shown} holds the parameters itself in {side}, so that no output in here has a counterpart"
    result.absorbed |= dict.fromkeys(pair.of(other).descendants(), why)


def _link_by_name(result: LayerLinks, pair: PerSide[LayerNode], unlinked: PerSide[dict[str, ParameterInfo]]) -> None:
    """Link the tensors whose names agree; in layers of known families, tensors of one name and two shapes are a mismatch.

    What is linked or mismatched is removed from `unlinked`.
    """
    (base, raw), (mine, theirs) = pair, unlinked
    raw_names = {parameter_name(raw.family, name): name for name in theirs}
    for name in list(mine):
        raw_name = raw_names.get(parameter_name(base.family, name))
        if raw_name is None:
            continue
        found = rule_for_namesakes(base, name, raw, raw_name)
        if found.rule:
            _add(result, pair, PerSide(mine.pop(name), theirs.pop(raw_name)), found)
        elif base.family and raw.family:
            _add_mismatch(result, mine.pop(name), theirs.pop(raw_name))


def _link_by_shape(result: LayerLinks, pair: PerSide[LayerNode], unlinked: PerSide[dict[str, ParameterInfo]]) -> None:
    """Link the tensors that names left over in a user's own class: in order, each with the first one whose shape fits.

    What is linked, or is a mismatch of two tensors of one name, is removed from `unlinked`.
    """
    (base, raw), (mine, theirs) = pair, unlinked
    made: list[tuple[str, str]] = []
    guessed = False
    for name in list(mine):
        fitting = [
            (raw_name, rule_between(base, name, raw, raw_name))
            for raw_name, info in theirs.items()
            if info.kind == mine[name].kind and info.spec.dtype.is_floating == mine[name].spec.dtype.is_floating
        ]
        fitting = [candidate for candidate in fitting if candidate[1].rule]
        if not fitting:
            continue
        raw_name, found = fitting[0]
        rivals = sum(1 for other in mine if rule_between(base, other, raw, raw_name).rule)
        if len(fitting) > 1 or rivals > 1:
            guess = f"{base.shown}: matched {name} -> {raw_name} by order, which is a guess, for their shapes are alike"
            result.notes.append(guess)
            guessed = True
        made.append((mine[name].name, theirs[raw_name].name))
        _add(result, pair, PerSide(mine.pop(name), theirs.pop(raw_name)), found)
    result.guesses += made if guessed else []
    for name in list(mine):
        if name in theirs:
            _add_mismatch(result, mine.pop(name), theirs.pop(name))


def _add(result: LayerLinks, pair: PerSide[LayerNode], tensors: PerSide[ParameterInfo], found: RuleFound) -> None:
    """Add the link of two tensors, its note and what is in doubt of it. Where one of them is a buffer, both count as such."""
    mine, theirs = tensors
    kind = mine.kind if mine.kind == theirs.kind else "buffer"
    link = ParameterLink(pair.base.route, pair.raw.route, (mine.name,), (theirs.name,), found.rule, kind)
    result.links.append(link)
    result.choices += found.choices(link)
    if found.note:
        result.notes.append(found.note)
    if mine.kind != theirs.kind:
        result.notes.append(f"{mine.name} is a {mine.kind} in base, {theirs.name} a {theirs.kind} in raw")


def _add_mismatch(result: LayerLinks, base: ParameterInfo, raw: ParameterInfo) -> None:
    mine, theirs = list(base.spec.shape), list(raw.spec.shape)
    result.unmatched.base.append(
        Unmatched(base.kind, base.name, f"shape {mine} against {theirs} of raw's {raw.name}", True)
    )
    result.unmatched.raw.append(
        Unmatched(raw.kind, raw.name, f"shape {theirs} against {mine} of base's {base.name}", True)
    )


def _unmatched(node: LayerNode, name: str, info: ParameterInfo, other: LayerNode, other_side: str) -> Unmatched:
    reason = node.why_dispensable(name)
    why = (
        reason
        or other_kind(node, name, other, other_side)
        or f"{other_side}'s {other.shown} ({other.info.class_name}) has none like it; shape {list(info.spec.shape)}"
    )
    return Unmatched(info.kind, info.name, why, not reason, () if reason else (info.name,))
