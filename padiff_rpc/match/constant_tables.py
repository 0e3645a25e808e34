"""Tell which tensors are tables that a model makes from its configuration: not trained, and without a like on the other side."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from padiff_rpc.match.layer_families import parameter_name
from padiff_rpc.match.layout_rules import without_ones
from padiff_rpc.match.tree import LayerNode
from padiff_rpc.model.model import ParameterInfo
from padiff_rpc.per_side import OTHER_SIDE, PerSide, SideName

_HOLDERS = ("", "embedding")
"""Families of layers that hold such tables: a user's own class and an Embedding. A frozen Linear's weight is no table."""


@dataclass(frozen=True)
class _Lacking:
    """One tensor without a partner. node: the layer that holds it. name: its name there."""

    node: LayerNode
    name: str
    info: ParameterInfo


def constant_tables(
    trees: PerSide[Mapping[str, LayerNode]],
    linked: PerSide[Collection[str]],
    partner: Mapping[LayerNode, LayerNode],
) -> PerSide[dict[str, str]]:
    """Return, for each side, a sentence by full name for every parameter without partner that is such a table.

    Such a parameter is not trained while its model trains others, and the other side has none that could be its partner: no
    parameter without partner of its sizes (in any order), or of its name in the corresponding layer. It keeps its own values.

    Args:
        trees: all layers of each side, by route.
        linked: full names of the tensors that have a link.
        partner: raw's layer by base's, for all pairs.
    """
    lacking = PerSide(_lacking(trees.base, linked.base), _lacking(trees.raw, linked.raw))
    partners = PerSide(partner, {raw: base for base, raw in partner.items()})
    trained = trees.map(lambda tree: any(info.trainable for node in tree.values() for info in node.own.values()))

    def found(side: SideName) -> dict[str, str]:
        others = lacking.of(OTHER_SIDE[side])
        return {
            each.info.name: _why(each, side)
            for each in lacking.of(side)
            if trained.of(side)
            and each.info.kind == "parameter"
            and not each.info.trainable
            and each.node.family in _HOLDERS
            and not any(_alike(each, other, partners.of(side).get(each.node)) for other in others)
        }

    return PerSide(found("base"), found("raw"))


def _lacking(tree: Mapping[str, LayerNode], linked: Collection[str]) -> list[_Lacking]:
    """Return the tensors of one side that have no link and need one, each with the first layer that holds it."""
    return list(
        {
            info.name: _Lacking(node, name, info)
            for node in reversed(list(tree.values()))
            for name, info in node.own.items()
            if info.name not in linked and not node.why_dispensable(name)
        }.values()
    )


def _alike(one: _Lacking, other: _Lacking, partner: LayerNode | None) -> bool:
    """Return True if `other` could be the partner of `one`, whose layer corresponds to `partner`."""
    if sorted(without_ones(one.info.spec.shape)) == sorted(without_ones(other.info.spec.shape)):
        return True
    same_name = parameter_name(one.node.family, one.name) == parameter_name(other.node.family, other.name)
    return same_name and (other.node is partner or other.node.name == one.node.name)


def _why(table: _Lacking, side: SideName) -> str:
    kept = "keeps its own values" if side == "raw" else "is not carried over"
    return (
        f"{side}'s {table.info.name} {list(table.info.spec.shape)} is not trained, and the other side has no such tensor: taken "
        f"for a table made from the configuration, it {kept}, and the outputs show whether they are right"
    )
