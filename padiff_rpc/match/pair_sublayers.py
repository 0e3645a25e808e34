"""Pair the sublayers of two layers that correspond: by name, then by structure and order, looking through mere wrappers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from itertools import count
from typing import Literal

from padiff_rpc.match.layer_families import ACTIVATIONS, NORMS, name_in_common, same_class_name
from padiff_rpc.match.packed_parameters import Pack, find_packs
from padiff_rpc.match.pair_in_order import align_in_order, number_shifts, renumber, stem
from padiff_rpc.match.tree import LayerNode

How = Literal["root", "explicit", "name", "order"]
Accept = Callable[[LayerNode, LayerNode], bool]


def fits(base: LayerNode, raw: LayerNode) -> bool:
    """True when two layers may be one: the same family (or classes of the user's own), and all parameter shapes agree."""
    if not base.has_parameters and not raw.has_parameters:
        if base.family and raw.family:
            return base.family == raw.family
        return same_class_name(base.info.class_name, raw.info.class_name)
    if base.family and raw.family:
        if base.is_container != raw.is_container or (not base.is_container and base.family != raw.family):
            return False
    elif base.is_leaf != raw.is_leaf:
        return False
    return (
        base.exact == raw.exact
        or base.fused == raw.fused
        or (base.loose == raw.loose and (base.unknown_layout or raw.unknown_layout))
    )


def akin(base: LayerNode, raw: LayerNode) -> bool:
    """True when two layers of one name are worth pairing although their parameters differ, so that the difference is named."""
    if not base.has_parameters and not raw.has_parameters:
        return True
    if base.family and raw.family:
        both = {base.family, raw.family}
        return len(both) == 1 or (base.is_container and raw.is_container) or both <= NORMS or both <= ACTIVATIONS
    return base.is_leaf == raw.is_leaf


class Siblings:
    """Two lists of layers being paired. After run(): `pairs` in the order found, `packs`, `guesses` (routes), `notes`.

    parent: the pair whose children are matched. taken: layers that are spoken for already. What stays in `left_base`
    and `left_raw` has no partner here.
    """

    def __init__(self, parent: tuple[LayerNode, LayerNode], taken: set[LayerNode]) -> None:
        self._parent = parent
        self._taken = taken
        self._paths: dict[LayerNode, str] = {}
        self._base = self._children(parent[0], "")
        self._raw = self._children(parent[1], "")
        self._partner: dict[LayerNode, int] = {}
        self._numbers = count()
        self.pairs: list[tuple[LayerNode, LayerNode, How]] = []
        self.packs: list[Pack] = []
        self.notes: list[str] = []
        self.guesses: list[tuple[str, str]] = []

    @property
    def left_base(self) -> list[LayerNode]:
        return [node for node in self._base if node not in self._partner]

    @property
    def left_raw(self) -> list[LayerNode]:
        return [node for node in self._raw if node not in self._partner]

    def run(self) -> None:
        """Pair what fits exactly, from the surest sign to the weakest; then what is akin, so that its difference is told."""
        self._pair_exactly()
        self._pair_in_gaps(_both_activations)
        self._pair_by_name(self._paths.__getitem__, akin)
        self._pair_by_name(lambda node: node.name, akin)
        self._pair_in_gaps(_same_composite_family)
        if self._expand(lambda node: True):
            self._pair_exactly()
            self._pair_by_name(self._paths.__getitem__, akin)
        self._pair_in_gaps(_same_leaf_family)
        self._note_crossings()

    def _pair_exactly(self) -> None:
        while True:
            while self._expand(_is_wrapper):
                pass
            self._pair_packed()
            self._pair_by_name(self._meaningful_path, _fits_or_idle)
            self._pair_by_name(lambda node: _unless_index(node.name), _fits_or_idle)
            self._pair_by_name(lambda node: _unless_index(name_in_common(node.name)), fits)
            self._pair_by_order(lambda node: not node.is_leaf)
            if not self._expand(_is_wrapper):
                break
        self._pair_by_order(lambda node: node.is_leaf)
        self._pair_in_gaps(_fits_idle)
        self._pair_lone_idle()

    def _pair_packed(self) -> None:
        """Set fused and separate Linears apart that hold the same parameters: no layer of one is a layer of the other."""
        for pack in find_packs(self.left_base, self.left_raw, self._paths):
            self._partner |= dict.fromkeys((pack.fused, *pack.parts), next(self._numbers))
            self.packs.append(pack)
            self._note(pack.note)

    # -- by name --------------------------------------------------------------------------------------------------
    def _pair_by_name(self, naming: Callable[[LayerNode], str], accept: Accept) -> None:
        """Pair layers whose name occurs once on each side. Names that end in numbers count from 0 or from 1 as they like."""
        sides: list[dict[str, list[LayerNode]]] = []
        for left in (self.left_base, self.left_raw):
            by_name: dict[str, list[LayerNode]] = defaultdict(list)
            for node in left:
                if name := naming(node):
                    by_name[name].append(node)
            sides.append(by_name)
        base, raw = sides
        shifts = number_shifts(list(base), list(raw))
        for name, nodes in base.items():
            shift = shifts.get(stem(name), 0)
            found = raw.get(renumber(name, shift), [])
            if len(nodes) == len(found) == 1 and accept(nodes[0], found[0]):
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

        def candidates(left: list[LayerNode]) -> list[LayerNode]:
            return [node for node in left if node.has_parameters and wanted(node)]

        for signature in ("exact", "fused", "loose"):
            groups: dict[Hashable, tuple[list[LayerNode], list[LayerNode]]] = defaultdict(lambda: ([], []))
            for side, left in enumerate((self.left_base, self.left_raw)):
                for node in candidates(left):
                    groups[getattr(node, signature)][side].append(node)
            for base, raw in groups.values():
                if len(base) == len(raw) and all(fits(b, r) for b, r in zip(base, raw, strict=True)):
                    self._pair_group(base, raw)
        base, raw = candidates(self.left_base), candidates(self.left_raw)
        gaps = self._gaps()

        def score(b: LayerNode, r: LayerNode) -> float:
            if not fits(b, r):
                return 0.0
            same_class = same_class_name(b.info.class_name, r.info.class_name)
            return 10.0 + 2 * (gaps[b] == gaps[r]) + 2 * (self._paths[b] == self._paths[r]) + same_class

        aligned = align_in_order(base, raw, score)
        self._pair_group([b for b, _ in aligned], [r for _, r in aligned], uneven=True)

    def _pair_group(self, base: list[LayerNode], raw: list[LayerNode], uneven: bool = False) -> None:
        guessed = []
        for b, r in zip(base, raw, strict=True):
            self._pair(b, r, "order")
            if not _unless_index(b.name) and not _unless_index(r.name):
                continue
            if (len(base) > 1 or uneven) and name_in_common(b.name) != name_in_common(r.name):
                guessed.append(f"{self._paths[b]} -> {self._paths[r]}")
                self.guesses.append((b.route, r.route))
        if guessed:
            shown = ", ".join(guessed[:4]) + (", ..." if len(guessed) > 4 else "")
            self._note(f"matched by order, which is a guess, for shapes are equal and names do not help: {shown}")

    def _pair_in_gaps(self, accept: Accept) -> None:
        """Pair layers in order that lie between the same pairs on both sides."""
        gaps = self._gaps()
        aligned = align_in_order(
            self.left_base,
            self.left_raw,
            lambda b, r: float(gaps[b] == gaps[r] and accept(b, r)) * (1 + (b.name == r.name)),
        )
        for b, r in aligned:
            self._pair(b, r, "order")

    def _pair_lone_idle(self) -> None:
        """Pair layers without parameters that are the only ones of their kind on both sides."""
        left = [node for node in self.left_base if not node.has_parameters]
        found = [node for node in self.left_raw if not node.has_parameters]
        for b in left:
            partners = [r for r in found if fits(b, r)]
            if len(partners) == 1 and sum(fits(other, partners[0]) for other in left) == 1:
                self._pair(b, partners[0], "order")

    def _gaps(self) -> dict[LayerNode, tuple[int, int]]:
        """Return, for each layer that is left, the numbers of the pairs right before and after it."""
        gaps: dict[LayerNode, tuple[int, int]] = {}
        for nodes in (self._base, self._raw):
            before = []
            last = -1
            for node in nodes:
                before.append(last)
                last = self._partner.get(node, last)
            following = -1
            for node, previous in zip(reversed(nodes), reversed(before), strict=True):
                gaps[node] = (previous, following)
                following = self._partner.get(node, following)
        return gaps

    # -- wrappers -------------------------------------------------------------------------------------------------
    def _expand(self, allowed: Callable[[LayerNode], bool]) -> bool:
        """Replace layers that nothing on the other side fits by their children; tell whether there were any."""
        expanded = False
        for nodes, left, others in (
            (self._base, self.left_base, self.left_raw),
            (self._raw, self.left_raw, self.left_base),
        ):
            for node in left:
                if node.is_leaf or not others or not allowed(node) or not any(c.has_parameters for c in node.children):
                    continue
                is_base = nodes is self._base
                if any(fits(node, other) if is_base else fits(other, node) for other in others):
                    continue
                at = nodes.index(node)
                nodes[at : at + 1] = self._children(node, self._paths[node] + ".")
                expanded = True
        return expanded

    def _children(self, node: LayerNode, prefix: str) -> list[LayerNode]:
        """Return the children that nobody has yet, and note their routes below the parent."""
        children = [child for child in node.children if child not in self._taken and child not in self._paths]
        self._paths.update({child: prefix + child.name for child in children})
        return children

    # -- book-keeping ---------------------------------------------------------------------------------------------
    def _pair(self, base: LayerNode, raw: LayerNode, how: How) -> None:
        self._partner[base] = self._partner[raw] = next(self._numbers)
        self.pairs.append((base, raw, how))
        if base.has_parameters or raw.has_parameters:
            differ = base.family and raw.family and base.family != raw.family
        else:
            differ = not fits(base, raw)
        if differ and not (base.is_container and raw.is_container):
            self._note(
                f"{base.shown} is a {base.info.class_name} in base, {raw.shown} a {raw.info.class_name} in raw: paired, so "
                "that their outputs are compared"
            )

    def _note_crossings(self) -> None:
        """Say so where layers with parameters were matched by name although the definition order differs."""
        position = {node: at for at, node in enumerate(self._raw)}
        named = {b: r for b, r, how in self.pairs if how == "name" and b.has_parameters}
        order = [position[named[b]] for b in self._base if b in named]
        if order != sorted(order):
            moved = [b.name for b in self._base if b in named]
            theirs = [r.name for r in sorted(named.values(), key=position.__getitem__)]
            self._note(
                f"definition order differs in {self._parent[0].shown}: matched by name "
                f"({', '.join(moved[:6])} against {', '.join(theirs[:6])})"
            )

    def _note(self, text: str) -> None:
        prefix = (
            f"{self._parent[0].shown}: " if not text.startswith(("definition order", self._parent[0].shown)) else ""
        )
        if prefix + text not in self.notes:
            self.notes.append(prefix + text)


def _fits_or_idle(base: LayerNode, raw: LayerNode) -> bool:
    return fits(base, raw) or not (base.has_parameters or raw.has_parameters)


def _fits_idle(base: LayerNode, raw: LayerNode) -> bool:
    return not base.has_parameters and not raw.has_parameters and fits(base, raw)


def _is_wrapper(node: LayerNode) -> bool:
    """True for what only groups other layers: a container, or a class of the user's own without parameters of its own."""
    return (node.is_container or not node.family) and not node.own_parameters


def _same_composite_family(base: LayerNode, raw: LayerNode) -> bool:
    return bool(base.family) and base.family == raw.family and not base.is_container and not base.is_leaf


def _same_leaf_family(base: LayerNode, raw: LayerNode) -> bool:
    return bool(base.family) and base.family == raw.family and base.is_leaf and raw.is_leaf


def _both_activations(base: LayerNode, raw: LayerNode) -> bool:
    return {base.family, raw.family} <= ACTIVATIONS


def _unless_index(name: str) -> str:
    """Return the name, or "" for the mere number that a Sequential or a list gives."""
    return "" if name.isdigit() else name
