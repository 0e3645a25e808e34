"""Link weights that one side's layer holds itself, as a parameter or buffer, and the other side's in an Embedding below it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from padiff_rpc.match.layer_families import name_in_common
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.match.layout_rules import without_ones
from padiff_rpc.match.tree import LayerNode
from padiff_rpc.model.model import ParameterInfo
from padiff_rpc.per_side import OTHER_SIDE, SIDES, PerSide


@dataclass(frozen=True)
class TableLink:
    """A link between one side's own tensor and the weight of an Embedding of the other side.

    Attributes:
        link: the link of the two tensors.
        table: the Embedding.
        why: the reason why the Embedding, as a layer, has no partner.
        note: the sentence that tells a user of the link.
    """

    link: ParameterLink
    table: LayerNode
    why: str
    note: str


def link_tables(
    pair: PerSide[LayerNode],
    unlinked: PerSide[dict[str, ParameterInfo]],
    mapped: PerSide[set[str]],
    partnered: Collection[LayerNode],
) -> Iterator[TableLink]:
    """Link tensors that one layer of a pair holds itself with Embeddings right below the other layer.

    `query_embed = Parameter([n, d])` holds what `query_embed = Embedding(n, d)` does. The two are linked if their names agree,
    and their shapes up to dimensions of size 1.

    Args:
        pair: two layers that correspond.
        unlinked: the tensors that each of them holds itself and that have no link yet, by their names in it. The tensors
            that are linked are removed.
        mapped: full names of the tensors that the user's parameter map links; they are passed over.
        partnered: layers that have a partner already; they are passed over.
    """
    for side in SIDES:
        other_side = OTHER_SIDE[side]
        node, own = pair.of(side), unlinked.of(side)
        for name, info in list(own.items()):
            table = _table(name, node, pair.of(other_side))
            if table is None or table in partnered or table.own["weight"].name in mapped.of(other_side):
                continue
            weight = table.own["weight"]
            if without_ones(weight.spec.shape) != without_ones(info.spec.shape):
                continue
            del own[name]
            rule = "identity" if weight.spec.shape == info.spec.shape else "reshape"
            base, raw = (info, weight) if side == "base" else (weight, info)
            yield TableLink(
                ParameterLink(pair.base.route, pair.raw.route, (base.name,), (raw.name,), rule, info.kind),
                table,
                f"{node.shown} holds its weight itself, as the {info.kind} {info.name}, so that its output has no counterpart",
                f"{info.name} is a {info.kind} in {side}, and in {other_side} {weight.name}, an Embedding's weight: linked by "
                "name and shape",
            )


def other_kind(node: LayerNode, name: str, other: LayerNode, other_side: str) -> str:
    """Say that the other side may hold an unmatched tensor as another kind of tensor, and how to make the two correspond.

    The kinds are a parameter, a buffer and an Embedding's weight. The text is "" if the other side has nothing like it.

    Args:
        node: the layer that holds the tensor.
        name: the tensor's name in that layer.
        other: the layer's partner.
        other_side: the side of the partner, "base" or "raw".
    """
    info = node.own[name]
    shape = list(info.spec.shape)
    table = _table(name, node, other)
    if table is not None and without_ones(table.own["weight"].spec.shape) != without_ones(info.spec.shape):
        weight = table.own["weight"]
        return (
            f"a {info.kind} of shape {shape} here, in {other_side} an Embedding's weight, {weight.name}, of shape "
            f"{list(weight.spec.shape)}: give both one shape"
        )
    weights = [(child.own["weight"], "an Embedding's weight") for child in other.children if _is_table(child)]
    tensors = [(theirs, f"a {theirs.kind}") for theirs in other.own.values() if theirs.kind != info.kind]
    like = [(theirs, what) for theirs, what in [*weights, *tensors] if theirs.spec.shape == info.spec.shape]
    if not like:
        return ""
    theirs, what = like[0]
    return (
        f"a {info.kind} of shape {shape} here; {other_side}'s {theirs.name}, {what}, has this shape: use one kind and one name "
        "on both sides, or link the two in the parameter map"
    )


def _table(name: str, node: LayerNode, other: LayerNode) -> LayerNode | None:
    """Return the one Embedding below `other` that has the name of `node`'s own tensor; None if there is none, or several.

    A sublayer of `node` with that name is the Embedding's counterpart, rather than the tensor: None then, too.
    """
    wanted = name_in_common(name)
    if any(name_in_common(child.name) == wanted for child in node.children):
        return None
    named = [child for child in other.children if _is_table(child) and name_in_common(child.name) == wanted]
    return named[0] if len(named) == 1 else None


def _is_table(node: LayerNode) -> bool:
    return node.family == "embedding" and "weight" in node.own
