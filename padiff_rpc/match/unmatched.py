"""Say what has no partner in a matching, why, and whether that fails."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from padiff_rpc.match.layer_families import why_dispensable
from padiff_rpc.match.tree import LayerNode, similarity
from padiff_rpc.model.model import ParameterInfo
from padiff_rpc.result import Unmatched


@dataclass(frozen=True)
class Remains:
    """One side of a finished matching.

    paired: its layers with a partner. absorbed: layers whose parameters another layer holds, and why. linked: names of its
    tensors that a link has. excused: routes of the layers whose lacks do not fail, and why. free: layers of the other
    side that have no partner. alone: names of the other side's own tensors that have none, of `others`.
    """

    nodes: Mapping[str, LayerNode]
    paired: Collection[LayerNode]
    absorbed: Mapping[LayerNode, str]
    linked: Collection[str]
    excused: Mapping[str, str]
    free: Sequence[LayerNode]
    alone: Sequence[str]
    others: Mapping[str, ParameterInfo]
    other_side: str


def unmatched(remains: Remains, found: Sequence[Unmatched]) -> list[Unmatched]:
    """Return `found`, the tensors that paired layers do not share, and after it what unpaired layers come to."""
    holders = {info.name: route for route, node in reversed(list(remains.nodes.items())) for info in node.own.values()}
    entries = [_excused(entry, remains.excused.get(holders[entry.name], "")) for entry in found]
    settled = {*remains.linked, *(entry.name for entry in found)}
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
            if info.name not in settled
            and not why_dispensable(name, info.kind, info.spec.dtype.is_floating, below.shapes)
        ]
        failing = [info for below, info in missing if below.route not in remains.excused]
        entries.append(_layer(remains, node, wraps, failing, bool(missing)))
        entries += [
            Unmatched(info.kind, info.name, f"left out: {remains.excused[below.route]}", False)
            for below, info in missing
            if below.route in remains.excused
        ]
    return entries


def _excused(entry: Unmatched, why: str) -> Unmatched:
    return replace(entry, why=f"{entry.why}; left out: {why}", fails=False) if why and entry.fails else entry


def _layer(remains: Remains, node: LayerNode, wraps: bool, failing: Iterable[ParameterInfo], lacks: bool) -> Unmatched:
    if wraps:
        why = "only this side has this wrapper; its children were matched"
    else:
        why = remains.absorbed.get(node) or (
            _other_kind(node, remains) or _why_alone(node, remains.free, remains.other_side)
            if lacks or not node.has_parameters
            else "its parameters correspond to those of other layers"
        )
    held = [f"{info.name} {list(info.spec.shape)}" for info in failing]
    if held:
        shown = ", ".join(held[:4]) + (f" and {len(held) - 4} more" if len(held) > 4 else "")
        why = f"{why}; it holds {shown}"
    elif node.route in remains.excused:
        why = f"{why}; left out: {remains.excused[node.route]}"
    return Unmatched("layer", node.shown, why, bool(held))


def _other_kind(node: LayerNode, remains: Remains) -> str:
    """Say so where the other side holds an Embedding's weight as a parameter of its own, and what to do."""
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


def _why_alone(node: LayerNode, free: Sequence[LayerNode], other_side: str) -> str:
    """Say what the other side has in the place of a layer without partner."""
    like = [other for other in free if other.name == node.name and other.name]
    if not like:
        like = [
            other for other in free if similarity(node, other) > 0.5 or (node.family and node.family == other.family)
        ]
    if not like:
        return f"{other_side} has no counterpart of this {node.info.class_name}"
    other = next((candidate for candidate in like if candidate.route == node.route), like[0])
    if other.family and node.family and other.family != node.family:
        return f"{other_side}'s {other.shown} is a {other.info.class_name}, not a {node.info.class_name}"
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in list(other.shapes.items())[:4])
    return f"no counterpart fits; {other_side}'s {other.shown} ({other.info.class_name}) holds {shapes or 'no tensor itself'}"


def proposals(layers: Sequence[tuple[str, str]], parameters: Sequence[tuple[str, str]]) -> list[str]:
    """Return a note for guessed layers and one for guessed parameters, each (base, raw); none where nothing was guessed."""
    notes: list[str] = []
    if layers:
        base, raw = (_quoted([pair[side] for pair in layers]) for side in (0, 1))
        notes.append(
            "to settle the layers guessed, put each beside its partner and paste, in Python:\n"
            f"    base.set_layer_map([{base}])\n    raw.set_layer_map([{raw}])\n"
            f"or in a run file:\n    [map]\n    layers = {{ {_table(layers)} }}"
        )
    if parameters:
        notes.append(
            "to settle the parameters guessed, put each beside its partner and paste in a run file:\n"
            f"    [map]\n    parameters = {{ {_table(parameters)} }}"
        )
    return notes


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _table(pairs: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f'"{base}" = "{raw}"' for base, raw in pairs)
