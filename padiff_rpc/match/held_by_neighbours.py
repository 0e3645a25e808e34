"""Link tensors that one side's layer holds itself, and on the other side the layer right above or below its partner."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.match.tree import LayerNode
from padiff_rpc.model.model import ParameterInfo
from padiff_rpc.per_side import OTHER_SIDE, SIDES, PerSide

_COMMON = frozenset({"weight", "bias"})
"""Names that most layers use, so that a neighbour's tensor of such a name need not be the same one."""


def link_neighbours(
    pairs: Sequence[PerSide[LayerNode]], trees: PerSide[Mapping[str, LayerNode]], settled: PerSide[Collection[str]]
) -> Iterator[tuple[ParameterLink, str]]:
    """Link what paired layers hold without a partner with what the layers beside their partners hold, by name and shape.

    `vision.class_embedding` is linked with `vision.embeddings.class_embedding` if the layers `vision` are a pair. Both holders
    must be of a user's own class, and the tensors of one kind. A tensor with several candidates is passed over.

    Args:
        pairs: the paired layers.
        trees: all layers of each side, by route.
        settled: full names of the tensors that have a partner already, or must not have one.

    Yields:
        Each link, and the sentence that tells a user of it.
    """
    above = {child: node for tree in trees for node in tree.values() for child in node.children}
    done = settled.map(set)
    for pair in pairs:
        for side in SIDES:
            node, partner, other = pair.of(side), pair.of(OTHER_SIDE[side]), OTHER_SIDE[side]
            beside = [*partner.children, *([above[partner]] if partner in above else [])]
            for name, info in _free(node, done.of(side)).items():
                found = [
                    (at, each[name]) for at in beside if _same(info, (each := _free(at, done.of(other))).get(name))
                ]
                if len(found) != 1:
                    continue
                holder, theirs = found[0]
                base, raw = (info, theirs) if side == "base" else (theirs, info)
                done.of(side).add(info.name)
                done.of(other).add(theirs.name)
                yield (
                    ParameterLink(pair.base.route, pair.raw.route, (base.name,), (raw.name,), "identity", info.kind),
                    f"{node.shown} holds {name} itself in {side}, and {other}'s layer beside its partner, {holder.shown}, holds "
                    "it there: linked by name and shape",
                )


def _free(node: LayerNode, settled: Collection[str]) -> dict[str, ParameterInfo]:
    """Return the tensors of a user's own layer that have no partner and a name that says something, by name."""
    if node.family:
        return {}
    return {name: info for name, info in node.own.items() if info.name not in settled and name not in _COMMON}


def _same(info: ParameterInfo, other: ParameterInfo | None) -> bool:
    return other is not None and (other.kind, other.spec.shape) == (info.kind, info.spec.shape)
