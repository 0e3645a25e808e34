"""Report the layers and tensors that have no partner in a matching: why, and whether that makes the comparison fail."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from padiff_rpc.match.tree import LayerNode, similarity
from padiff_rpc.model.model import ParameterInfo
from padiff_rpc.result import Unmatched


@dataclass(frozen=True)
class Remains:
    """One side of a finished matching, with all that it takes to say what has no partner there.

    Attributes:
        nodes: this side's layers by route, in definition order.
        paired: this side's layers that have a partner.
        absorbed: layers whose tensors are linked as part of another layer, each with the reason why it has no partner.
        linked: full names of this side's tensors that have a link.
        tables: why tensors without a link need none, by full name (see `constant_tables`).
        excused: the reason by route for layers whose missing partners are no failure.
        free: the other side's layers that have no partner.
        alone: full names of the other side's tensors whose missing partners are a failure, in layers that are paired.
        others: all of the other side's tensors, by full name.
        other_side: "base" or "raw".
    """

    nodes: Mapping[str, LayerNode]
    paired: Collection[LayerNode]
    absorbed: Mapping[LayerNode, str]
    linked: Collection[str]
    tables: Mapping[str, str]
    excused: Mapping[str, str]
    free: Sequence[LayerNode]
    alone: Sequence[str]
    others: Mapping[str, ParameterInfo]
    other_side: str


def unmatched(remains: Remains, found: Sequence[Unmatched]) -> list[Unmatched]:
    """Return all of one side that has no partner: first the tensors in paired layers, then unpaired layers.

    An unpaired layer stands for all layers below it, unless one of these is paired. It fails if it holds a tensor that needs a
    partner and whose layer is not excused; a tensor whose layer is excused has an entry of its own.

    Args:
        remains: the side in question.
        found: the tensors in paired layers that have no partner. In excused layers they are changed so as not to fail.
    """
    holders = {info.name: route for route, node in reversed(list(remains.nodes.items())) for info in node.own.values()}
    tables = remains.tables
    found = [_passed(each, tables[each.name]) if each.name in tables else each for each in found]
    entries = [_excused(entry, remains.excused.get(holders[entry.name], "")) for entry in found]
    settled = {*remains.linked, *tables, *(entry.name for entry in found)}
    covered: set[LayerNode] = set()
    for node in remains.nodes.values():
        if node in remains.paired or node in covered:
            continue
        wraps = any(below in remains.paired for below in node.descendants())
        alone = [node] if wraps else list(node.subtree())
        covered |= set(alone)
        missing = [
            (below, info)
            for below in alone
            for name, info in below.own.items()
            if info.name not in settled and not below.why_dispensable(name)
        ]
        failing = [info for below, info in missing if below.route not in remains.excused]
        alone_tables = [info for below in alone for info in below.own.values() if info.name in tables]
        entries.append(_layer(remains, node, wraps, failing, bool(missing or alone_tables)))
        entries += [Unmatched(info.kind, info.name, tables[info.name], False) for info in alone_tables]
        entries += [
            Unmatched(info.kind, info.name, f"left out: {remains.excused[below.route]}", False)
            for below, info in missing
            if below.route in remains.excused
        ]
    return entries


def _excused(entry: Unmatched, why: str) -> Unmatched:
    return _passed(entry, f"{entry.why}; left out: {why}") if why and entry.fails else entry


def _passed(entry: Unmatched, why: str) -> Unmatched:
    return replace(entry, why=why, fails=False, tensors=())


def _layer(remains: Remains, node: LayerNode, wraps: bool, failing: Sequence[ParameterInfo], lacks: bool) -> Unmatched:
    """Report one layer without partner.

    Args:
        remains: the side of the layer.
        node: the layer.
        wraps: whether a layer below it is paired.
        failing: the tensors in it (and below it, unless it wraps) that need a partner and are not excused.
        lacks: whether a tensor there needs a partner, excused or not.
    """
    if wraps:
        why = "only this side has this wrapper; its children were matched"
    else:
        why = remains.absorbed.get(node) or (
            _other_kind(node, remains)
            or _parametrizes(node, remains.other_side)
            or _why_alone(node, remains.free, remains.other_side)
            if lacks or not node.has_parameters
            else "its parameters correspond to those of other layers"
        )
    tensors = [f"{info.name} {list(info.spec.shape)}" for info in failing]
    if tensors:
        shown = ", ".join(tensors[:4]) + (f" and {len(tensors) - 4} more" if len(tensors) > 4 else "")
        why = f"{why}; it holds {shown}"
    elif node.route in remains.excused:
        why = f"{why}; left out: {remains.excused[node.route]}"
    return Unmatched("layer", node.shown, why, bool(tensors), tuple(info.name for info in failing))


def _other_kind(node: LayerNode, remains: Remains) -> str:
    """Say that the other side has an unmatched tensor of the shape of this Embedding's weight, and how to link them; or ""."""
    if node.family != "embedding" or "weight" not in node.own:
        return ""
    shape = node.own["weight"].spec.shape
    like = [remains.others[name] for name in remains.alone if remains.others[name].spec.shape == shape]
    if not like:
        return ""
    return (
        f"an Embedding here; {remains.other_side}'s {like[0].kind} {like[0].name} has the shape of its weight: use one kind "
        "and one name on both sides, or link the two in the parameter map"
    )


def _parametrizes(node: LayerNode, other_side: str) -> str:
    """Say what torch computes in this layer at every forward, if it is one that holds parametrizations; else ""."""
    lists = [child for child in node.children if child.family == "parametrizationlist"]
    if not lists:
        return ""
    steps = [f"{each.name} by {' and '.join(step.info.class_name for step in each.children)}" for each in lists]
    if not node.has_parameters:
        return f"computes {', '.join(steps)} at every forward; {other_side} has no layer for that"
    return (
        f"computes {', '.join(steps)} at every forward, from what {other_side} has no counterpart of: use the same on both "
        "sides, or torch.nn.utils.parametrize.remove_parametrizations first"
    )


def _why_alone(node: LayerNode, free: Sequence[LayerNode], other_side: str) -> str:
    """Say which unpaired layer of the other side is most like this one and why it does not fit, or that there is none."""
    like = [other for other in free if other.name == node.name and other.name]
    if not like:
        like = [
            other for other in free if similarity(node, other) > 0.5 or (node.family and node.family == other.family)
        ]
    if not like:
        return f"{other_side} has no counterpart of this {node.info.class_name}"
    other = next((candidate for candidate in like if candidate.route == node.route), like[0])
    if not node.has_parameters and not other.has_parameters:
        return f"{other_side} has no {node.info.class_name} in the same place"
    if other.family and node.family and other.family != node.family:
        return f"{other_side}'s {other.shown} is a {other.info.class_name}, not a {node.info.class_name}"
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in list(other.shapes.items())[:4])
    return f"no counterpart fits; {other_side}'s {other.shown} ({other.info.class_name}) holds {shapes or 'no tensor itself'}"
