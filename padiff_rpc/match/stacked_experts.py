"""Tell where one side stacks in one tensor what the other keeps in a list of layers: experts as [E, D, F] against E Linears."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from padiff_rpc.match.layout_rules import Shape
from padiff_rpc.match.special_init import registered_classes
from padiff_rpc.match.tree import LayerNode, loose_key
from padiff_rpc.model.part_names import place_of_part
from padiff_rpc.per_side import OTHER_SIDE, SIDES, PerSide, SideName


@dataclass(frozen=True)
class Stack:
    """A layer that holds the tensors of several experts stacked, beside the lists that hold them on the other side.

    Attributes:
        side: the side that stacks them.
        parts: the names in the layer of the parts of each of its stacked tensors, in order, by the tensor's name there.
        lists: the other side's lists, each with one layer for each expert. There is one list of experts, or one list of Linears
            for each stacked tensor.
    """

    side: SideName
    parts: Mapping[str, Sequence[str]]
    lists: Sequence[LayerNode]

    @property
    def experts(self) -> list[tuple[LayerNode, ...]]:
        """The layers of each expert, one of each list."""
        return list(zip(*(each.children for each in self.lists), strict=True))


def stacked_beside_lists(trees: PerSide[Mapping[str, LayerNode]]) -> PerSide[set[str]]:
    """Return the full names of the tensors that are to be matched part by part, since the other side has a list instead.

    What both sides stack is matched as it is. So are layers of classes for which there is a special initialiser, and what they
    hold.
    """
    found: PerSide[set[str]] = PerSide(set(), set())
    for side in SIDES:
        others = list(trees.of(OTHER_SIDE[side]).values())
        stacked = {info.spec.shape for node in others if not node.family for info in node.own_parameters.values()}
        special = registered_classes(side)
        for node in trees.of(side).values():
            for count, names in _stacks(node).items():
                shapes = [node.own[name].spec.shape for name in names]
                if stacked.intersection(shape for shape in shapes if len(shape) > 2) or _is_special(node, special):
                    continue
                wanted = _counted([shape[1:] for shape in shapes])
                if any(_lists(other, count, wanted) for other in others):
                    found.of(side).update(node.own[name].name for name in names)
    return found


def find_stack(pair: PerSide[LayerNode]) -> Stack | None:
    """Return how the tensors of experts correspond if one of two layers holds them in parts of stacks, and the other in lists.

    The other layer is a list of experts itself, or has such lists right below it.
    """
    for side in SIDES:
        whole, other = pair.of(side), pair.of(OTHER_SIDE[side])
        parts = _parts(whole)
        if not parts or (other.is_container and len(whole.own_parameters) > sum(map(len, parts.values()))):
            continue
        counts = {len(names) for names in parts.values()}
        for count in counts:
            of_count = {stack: names for stack, names in parts.items() if len(names) == count}
            lists = _lists(other, count, _counted([whole.own[names[0]].spec.shape for names in of_count.values()]))
            if lists:
                return Stack(side, of_count, lists)
    return None


def _stacks(node: LayerNode) -> dict[int, list[str]]:
    """Return the names of a user's layer's own tensors that may be stacks, by how much they stack: matrices and their biases."""
    found: dict[int, list[str]] = defaultdict(list)
    if node.family:
        return found
    shapes = {name: info.spec.shape for name, info in node.own_parameters.items()}
    counts = {shape[0] for shape in shapes.values() if len(shape) == 3 and shape[0] > 1}
    for name, shape in shapes.items():
        if shape and shape[0] in counts and (len(shape) == 3 or (len(shape) == 2 and is_bias(name))):
            found[shape[0]].append(name)
    return found


def is_bias(name: str) -> bool:
    """Return True for the name of a bias, or of a stack of them: `gate_up_proj_bias`, `b1`."""
    return "bias" in name.lower() or name.rstrip("0123456789") == "b"


def _parts(node: LayerNode) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in node.own_parameters:
        if place := place_of_part(name):
            found[place[0]].append(name)
    return found


def _lists(node: LayerNode, count: int, wanted: Counter[Shape]) -> tuple[LayerNode, ...]:
    """Return the lists in or right below a layer that hold parameters of the wanted shapes for each of `count` experts."""
    lists = [each for each in (node, *node.children) if each.is_container and len(each.children) == count]
    alike = [each for each in lists if len({child.loose for child in each.children}) == 1]
    ways = [(each,) for each in alike] + ([tuple(alike)] if len(alike) > 1 else [])
    for way in ways:
        if wanted in _shapes_of(way):
            return way
    return ()


def _shapes_of(lists: Sequence[LayerNode]) -> Iterator[Counter[Shape]]:
    """Yield how often each shape occurs in one expert; with the Linears apart that may be packed, and counted as one."""
    for signatures in product(*((each.children[0].loose, each.children[0].packed) for each in lists)):
        yield sum((Counter(dict(signature)) for signature in signatures), Counter())  # type: ignore[misc]


def _counted(shapes: Sequence[Shape]) -> Counter[Shape]:
    return Counter(loose_key(shape) for shape in shapes)


def _is_special(node: LayerNode, special: frozenset[str]) -> bool:
    at: LayerNode | None = node
    while at is not None:
        if at.class_title in special:
            return True
        at = at.holder
    return False
