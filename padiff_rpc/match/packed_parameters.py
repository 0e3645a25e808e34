"""Link parameters that only one side packs into one tensor: those of attention's q, k and v, and of an MLP's gate and up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from padiff_rpc.match.layer_families import name_in_common
from padiff_rpc.match.layer_map import Alternative, Choice, ParameterLink
from padiff_rpc.match.layout_rules import rule_named
from padiff_rpc.match.pack_layouts import PackLayout, pack_layouts
from padiff_rpc.match.pack_names import PACKED, packed_parts
from padiff_rpc.match.tree import LayerNode
from padiff_rpc.model.model import ParameterInfo
from padiff_rpc.per_side import OTHER_SIDE, SIDES, PerSide, SideName


@dataclass(frozen=True)
class Pack:
    """A Linear of one side that holds the parameters of several Linears of the other, along its output.

    Attributes:
        fused: the Linear that holds them all.
        parts: the Linears that hold one each, by their names in common, in the order that `fused` has by its name.
        fused_side: the side that `fused` belongs to.
    """

    fused: LayerNode
    parts: Mapping[str, LayerNode]
    fused_side: SideName


def link_own(
    pair: PerSide[LayerNode], unlinked: PerSide[dict[str, ParameterInfo]], mapped: PerSide[set[str]]
) -> tuple[list[ParameterLink], dict[LayerNode, str]]:
    """Link the packed tensors that one layer of a pair holds itself with the Linears right below the other layer.

    The tensors are torch's in_proj_weight and in_proj_bias (or q_proj_weight, k_proj_weight, v_proj_weight). The Linears are q,
    k and v, or one that packs all three.

    Args:
        pair: two layers that correspond.
        unlinked: the tensors that each of them holds itself and that have no link yet, by their names in it. The tensors
            that are linked are removed.
        mapped: full names of the tensors that the user's map links; Linears that hold one are passed over.

    Returns:
        The links, and the Linears whose parameters they carry, each with the reason why it has no partner of its own.
    """
    links: list[ParameterLink] = []
    absorbed: dict[LayerNode, str] = {}
    routes = pair.map(lambda node: node.route)
    for side in SIDES:
        packing, other, own = pair.of(side), pair.of(OTHER_SIDE[side]), unlinked.of(side)
        packs = [name for name in own if name in ("in_proj_weight", "in_proj_bias") or name.endswith("_proj_weight")]
        settled = mapped.of(OTHER_SIDE[side])
        free = [child for child in other.children if settled.isdisjoint(info.name for info in child.own.values())]
        linears = {name_in_common(child.name): child for child in free if child.family == "linear"}
        parts = [linears[key] for key in "qkv" if key in linears]
        if len(parts) < 3:
            parts = [linears[key] for key in ("qkv",) if key in linears and "in_proj_weight" in packs]
        if not parts or not packs or any(name in other.own for name in packs):
            continue
        absorbed |= dict.fromkeys(parts, f"its parameters correspond to {packing.shown}'s packed ones")
        for name in packs:
            wanted = parts if name.startswith("in_") else [linears[key] for key in name[0] if key in linears]
            kind = "bias" if name == "in_proj_bias" else "weight"
            if link := link_parts(routes, own[name], "out_in", wanted, kind, side):
                links.append(link)
                del own[name]
    return links, absorbed


def find_packs(siblings: PerSide[list[LayerNode]], paths: Mapping[LayerNode, str]) -> list[Pack]:
    """Find the Linears that one side packs and the other keeps apart, such as `qkv` beside `q`, `k` and `v`.

    Args:
        siblings: layers of both sides that have no partner yet, below one pair of layers.
        paths: the routes of the siblings below that pair. Linears are parts of one pack if they lie in the same layer.
    """
    return [pack for keys in PACKED for pack in _packs_of(keys, siblings, paths)]


def choice_of_pack(routes: PerSide[str], pack: Pack) -> Choice:
    """Return the links of a pack's weights, and of its biases if all its Linears have one, in every layout that it may have.

    Args:
        routes: the routes of the two layers that enclose the pack.
        pack: the Linear that packs the parameters, and those that keep them apart.
    """
    layouts = pack_layouts(pack.fused.name, pack.fused.holder, pack.parts)
    found = [(layout, _link_pack(routes, pack, layout)) for layout in layouts]
    count = len(found[0][1])
    alternatives = tuple(
        Alternative(layout.words, links, layout.contrary) for layout, links in found if len(links) == count
    )
    parts = ", ".join(pack.parts[key].shown for key in layouts[0].order)
    guess = (
        f"{pack.fused.shown} is taken to hold {parts} ({layouts[0].words}): if it orders or interleaves them otherwise (head by "
        "head, say), the outputs will differ"
    )
    return Choice(pack.fused.shown, routes.base, routes.raw, alternatives, guess)


def _link_pack(routes: PerSide[str], pack: Pack, layout: PackLayout) -> tuple[ParameterLink, ...]:
    """Return the links under one layout; () if no layout rule joins the shapes."""
    axes, parts = pack.fused.axes("weight"), [pack.parts[key] for key in layout.order]
    links = [
        link_parts(routes, pack.fused.own[kind], axes, parts, kind, pack.fused_side, layout.groups)
        for kind in ("weight", "bias")
        if kind in pack.fused.own
    ]
    return tuple(link for link in links if link is not None)


def packing_rule(whole_side: SideName, transposed: bool, columns: bool, groups: int = 1) -> str:
    """Return the name of the rule between a tensor that packs others and its parts.

    Args:
        whole_side: the side that packs them.
        transposed: whether the parts lie across the packed tensor.
        columns: whether they stand side by side along the packed tensor's second axis, and not the first.
        groups: how many groups the packed tensor falls into, each with a share of every part.
    """
    if whole_side == "base":
        rule = f"split{'_columns' if columns else ''}{'_transpose' if transposed else ''}"
    else:
        rule = f"{'transpose_' if transposed else ''}pack{'_columns' if columns else ''}"
    return f"{rule}@{groups}" if groups > 1 else rule


def link_parts(
    routes: PerSide[str],
    whole: ParameterInfo,
    axes: str,
    parts: Sequence[LayerNode],
    kind: str,
    whole_side: SideName,
    groups: int = 1,
) -> ParameterLink | None:
    """Link one tensor with the tensors of its parts; None if a part lacks its tensor, or the shapes do not fit.

    Args:
        routes: the routes of the layers that the link belongs to.
        whole: the packed tensor.
        axes: how the packed tensor lies, if it is a matrix.
        parts: the Linears that hold one part each.
        kind: the parts' name in their Linears, "weight" or "bias".
        whole_side: the side that the packed tensor belongs to.
        groups: how many groups the packed tensor falls into, each with a share of every part.
    """
    infos = [part.own[kind] for part in parts if kind in part.own]
    turned = {axes != part.axes(kind) for part in parts} if len(whole.spec.shape) == 2 else {False}
    if len(infos) < len(parts) or len(turned) != 1:
        return None
    transposed, columns = turned == {True}, len(whole.spec.shape) == 2 and axes == "in_out"
    if len(infos) == 1:
        rule = "transpose" if transposed else "identity"
    else:
        rule = packing_rule(whole_side, transposed, columns, groups)
    base, raw = ([whole], infos) if whole_side == "base" else (infos, [whole])
    if not rule_named(rule).fits([info.spec.shape for info in base], [info.spec.shape for info in raw]):
        return None
    base_names, raw_names = tuple(info.name for info in base), tuple(info.name for info in raw)
    return ParameterLink(routes.base, routes.raw, base_names, raw_names, rule, "parameter")


def _packs_of(keys: tuple[str, ...], siblings: PerSide[list[LayerNode]], paths: Mapping[LayerNode, str]) -> list[Pack]:
    """Find the packs of one kind. keys: the names in common of the parts, in any order: the packed Linear's name gives it."""
    packs: list[Pack] = []
    fused = siblings.map(lambda nodes: [node for node in nodes if _holds(node, keys)])
    groups = siblings.map(lambda nodes: _groups(nodes, keys, paths))
    for side in SIDES:
        other = OTHER_SIDE[side]
        if not fused.of(side) or fused.of(other) or groups.of(side) or len(fused.of(side)) != len(groups.of(other)):
            continue
        for node, named in zip(fused.of(side), groups.of(other), strict=True):
            pack = Pack(node, {key: named[key] for key in packed_parts(node.name)}, side)
            links = _link_pack(PerSide("", ""), pack, PackLayout(tuple(pack.parts)))
            if any(link.base[0].endswith("weight") for link in links):
                packs.append(pack)
    return packs


def _holds(node: LayerNode, keys: tuple[str, ...]) -> bool:
    return node.family == "linear" and set(packed_parts(node.name)) == set(keys)


def _groups(
    nodes: Sequence[LayerNode], keys: tuple[str, ...], paths: Mapping[LayerNode, str]
) -> list[dict[str, LayerNode]]:
    """Return the Linears that have all these names in common, by that name, for each layer that holds one of each."""
    by_parent: dict[str, dict[str, LayerNode]] = defaultdict(dict)
    for node in nodes:
        key = name_in_common(node.name)
        if node.family == "linear" and key in keys:
            by_parent[paths[node].rpartition(".")[0]][key] = node
    return [found for found in by_parent.values() if len(found) == len(keys)]
