"""Pair the sublayers of two layers that correspond: by name, then by structure and order.

A layer that only wraps others and has no counterpart is replaced by its own sublayers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import count

from padiff_rpc.match.layer_families import STACKS, name_in_common, same_class_name
from padiff_rpc.match.layer_map import How
from padiff_rpc.match.layers_fit import (
    akin,
    both_activations,
    fits,
    fits_idle,
    fits_or_idle,
    is_wrapper,
    same_composite_family,
    same_leaf_family,
)
from padiff_rpc.match.packed_parameters import Pack, find_packs
from padiff_rpc.match.pair_in_order import align_in_order, gaps_of, number_shifts, renumber, stem
from padiff_rpc.match.swapped_layers import by_words, may_change_places
from padiff_rpc.match.ties import Ties
from padiff_rpc.match.tree import LayerNode
from padiff_rpc.per_side import OTHER_SIDE, SIDES, PerSide, SideName

Accept = Callable[[LayerNode, LayerNode], bool]
"""Tells whether a layer of base and one of raw may be paired."""


class Siblings:
    """The pairing of the sublayers of one pair of layers. Call run() once, then read the attributes.

    Layers that are in no pair and no pack after run() have no partner here.

    Attributes:
        pairs: base's layer, raw's layer and how they were found to correspond, in the order found.
        packs: Linears that one side packs into one and the other keeps apart.
        notes: sentences that a reader should see.
        guesses: the routes, in base and raw, of layers that were paired by their order alone.
        in_doubt: such layers that may change places with each other, in groups; they are not among the guesses.
        notes_in_doubt: the sentences on these.
    """

    def __init__(self, parents: PerSide[LayerNode], taken: set[LayerNode], ties: Ties) -> None:
        """Begin with the direct sublayers of `parents`, less those in `taken`, which have a partner or need none.

        ties: tell which layers the user's map joins, and which it keeps apart.
        """
        self._parents = parents
        self._taken = taken
        self._ties = ties
        self._paths: dict[LayerNode, str] = {}  # routes below the parents
        self._layers = parents.map(lambda parent: self._children(parent, ""))
        self._partner: dict[LayerNode, int] = {}  # the number of the pair or pack that a layer is in
        self._numbers = count()
        self.pairs: list[tuple[LayerNode, LayerNode, How]] = []
        self.packs: list[Pack] = []
        self.notes: list[str] = []
        self.guesses: list[tuple[str, str]] = []
        self.in_doubt: list[list[tuple[LayerNode, LayerNode]]] = []
        self.notes_in_doubt: list[str] = []

    def run(self) -> None:
        """Pair the layers that fit, from the surest sign to the weakest; then those that are akin, to name their difference."""
        self._pair_exactly()
        self._pair_in_gaps(both_activations)
        self._pair_by_name(self._paths.__getitem__, akin)
        self._pair_by_name(lambda node: node.name, akin)
        self._pair_in_gaps(same_composite_family)
        if self._expand(lambda node: True, at_once=True):
            self._pair_exactly()
            self._pair_by_name(self._paths.__getitem__, akin)
        self._pair_in_gaps(same_leaf_family)
        self._note_crossings()

    @property
    def _left(self) -> PerSide[list[LayerNode]]:
        """The layers that are in no pair and no pack so far, in definition order."""
        return self._layers.map(lambda nodes: [node for node in nodes if node not in self._partner])

    def _pair_exactly(self) -> None:
        while True:
            while self._expand(self._is_around_a_list) or self._expand(is_wrapper):
                pass
            self._pair_packed()
            self._pair_tied()
            self._pair_by_name(self._meaningful_path, fits_or_idle)
            self._pair_by_name(lambda node: _unless_index(node.name), fits_or_idle)
            self._pair_by_name(lambda node: _unless_index(name_in_common(node.name)), fits)
            self._pair_by_order(lambda node: not node.is_leaf)
            if not self._expand(self._is_around_a_list) and not self._expand(is_wrapper):
                break
        self._pair_by_order(lambda node: node.is_leaf)
        self._pair_in_gaps(fits_idle)
        self._pair_lone_idle()

    def _pair_packed(self) -> None:
        """Take out Linears of which one side packs what the other keeps apart: no layer of one is a layer of the other."""
        for pack in find_packs(self._left, self._paths):
            self._partner |= dict.fromkeys((pack.fused, *pack.parts.values()), next(self._numbers))
            self.packs.append(pack)

    def _pair_tied(self) -> None:
        """Pair layers that the user's map joins with one layer alone."""
        base, raw = self._left
        for b in base:
            partners = [r for r in raw if self._ties.join(b, r) and fits(b, r)]
            if len(partners) == 1 and sum(self._ties.join(other, partners[0]) for other in base) == 1:
                self._pair(b, partners[0], "parameters")

    # -- by name --------------------------------------------------------------------------------------------------
    def _pair_by_name(self, naming: Callable[[LayerNode], str], accept: Accept) -> None:
        """Pair layers whose name occurs once on each side; numbers at its end may begin at another number there.

        naming: returns the name to go by, or "" for a layer that is not to be paired.
        """
        base, raw = self._left.map(lambda left: _by_name(left, naming))
        shifts = number_shifts(list(base), list(raw))
        for name, nodes in base.items():
            shift = shifts.get(stem(name), 0)
            found = raw.get(renumber(name, shift), [])
            if len(nodes) == len(found) == 1 and self._may(nodes[0], found[0], accept):
                self._pair(nodes[0], found[0], "order" if shift else "name")
                if shift:
                    self._note(
                        f"the numbers of {stem(name)!r} start {abs(shift)} {'later' if shift > 0 else 'earlier'} in raw: "
                        "matched in order"
                    )

    def _meaningful_path(self, node: LayerNode) -> str:
        path = self._paths[node]
        return "" if any(part.isdigit() for part in path.split(".")) else path

    # -- by structure and order -----------------------------------------------------------------------------------
    def _pair_by_order(self, wanted: Callable[[LayerNode], bool]) -> None:
        """Pair layers with parameters: the n-th with the n-th of the same signature; where the counts differ, by alignment."""

        def candidates() -> PerSide[list[LayerNode]]:
            return self._left.map(lambda left: [node for node in left if node.has_parameters and wanted(node)])

        for signature in ("exact", "fused", "loose", "packed"):
            groups: dict[Hashable, PerSide[list[LayerNode]]] = defaultdict(lambda: PerSide([], []))
            for side, nodes in candidates().items():
                for node in nodes:
                    groups[getattr(node, signature)].of(side).append(node)
            for base, raw in groups.values():
                if len(base) == len(raw) and all(self._may(b, r, fits) for b, r in zip(base, raw, strict=True)):
                    self._pair_group(base, raw)
        base, raw = candidates()
        gaps = gaps_of(self._layers, self._partner)

        def score(b: LayerNode, r: LayerNode) -> float:
            if not self._may(b, r, fits):
                return 0.0
            same_class = same_class_name(b.info.class_name, r.info.class_name)
            return 10.0 + 2 * (gaps[b] == gaps[r]) + 2 * (self._paths[b] == self._paths[r]) + same_class

        aligned = align_in_order(base, raw, score)
        self._pair_group([b for b, _ in aligned], [r for _, r in aligned], uneven=True)

    def _pair_group(self, base: list[LayerNode], raw: list[LayerNode], uneven: bool = False) -> None:
        """Pair two lists of equal length, and note those that neither names nor (if uneven) counts make sure of."""
        guessed: list[tuple[LayerNode, LayerNode]] = []
        for b, r in zip(base, by_words(base, raw), strict=True):
            self._pair(b, r, "order")
            if (not _unless_index(b.name) and not _unless_index(r.name)) or self._ties.join(b, r):
                continue
            if (len(base) > 1 or uneven) and name_in_common(b.name) != name_in_common(r.name):
                guessed.append((b, r))
        if not guessed:
            return
        arrows = [f"{self._paths[b]} -> {self._paths[r]}" for b, r in guessed]
        shown = ", ".join(arrows[:4]) + (", ..." if len(arrows) > 4 else "")
        note = f"matched by order, which is a guess, for shapes are equal and names do not help: {shown}"
        if not uneven and may_change_places(guessed) and not self._bound(guessed):
            self.in_doubt.append(guessed)
            self.notes_in_doubt.append(f"{self._parents.base.shown}: {note}")
        else:
            self.guesses += [(b.route, r.route) for b, r in guessed]
            self._note(note)

    def _pair_in_gaps(self, accept: Accept) -> None:
        """Pair in order the layers that lie between the same two pairs on both sides."""
        gaps, left = gaps_of(self._layers, self._partner), self._left
        aligned = align_in_order(
            left.base,
            left.raw,
            lambda b, r: float(gaps[b] == gaps[r] and self._may(b, r, accept)) * (1 + (b.name == r.name)),
        )
        for b, r in aligned:
            self._pair(b, r, "order")

    def _pair_lone_idle(self) -> None:
        """Pair layers without parameters that are the only ones of their kind on both sides."""
        base, raw = self._left.map(lambda left: [node for node in left if not node.has_parameters])
        for b in base:
            partners = [r for r in raw if fits(b, r)]
            if len(partners) == 1 and sum(fits(other, partners[0]) for other in base) == 1:
                self._pair(b, partners[0], "order")

    # -- wrappers -------------------------------------------------------------------------------------------------
    def _expand(self, allowed: Callable[[LayerNode], bool], at_once: bool = False) -> bool:
        """Replace layers without partner that fit no layer of the other side by their sublayers; tell if there were any.

        Only the largest of them are replaced: a smaller one may fit what lies in a larger one of the other side.

        Args:
            allowed: tells which layers may be replaced.
            at_once: whether to replace all of them, whatever their size.
        """
        left = self._left
        found: list[tuple[SideName, LayerNode]] = [
            (side, node)
            for side in SIDES
            for node in left.of(side)
            if not node.is_leaf
            and allowed(node)
            and any(child.has_parameters for child in node.children)
            and self._fits_none(side, node, left.of(OTHER_SIDE[side]))
        ]
        most = max((node.size for _, node in found), default=0)
        for side, node in found:
            if at_once or node.size == most:
                nodes = self._layers.of(side)
                at = nodes.index(node)
                nodes[at : at + 1] = self._children(node, self._paths[node] + ".")
                if node.family in STACKS:
                    self._note(
                        f"{node.shown}, a {node.info.class_name}, is looked through: its layers are matched one by one"
                    )
        return bool(found)

    @staticmethod
    def _fits_none(side: SideName, node: LayerNode, others: list[LayerNode]) -> bool:
        """Return True if the other side has layers left and a layer fits none of them."""
        return bool(others) and not any(fits(node, o) if side == "base" else fits(o, node) for o in others)

    def _is_around_a_list(self, node: LayerNode) -> bool:
        """Return True for a layer that the other side does without, and has a list of layers in its place.

        It is a framework's stack of layers while the other side has none left, or a user's own layer with parameters, one of
        whose sublayers is a list that fits one of the other side.
        """
        side: SideName = "base" if node in self._layers.base else "raw"
        others = self._left.of(OTHER_SIDE[side])
        if node.own_parameters:
            lists = [other for other in others if other.is_container]
            inner = [child for child in node.children if child.is_container and child.has_parameters]
            return not node.family and any(not self._fits_none(side, child, lists) for child in inner if lists)
        return node.family in STACKS and all(other.family not in STACKS for other in others)

    def _children(self, node: LayerNode, prefix: str) -> list[LayerNode]:
        """Return the direct sublayers that are free, and keep their routes below the parents, which begin with `prefix`."""
        children = [child for child in node.children if child not in self._taken and child not in self._paths]
        self._paths.update({child: prefix + child.name for child in children})
        return children

    def _may(self, base: LayerNode, raw: LayerNode, accept: Accept) -> bool:
        return accept(base, raw) and not self._ties.forbid(base, raw)

    def _bound(self, pairs: Sequence[tuple[LayerNode, LayerNode]]) -> bool:
        """Return True if the user's map keeps any of these layers from being the partner of any other."""
        return any(self._ties.forbid(base, raw) for base, _ in pairs for _, raw in pairs)

    # -- book-keeping ---------------------------------------------------------------------------------------------
    def _pair(self, base: LayerNode, raw: LayerNode, how: How) -> None:
        self._partner[base] = self._partner[raw] = next(self._numbers)
        self.pairs.append((base, raw, how))
        if base.has_parameters or raw.has_parameters:
            differ = base.family and raw.family and base.family != raw.family
        else:
            differ = not fits(base, raw) and _plain_class(base) != _plain_class(raw)
        if differ and not (base.is_container and raw.is_container):
            self._note(
                f"{base.shown} is a {base.info.class_name} in base, {raw.shown} a {raw.info.class_name} in raw: paired, so "
                "that their outputs are compared"
            )

    def _note_crossings(self) -> None:
        """Say so where layers with parameters were matched by name although the definition order differs."""
        position = {node: at for at, node in enumerate(self._layers.raw)}
        named = {b: r for b, r, how in self.pairs if how == "name" and b.has_parameters}
        order = [position[named[b]] for b in self._layers.base if b in named]
        if order != sorted(order):
            moved = [b.name for b in self._layers.base if b in named]
            theirs = [r.name for r in sorted(named.values(), key=position.__getitem__)]
            self._note(
                f"definition order differs in {self._parents.base.shown}: matched by name "
                f"({', '.join(moved[:6])} against {', '.join(theirs[:6])})"
            )

    def _note(self, text: str) -> None:
        """Note a sentence once, under the parent's name unless it begins with that or tells of the order in it."""
        where = self._parents.base.shown
        prefix = "" if text.startswith(("definition order", where)) else f"{where}: "
        if prefix + text not in self.notes:
            self.notes.append(prefix + text)


def _by_name(nodes: list[LayerNode], naming: Callable[[LayerNode], str]) -> dict[str, list[LayerNode]]:
    by_name: dict[str, list[LayerNode]] = defaultdict(list)
    for node in nodes:
        if name := naming(node):
            by_name[name].append(node)
    return by_name


def _unless_index(name: str) -> str:
    """Return the name, or "" if it is only the number that a Sequential or a list gives."""
    return "" if name.isdigit() else name


def _plain_class(node: LayerNode) -> str:
    """Return a class name as transformers and the frameworks both have it: SiLUActivation is SiLU."""
    return node.info.class_name.lower().removesuffix("activation")
