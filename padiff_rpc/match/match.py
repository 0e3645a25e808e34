"""Match two models: find which layers and parameters of base and raw correspond, and say why the others do not."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

from padiff_rpc.match.certain_pairs import certain_layers
from padiff_rpc.match.constant_tables import constant_tables
from padiff_rpc.match.cut_stacks import cut_stacks
from padiff_rpc.match.excused_layers import excused_layers
from padiff_rpc.match.heeded_map import packed_layers, tied_pairs
from padiff_rpc.match.held_by_neighbours import link_neighbours
from padiff_rpc.match.layer_map import Choice, How, LayerPair, Matching, ParameterLink, collapse_alike
from padiff_rpc.match.link_parameters import link_layers, link_specially
from padiff_rpc.match.map_lines import map_lines, to_settle
from padiff_rpc.match.mapped_links import mapped_layers, mapped_links
from padiff_rpc.match.packed_parameters import Pack, choice_of_pack
from padiff_rpc.match.pair_sublayers import Siblings
from padiff_rpc.match.recovered_wrappers import recovered_wrappers
from padiff_rpc.match.routes import listed
from padiff_rpc.match.special_init import SpecialInit, find_special_init
from padiff_rpc.match.swapped_layers import choice_of_order
from padiff_rpc.match.ties import Ties
from padiff_rpc.match.tree import LayerNode, build_tree
from padiff_rpc.match.unmatched import Remains, unmatched
from padiff_rpc.match.user_map import MappedParameters, UserMap
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.model.selection import EVERYTHING, Selection
from padiff_rpc.per_side import OTHER_SIDE, PerSide, SideName
from padiff_rpc.result import Unmatched


def match_models(
    base: ModelDescription,
    raw: ModelDescription,
    user_map: UserMap | None = None,
    base_selection: Selection = EVERYTHING,
    raw_selection: Selection = EVERYTHING,
    flow: Mapping[str, str] | None = None,
) -> Matching:
    """Pair the layers of two models and link their parameters and buffers.

    Layers are paired from the root down: by name, then by structure and by the order of their definition. All layers are
    matched, whatever the selections leave out. But in a layer that a selection leaves out, a tensor without a partner does not
    make the comparison fail. Links may name parts of stacks (see `model.part_names`), where the other side has a list of layers.

    Args:
        base: base's layers, parameters and buffers.
        raw: the same for raw.
        user_map: the pairs of layers and links of tensors that the user demands; they come before all others.
        base_selection: the layers of base that are recorded and compared.
        raw_selection: the layers of raw that are recorded and compared.
        flow: raw's route by base's route, for layers that what flows through them joins (see `pairs_by_flow`). The layer map
            stands above it.

    Raises:
        PadiffError: UNKNOWN_NAME if the map names a layer or tensor that its model lacks; BAD_CONFIG if it gives a layer or
            tensor two partners; MODELS_DO_NOT_MATCH if no layout rule joins the shapes of tensors that it links.
    """
    user_map = user_map or UserMap()
    whole: PerSide[set[str]] = PerSide(set(), set())
    while True:
        cut = cut_stacks(PerSide(base, raw), user_map, whole)
        matcher = _Matcher(cut.described, PerSide(base_selection, raw_selection))
        matcher.heed(user_map)
        matcher.follow(flow or {})
        matching = matcher.run()
        idle = cut.idle(matching.links)
        if not any(idle):
            return matching
        whole = PerSide(whole.base | idle.base, whole.raw | idle.raw)


class _Matcher:
    """A matching as it grows: layers from the root down, and the parameters of each pair of layers when it is found."""

    def __init__(self, models: PerSide[ModelDescription], selections: PerSide[Selection]) -> None:
        self._models = models
        self._selections = selections
        self._ties = Ties()
        self._explicit: list[tuple[LayerNode, LayerNode]] = []  # the pairs of the layer map
        self._trees = models.map(build_tree)
        self._partner: dict[LayerNode, LayerNode] = {}  # base -> raw
        self._how: dict[LayerNode, How] = {}
        self._taken: set[LayerNode] = set()  # layers of either side that have a partner, or are absorbed
        # Layers whose tensors are linked as part of another layer, and why they have no partner.
        self._absorbed: dict[LayerNode, str] = {}
        self._links: list[ParameterLink] = []
        self._by_raw_name: dict[str, ParameterLink] = {}
        self._mapped: PerSide[set[str]] = PerSide(set(), set())  # names of the tensors that the user's map links
        self._unmatched: PerSide[list[Unmatched]] = PerSide([], [])
        self._tables: PerSide[dict[str, str]] = PerSide({}, {})  # why tensors without partner need none, by full name
        self._notes: list[str] = []
        self._choices: list[Choice] = []
        self._guesses: dict[str, list[tuple[str, str]]] = {"layers": [], "parameters": []}
        self._notes_in_doubt: list[str] = []

    # -- what the user says ---------------------------------------------------------------------------------------
    def heed(self, user_map: UserMap) -> None:
        """Pair the layers and link the tensors that the user's map names."""
        self._explicit = mapped_layers(user_map.layers, self._trees)
        for base, raw in self._explicit:
            self._pair(base, raw, "explicit")
            self._ties.add(base, raw)
        links, notes = mapped_links(user_map, self._trees)
        for one in links:
            self._keep(one.link)
            self._choices += one.choices
            self._mapped.base.update(one.link.base)
            self._mapped.raw.update(one.link.raw)
            for base, raw in product(*one.held):
                self._ties.add(base.node, raw.node)
        self._absorbed |= {node: why for node, why in packed_layers(links) if node not in self._taken}
        self._taken |= set(self._absorbed)
        for base, raw in tied_pairs(links, self._taken):
            self._pair(base, raw, "parameters")
        self._notes += notes

    def follow(self, flow: Mapping[str, str]) -> None:
        """Pair the layers that what flows through them joins, unless the user's map says otherwise."""
        followed: list[str] = []
        for base_route, raw_route in flow.items():
            base, raw = self._trees.base[base_route], self._trees.raw[raw_route]
            if base in self._taken or raw in self._taken or self._ties.forbid(base, raw):
                continue
            self._pair(base, raw, "flow")
            followed.append(f"{base_route} -> {raw_route}")
        for base, raw in self._partner.items():
            if self._how[base] == "flow":
                self._ties.add(base, raw)
        if followed:
            self._notes.append(
                f"matched by what flows through them, for shapes and names leave it open: {listed(followed)}"
            )

    # -- the matching ---------------------------------------------------------------------------------------------
    def run(self) -> Matching:
        settled = list(self._partner.items())
        roots = self._trees.map(lambda tree: tree[""])
        if roots.base not in self._taken and roots.raw not in self._taken:
            self._pair(roots.base, roots.raw, "root")
            self._match_below(roots)
        for base, raw in settled:
            explicit = self._how[base] == "explicit"
            init = find_special_init(base.class_title, raw.class_title) if explicit else None
            if init is None:
                self._match_below(PerSide(base, raw))
            else:
                self._fill_specially(base, raw, init)
        for base, raw, how in recovered_wrappers(self._trees, self._taken, self._links):
            self._pair(base, raw, how)
            self._link_own(PerSide(base, raw), self._linked_names())
        self._link_beside()
        self._report_ties()
        self._tables = constant_tables(self._trees, self._linked_names(), self._partner)
        self._notes += [why for tables in self._tables for why in tables.values()]
        raw_names = (info.name for node in self._trees.raw.values() for info in node.own.values())
        order = {name: at for at, name in enumerate(raw_names)}
        certain = certain_layers(self._partner, self._how, self._links)
        of_order = tuple(collapse_alike(self._notes_in_doubt))
        return Matching(
            layers=tuple(
                LayerPair(node.route, self._partner[node].route, self._how[node], node in certain)
                for node in self._trees.base.values()
                if node in self._partner
            ),
            links=tuple(sorted(self._links, key=lambda link: order[link.raw[0]])),
            unmatched_base=tuple(self._unmatched_of("base")),
            unmatched_raw=tuple(self._unmatched_of("raw")),
            notes=(*collapse_alike(self._notes), *self._to_settle_parameters(), *of_order),
            guessed_pairs=tuple(self._guesses["layers"]),
            guesses_of_order=of_order,
            choices=tuple(
                choice
                for choice in self._choices
                if len(choice.alternatives) > 1 and set(choice.alternatives[0].links) <= set(self._links)
            ),
        )

    def _to_settle_parameters(self) -> list[str]:
        guessed = [MappedParameters((base,), (raw,)) for base, raw in self._guesses["parameters"]]
        return to_settle("parameters", map_lines(guessed, [info.name for info in self._models.base.parameters]))

    def _match_below(self, pair: PerSide[LayerNode]) -> None:
        """Link the tensors of two paired layers, pair their sublayers, and do the same for each pair of sublayers."""
        self._link_own(pair, self._mapped)
        siblings = Siblings(pair, self._taken, self._ties)
        siblings.run()
        self._notes += siblings.notes
        self._guesses["layers"] += siblings.guesses
        for pack in siblings.packs:
            self._absorb_pack(pair.map(lambda node: node.route), pack)
        for base, raw, how in siblings.pairs:
            self._pair(base, raw, how)
        for base, raw, _ in siblings.pairs:
            self._match_below(PerSide(base, raw))
        self._notes_in_doubt += siblings.notes_in_doubt
        for guessed in siblings.in_doubt:
            choice = choice_of_order(pair.map(lambda node: node.route), guessed, self._links)
            if choice is not None:
                self._choices.append(choice)
            else:
                self._guesses["layers"] += [(base.route, raw.route) for base, raw in guessed]

    def _link_own(self, pair: PerSide[LayerNode], settled: PerSide[set[str]]) -> None:
        """Link the tensors that two paired layers hold themselves, but for those that are settled already, by full name."""
        linked = link_layers(pair, settled, self._taken)
        self._notes += linked.notes
        self._choices += linked.choices
        self._guesses["parameters"] += linked.guesses
        for link in linked.links:
            self._add_link(link)
        self._unmatched.base.extend(linked.unmatched.base)
        self._unmatched.raw.extend(linked.unmatched.raw)
        self._absorbed |= linked.absorbed
        self._taken |= set(linked.absorbed)

    def _fill_specially(self, base: LayerNode, raw: LayerNode, init: SpecialInit) -> None:
        for link in link_specially(base, raw, init, self._by_raw_name):
            self._keep(link)
        for side in (base, raw):
            inside = list(side.descendants())
            self._absorbed |= dict.fromkeys(inside, f"inside {side.shown}, a pair of the layer map that {init} fills")
            self._taken |= set(inside)

    def _absorb_pack(self, routes: PerSide[str], pack: Pack) -> None:
        choice = choice_of_pack(routes, pack)
        for link in choice.alternatives[0].links:
            if self._mapped.base.isdisjoint(link.base) and self._mapped.raw.isdisjoint(link.raw):
                self._add_link(link)
        self._choices.append(choice)
        parts = ", ".join(part.shown for part in pack.parts.values())
        self._absorbed[pack.fused] = f"it holds in one what {parts} hold apart, so that its output has no counterpart"
        for part in pack.parts.values():
            self._absorbed[part] = (
                f"{pack.fused.shown} holds its parameters, packed, so that its output has no counterpart"
            )
        self._taken |= {pack.fused, *pack.parts.values()}

    def _pair(self, base: LayerNode, raw: LayerNode, how: How) -> None:
        self._partner[base] = raw
        self._how[base] = how
        self._taken |= {base, raw}

    def _add_link(self, link: ParameterLink) -> None:
        """Add a link unless a tied parameter has it already."""
        known = next((self._by_raw_name[name] for name in link.raw if name in self._by_raw_name), None)
        if known is None:
            self._keep(link)
        elif known.base != link.base:
            why = (
                f"raw ties what base keeps apart: {known.base[0]} and {link.base[0]} would both be raw's {link.raw[0]}"
            )
            self._unmatched.base.append(Unmatched(link.kind, link.base[0], why, True))

    def _keep(self, link: ParameterLink) -> None:
        self._links.append(link)
        self._by_raw_name.update(dict.fromkeys(link.raw, link))

    def _link_beside(self) -> None:
        """Link what is left over in paired layers with what the layers above and below their partners have left over."""
        pairs = [PerSide(base, raw) for base, raw in self._partner.items()]
        for link, note in link_neighbours(pairs, self._trees, self._linked_names()):
            self._keep(link)
            self._notes.append(note)
            for entries, names in zip(self._unmatched, (link.base, link.raw), strict=True):
                entries[:] = [entry for entry in entries if entry.name not in names]

    def _linked_names(self) -> PerSide[set[str]]:
        return PerSide(
            {name for link in self._links for name in link.base}, {name for link in self._links for name in link.raw}
        )

    # -- what is left ---------------------------------------------------------------------------------------------
    def _report_ties(self) -> None:
        """Note parameters of base that correspond to several of raw: gradients then differ, although values can agree."""
        feeds: dict[str, list[str]] = {}
        for link in self._links:
            for name in link.base if link.special is None else ():
                feeds.setdefault(name, []).append(", ".join(link.raw))
        for name, targets in feeds.items():
            if len(targets) > 1:
                self._notes.append(
                    f"base ties {name}, raw keeps it apart as {' and '.join(targets)}: values agree after assignment, "
                    "gradients cannot"
                )

    def _unmatched_of(self, side: SideName) -> list[Unmatched]:
        other = OTHER_SIDE[side]
        other_tree = self._trees.of(other)
        return unmatched(
            Remains(
                nodes=self._trees.of(side),
                paired={node for node, _ in self._pairs_from(side)},
                absorbed=self._absorbed,
                linked=self._linked_names().of(side),
                tables=self._tables.of(side),
                excused=excused_layers(side, self._selections, self._pairs_from(side), self._explicit),
                free=[node for node in other_tree.values() if node not in self._taken],
                alone=[entry.name for entry in self._unmatched.of(other) if entry.fails],
                others={info.name: info for node in other_tree.values() for info in node.own.values()},
                other_side=other,
            ),
            self._unmatched.of(side),
        )

    def _pairs_from(self, side: SideName) -> list[tuple[LayerNode, LayerNode]]:
        """Return the paired layers of a side, each with its partner."""
        return [(base, raw) if side == "base" else (raw, base) for base, raw in self._partner.items()]
