"""Both layer trees side by side around a divergence: which rows to show, and what each is marked with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from padiff_rpc.result import Divergence, Result

SIBLINGS = 2  # shown on either side of the layer looked at
ANCESTORS = 2  # shown above it, below the root; longer chains are folded into one dotted label

Mark = Literal["", "here", "seen", "also"]
State = Literal["", "pass", "fail"]


@dataclass(frozen=True)
class TreeEntry:
    """One layer in the excerpt of a tree, or several hidden ones.

    Attributes:
        route: the route of the layer.
        depth: the number of its ancestors that are shown.
        label: its route below the nearest of these ancestors.
        class_name: its class.
        hidden: the number of layers that the line stands for; 0 if it shows one layer.
    """

    route: str
    depth: int
    label: str
    class_name: str
    hidden: int = 0


@dataclass(frozen=True)
class Row:
    """One line of both trees.

    Attributes:
        base: base's layer; None beside a layer of raw that has no partner here.
        raw: raw's layer; None beside a layer of base that has no partner here.
        mark: "here" for the diverging layer, "seen" for the layer at which its difference was first measured, "also" for a
            further divergence.
        state: how the layer's tensors compared in the step and stage of the divergence; "" if none was compared.
    """

    base: TreeEntry | None
    raw: TreeEntry | None
    mark: Mark
    state: State


def side_by_side(result: Result, divergence: Divergence) -> list[Row]:
    """Return the rows around a divergence; none if the trees of the result do not hold its layers."""
    base, raw = (_SideTree(result.trees.get(side, [])) for side in ("base", "raw"))
    if divergence.base.route not in base.classes or divergence.raw.route not in raw.classes:
        return []
    partner = {b: r for b, r in result.paired_routes if b in base.classes and r in raw.classes}
    show_base = base.around(divergence.base.route, divergence.found_at.base_route)
    show_raw = raw.around(divergence.raw.route, divergence.found_at.raw_route)
    show_raw |= {partner[route] for route in show_base if route in partner}
    show_base |= {b for b, r in partner.items() if r in show_raw}
    marks = _Marks(result, divergence)
    return [
        Row(one, other, marks.mark(one, other), marks.state(one))
        for one, other in _merge(
            base.excerpt(show_base, divergence.base.route), raw.excerpt(show_raw, divergence.raw.route), partner
        )
    ]


def guides(nodes: Sequence[TreeEntry | None], ascii_only: bool) -> list[str]:
    """Return the drawn lines that lead to each node, two columns for each level; "" for None."""
    tee, corner, bar = ("|-", "`-", "| ") if ascii_only else ("├╴", "└╴", "│ ")
    open_below: set[int] = set()
    found = []
    for node in reversed(nodes):
        if node is None:
            found.append("")
            continue
        open_below = {depth for depth in open_below if depth <= node.depth}
        lead = "".join(bar if depth in open_below else "  " for depth in range(1, node.depth))
        found.append(lead + ((tee if node.depth in open_below else corner) if node.depth else ""))
        open_below.add(node.depth)
    return found[::-1]


class _SideTree:
    """The layers of one side, parents before their children."""

    def __init__(self, layers: Iterable[tuple[str, str]]) -> None:
        self.classes = dict(layers)
        self.parents = {route: self._parent(route) for route in self.classes}
        self.children: dict[str | None, list[str]] = {}
        for route, parent in self.parents.items():
            self.children.setdefault(parent, []).append(route)

    def _parent(self, route: str) -> str | None:
        if not route:
            return None
        while "." in route:
            route = route.rpartition(".")[0]
            if route in self.classes:
                return route
        return "" if "" in self.classes else None

    def ancestors(self, route: str) -> list[str]:
        """Return the routes of the layers around a layer, from its parent up to the root."""
        found = []
        parent = self.parents[route]
        while parent is not None:
            found.append(parent)
            parent = self.parents[parent]
        return found

    def around(self, route: str, seen: str) -> set[str]:
        """Choose what to show: the layer, its nearest ancestors and siblings, and its children near `seen`."""
        ancestors = self.ancestors(route)
        shown = {route, *ancestors[:ANCESTORS], *ancestors[-1:]}
        if ancestors:
            shown |= set(_window(self.children[ancestors[0]], route))
        below = self.children.get(route, [])
        if seen in self.classes and route in self.ancestors(seen):
            shown.add(seen)
            child = next(one for one in (seen, *self.ancestors(seen)) if one in below)
            shown |= set(_window(below, child))
        else:
            shown |= set(below[: 2 * SIBLINGS])
        return shown

    def excerpt(self, shown: set[str], focus: str) -> list[TreeEntry]:
        """Return the shown layers in order, with an entry for each run of hidden layers beside or below the focus."""
        told = {self.parents[focus], focus}
        covered = {above for route in shown for above in self.ancestors(route)}
        nodes: list[TreeEntry] = []
        run: list[TreeEntry] = []
        for route, class_name in self.classes.items():
            above = [one for one in self.ancestors(route) if one in shown]
            node = TreeEntry(route, len(above), route[len(above[0]) :].lstrip(".") if above else route, class_name)
            if route in shown:
                nodes += [*_folded(run), node]
                run = []
            elif self.parents[route] in told and route not in covered:
                if run and run[0].depth != node.depth:
                    nodes += _folded(run)
                    run = []
                run.append(node)
        return [*nodes, *_folded(run)]


def _folded(run: Sequence[TreeEntry]) -> list[TreeEntry]:
    """Return one entry for several hidden layers. A single one stays, since its count would take as much room."""
    return list(run) if len(run) < 2 else [TreeEntry("", run[0].depth, "", "", len(run))]


def _window(items: Sequence[str], centre: str) -> Sequence[str]:
    at = items.index(centre)
    return items[max(0, at - SIBLINGS) : at + SIBLINGS + 1]


def _merge(
    base: Sequence[TreeEntry], raw: Sequence[TreeEntry], partner: Mapping[str, str]
) -> Iterable[tuple[TreeEntry | None, TreeEntry | None]]:
    """Put partners of both excerpts on one line. A layer whose partner is not next stands alone."""
    i = j = 0
    while i < len(base) and j < len(raw):
        one, other = base[i], raw[j]
        if _belong(one, other, partner):
            yield one, other
            i, j = i + 1, j + 1
        elif one.hidden or not _ahead(partner.get(one.route), raw[j:]):
            yield one, None
            i += 1
        else:
            yield None, other
            j += 1
    yield from ((one, None) for one in base[i:])
    yield from ((None, other) for other in raw[j:])


def _belong(one: TreeEntry, other: TreeEntry, partner: Mapping[str, str]) -> bool:
    if one.hidden or other.hidden:
        return bool(one.hidden and other.hidden)
    return partner.get(one.route) == other.route


def _ahead(route: str | None, nodes: Sequence[TreeEntry]) -> bool:
    return route is not None and any(node.route == route and not node.hidden for node in nodes)


class _Marks:
    """What is written beside the rows around a divergence."""

    def __init__(self, result: Result, divergence: Divergence) -> None:
        self.here = (divergence.base.route, divergence.raw.route)
        self.seen = (divergence.found_at.base_route, divergence.found_at.raw_route)
        self.also = {(other.base.route, other.raw.route) for other in result.divergences}
        self.states: dict[str, State] = {}
        for pair in result.pairs:
            at_hand = (pair.step, pair.stage) == (divergence.step, divergence.stage)
            if at_hand and pair.status != "skipped" and self.states.get(pair.base_route) != "fail":
                self.states[pair.base_route] = pair.status

    def mark(self, base: TreeEntry | None, raw: TreeEntry | None) -> Mark:
        if _is(base, self.here[0]) or _is(raw, self.here[1]):
            return "here"
        if _is(base, self.seen[0]) or _is(raw, self.seen[1]):
            return "seen"
        return "also" if any(_is(base, one) or _is(raw, other) for one, other in self.also) else ""

    def state(self, base: TreeEntry | None) -> State:
        return self.states.get(base.route, "") if base and not base.hidden else ""


def _is(node: TreeEntry | None, route: str) -> bool:
    return node is not None and not node.hidden and node.route == route
