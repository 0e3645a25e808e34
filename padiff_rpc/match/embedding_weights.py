"""Weights that are a layer's own parameter or buffer on one side and an Embedding's on the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from padiff_rpc.match.layer_families import name_in_common
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.match.layout_rules import without_ones
from padiff_rpc.match.tree import LayerNode
from padiff_rpc.model.model import ParameterInfo


@dataclass(frozen=True)
class TableLink:
    """A link of one own tensor with the weight of `table`, a child of the other side's layer."""

    link: ParameterLink
    table: LayerNode
    why: str
    note: str


def link_tables(
    base: LayerNode,
    mine: dict[str, ParameterInfo],
    raw: LayerNode,
    theirs: dict[str, ParameterInfo],
    taken: Collection[str],
    busy: Collection[LayerNode],
) -> Iterator[TableLink]:
    """Link own tensors of one layer with Embeddings below the other, where names and shapes agree.

    `query_embed = Parameter([n, d])` holds what `query_embed = Embedding(n, d)` does. What is linked is taken out of `mine`
    and `theirs`. taken, busy: as in `link_layers`.
    """
    for held, own, loose, in_base in ((mine, base, raw, True), (theirs, raw, base, False)):
        other_side = "raw" if in_base else "base"
        for name, info in list(held.items()):
            table = _table(name, own, loose)
            weight = table.own["weight"] if table is not None else None
            if table is None or weight is None or table in busy or f"{other_side}:{weight.name}" in taken:
                continue
            if without_ones(weight.spec.shape) != without_ones(info.spec.shape):
                continue
            del held[name]
            rule = "identity" if weight.spec.shape == info.spec.shape else "reshape"
            names = (info.name, weight.name) if in_base else (weight.name, info.name)
            link = ParameterLink(base.route, raw.route, (names[0],), (names[1],), rule, info.kind)
            side = "base" if in_base else "raw"
            yield TableLink(
                link,
                table,
                f"{own.shown} holds its weight itself, as the {info.kind} {info.name}, so that its output has no counterpart",
                f"{info.name} is a {info.kind} in {side}, and in {other_side} {weight.name}, an Embedding's weight: linked by "
                "name and shape",
            )


def other_kind(node: LayerNode, name: str, other: LayerNode, other_side: str) -> str:
    """Say what of another kind the other side may hold an own tensor as, and what to do; "" where nothing is like it."""
    info = node.own[name]
    shape = list(info.spec.shape)
    table = _table(name, node, other)
    if table is not None and without_ones(table.own["weight"].spec.shape) != without_ones(info.spec.shape):
        theirs = table.own["weight"]
        return (
            f"a {info.kind} of shape {shape} here, in {other_side} an Embedding's weight, {theirs.name}, of shape "
            f"{list(theirs.spec.shape)}: give both one shape"
        )
    tables = [(child.own["weight"], "an Embedding's weight") for child in other.children if _is_table(child)]
    tensors = [(held, f"a {held.kind}") for held in other.own.values() if held.kind != info.kind]
    like = [(held, what) for held, what in [*tables, *tensors] if held.spec.shape == info.spec.shape]
    if not like:
        return ""
    held, what = like[0]
    return (
        f"a {info.kind} of shape {shape} here; {other_side}'s {held.name}, {what}, has this shape: use one kind and one name "
        "on both sides, or link the two in the parameter map"
    )


def _table(name: str, own: LayerNode, loose: LayerNode) -> LayerNode | None:
    """Return the Embedding of the other side that goes by an own tensor's name, unless a child of its own side does too."""
    wanted = name_in_common(name)
    if any(name_in_common(child.name) == wanted for child in own.children):
        return None
    named = [child for child in loose.children if _is_table(child) and name_in_common(child.name) == wanted]
    return named[0] if len(named) == 1 else None


def _is_table(node: LayerNode) -> bool:
    return node.family == "embedding" and "weight" in node.own
