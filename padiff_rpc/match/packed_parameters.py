"""Parameters that one side packs into one tensor: attention's q, k, v, and an MLP's gate and up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from padiff_rpc.match.layer_families import name_in_common
from padiff_rpc.match.layer_map import ParameterLink
from padiff_rpc.match.layout_rules import RULES
from padiff_rpc.match.tree import PACKS, LayerNode
from padiff_rpc.model.model import ParameterInfo


@dataclass(frozen=True)
class Pack:
    """One Linear of one side that holds what several of the other hold, one after the other along its output."""

    fused: LayerNode
    parts: tuple[LayerNode, ...]
    order: str
    fused_in_base: bool

    @property
    def note(self) -> str:
        parts = ", ".join(part.shown for part in self.parts)
        return (
            f"{self.fused.shown} is taken to hold {parts} in this order ({self.order}), one whole after the other: if it "
            "interleaves them (head by head, say), the outputs will differ"
        )


def link_own(
    base: LayerNode, mine: dict[str, ParameterInfo], raw: LayerNode, theirs: dict[str, ParameterInfo]
) -> tuple[list[ParameterLink], dict[LayerNode, str]]:
    """Link torch's in_proj_weight and in_proj_bias (or q_proj_weight, ...) with the child Linears of the other side.

    Those are q, k and v, or one Linear that holds them all. Linked tensors are taken out of `mine` and `theirs`. Returns the
    links, and the children that are absorbed, with the reason.
    """
    links: list[ParameterLink] = []
    absorbed: dict[LayerNode, str] = {}
    for packed, held, loose, in_base in ((base, mine, raw, True), (raw, theirs, base, False)):
        packs = [name for name in held if name in ("in_proj_weight", "in_proj_bias") or name.endswith("_proj_weight")]
        by_group = {name_in_common(child.name): child for child in loose.children if child.family == "linear"}
        children = [by_group[key] for key in "qkv" if key in by_group]
        if len(children) < 3:
            children = [by_group[key] for key in ("qkv",) if key in by_group and "in_proj_weight" in packs]
        if not children or not packs or any(name in loose.own for name in packs):
            continue
        absorbed |= dict.fromkeys(children, f"its parameters correspond to {packed.shown}'s packed ones")
        for name in packs:
            wanted = children if name.startswith("in_") else [by_group[key] for key in name[0] if key in by_group]
            kind = "bias" if name == "in_proj_bias" else "weight"
            if link := _link((base.route, raw.route), held[name], "out_in", wanted, kind, in_base):
                links.append(link)
                del held[name]
    return links, absorbed


def find_packs(base: Sequence[LayerNode], raw: Sequence[LayerNode], paths: Mapping[LayerNode, str]) -> list[Pack]:
    """Find among two lists of siblings the Linears that are fused on one side only.

    paths: routes below the pair whose children these are; parts are told apart by the layer that they are in.
    """
    packs: list[Pack] = []
    for whole, keys in PACKS.items():
        fused = [[node for node in nodes if _is(node, whole)] for nodes in (base, raw)]
        groups = [_groups(nodes, keys, paths) for nodes in (base, raw)]
        for one, other in ((0, 1), (1, 0)):
            if not fused[one] or fused[other] or groups[one] or len(fused[one]) != len(groups[other]):
                continue
            for node, parts in zip(fused[one], groups[other], strict=True):
                pack = Pack(node, parts, ", ".join(keys), fused_in_base=one == 0)
                if any(link.base[0].endswith("weight") for link in link_pack(("", ""), pack)):
                    packs.append(pack)
    return packs


def link_pack(routes: tuple[str, str], pack: Pack) -> list[ParameterLink]:
    """Return the links of a pack's weights, and of its biases where all have one. routes: the layers that enclose it."""
    axes = pack.fused.axes("weight")
    links = [
        _link(routes, pack.fused.own[kind], axes, pack.parts, kind, pack.fused_in_base)
        for kind in ("weight", "bias")
        if kind in pack.fused.own
    ]
    return [link for link in links if link is not None]


def _link(
    routes: tuple[str, str], whole: ParameterInfo, axes: str, parts: Sequence[LayerNode], kind: str, whole_in_base: bool
) -> ParameterLink | None:
    """Link one tensor with what the parts hold; None where one of them lacks it, or the shapes do not fit.

    axes: how the whole lies, for matrices.
    """
    infos = [part.own[kind] for part in parts if kind in part.own]
    turned = {axes != part.axes(kind) for part in parts} if len(whole.spec.shape) == 2 else {False}
    if len(infos) < len(parts) or len(turned) != 1:
        return None
    transposed, columns = turned == {True}, len(whole.spec.shape) == 2 and axes == "in_out"
    if len(infos) == 1:
        rule = "transpose" if transposed else "identity"
    elif whole_in_base:
        rule = f"split{'_columns' if columns else ''}{'_transpose' if transposed else ''}"
    else:
        rule = f"{'transpose_' if transposed else ''}pack{'_columns' if columns else ''}"
    one, many = [whole], infos
    base, raw = (one, many) if whole_in_base else (many, one)
    if not RULES[rule].fits([info.spec.shape for info in base], [info.spec.shape for info in raw]):
        return None
    names = [tuple(info.name for info in infos) for infos in (base, raw)]
    return ParameterLink(*routes, names[0], names[1], rule, "parameter")


def _is(node: LayerNode, group: str) -> bool:
    return node.family == "linear" and name_in_common(node.name) == group


def _groups(
    nodes: Sequence[LayerNode], keys: tuple[str, ...], paths: Mapping[LayerNode, str]
) -> list[tuple[LayerNode, ...]]:
    """Return the parts, in the order of `keys`, for each layer that holds one of each."""
    by_parent: dict[str, dict[str, LayerNode]] = defaultdict(dict)
    for node in nodes:
        key = name_in_common(node.name)
        if node.family == "linear" and key in keys:
            by_parent[paths[node].rpartition(".")[0]][key] = node
    return [tuple(found[key] for key in keys) for found in by_parent.values() if len(found) == len(keys)]
