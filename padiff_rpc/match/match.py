"""Match two models: which layers and parameters of base and raw correspond, and why the rest does not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.layer_map import LayerPair, Matching, ParameterLink
from padiff_rpc.match.link_parameters import link_layers, link_specially, rule_between
from padiff_rpc.match.packed_parameters import Pack, link_pack
from padiff_rpc.match.pair_sublayers import How, Siblings
from padiff_rpc.match.special_init import SpecialInit, find_special_init
from padiff_rpc.match.tree import LayerNode, build_tree
from padiff_rpc.match.unmatched import Remains, proposals, unmatched
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.model.selection import EVERYTHING, Selection
from padiff_rpc.per_side import SideName
from padiff_rpc.result import Unmatched


def match_models(
    base: ModelDescription,
    raw: ModelDescription,
    layer_map: Mapping[str, str] | None = None,
    parameter_map: Mapping[str, str] | None = None,
    base_selection: Selection = EVERYTHING,
    raw_selection: Selection = EVERYTHING,
) -> Matching:
    """Pair the layers of two models and link their parameters and buffers.

    layer_map (base route -> raw route) and parameter_map (base name -> raw name) stand above everything found by itself.
    Everything is matched, whatever the selections leave out; but what a layer that is left out lacks does not fail.
    Raises PadiffError: UNKNOWN_NAME for one that a model lacks, BAD_CONFIG for a map that gives one thing two partners,
    MODELS_DO_NOT_MATCH for a parameter_map entry whose shapes no layout rule joins.
    """
    matcher = _Matcher(base, raw, (base_selection, raw_selection))
    matcher.map_layers(layer_map or {})
    matcher.map_parameters(parameter_map or {})
    return matcher.run()


class _Matcher:
    """The matching as it grows: layers first, from the root down, each pair's parameters as it is found."""

    def __init__(self, base: ModelDescription, raw: ModelDescription, selections: tuple[Selection, Selection]) -> None:
        self._selections = selections
        self._explicit: list[tuple[LayerNode, LayerNode]] = []
        self._base = build_tree(base)
        self._raw = build_tree(raw)
        self._partner: dict[LayerNode, LayerNode] = {}  # base -> raw
        self._how: dict[LayerNode, How] = {}
        self._taken: set[LayerNode] = set()  # layers of either side that have a partner, or are absorbed
        self._absorbed: dict[LayerNode, str] = {}
        self._links: list[ParameterLink] = []
        self._by_raw_name: dict[str, ParameterLink] = {}
        self._mapped: set[str] = set()
        self._unmatched: dict[SideName, list[Unmatched]] = {"base": [], "raw": []}
        self._notes: list[str] = []
        self._guesses: dict[str, list[tuple[str, str]]] = {"layers": [], "parameters": []}

    # -- what the user says ---------------------------------------------------------------------------------------
    def map_layers(self, layer_map: Mapping[str, str]) -> None:
        for base_route, raw_route in layer_map.items():
            base = self._find_layer("base", self._base, base_route)
            raw = self._find_layer("raw", self._raw, raw_route)
            if base in self._taken or raw in self._taken:
                raise PadiffError(
                    f"the layer map pairs {base_route!r} with {raw_route!r}, but one of them has a partner already",
                    reason=Reason.BAD_CONFIG,
                    hint="give each layer one partner",
                )
            self._pair(base, raw, "explicit")

    def map_parameters(self, parameter_map: Mapping[str, str]) -> None:
        for base_name, raw_name in parameter_map.items():
            base, mine = self._find_parameter("base", self._base, base_name)
            raw, theirs = self._find_parameter("raw", self._raw, raw_name)
            base_info, raw_info = base.own[mine], raw.own[theirs]
            if f"base:{base_info.name}" in self._mapped or f"raw:{raw_info.name}" in self._mapped:
                raise PadiffError(
                    f"the parameter map links {base_name!r} with {raw_name!r}, but one of them has a partner already",
                    reason=Reason.BAD_CONFIG,
                    hint="give each parameter one partner",
                )
            rule, note = rule_between(base, mine, raw, theirs)
            if not rule:
                raise PadiffError(
                    f"the parameter map links base's {base_name!r} {list(base_info.spec.shape)} with raw's {raw_name!r} "
                    f"{list(raw_info.spec.shape)}, and no layout rule joins these shapes",
                    reason=Reason.MODELS_DO_NOT_MATCH,
                    hint="link parameters of equal, transposed or flattened shape",
                )
            kind = base_info.kind if base_info.kind == raw_info.kind else "buffer"
            self._keep(ParameterLink(base.route, raw.route, (base_info.name,), (raw_info.name,), rule, kind))
            self._mapped |= {f"base:{base_info.name}", f"raw:{raw_info.name}"}
            self._notes += [note] if note else []

    # -- the matching ---------------------------------------------------------------------------------------------
    def run(self) -> Matching:
        self._explicit = list(self._partner.items())
        if self._base[""] not in self._taken and self._raw[""] not in self._taken:
            self._pair(self._base[""], self._raw[""], "root")
            self._match_below(self._base[""], self._raw[""])
        for base, raw in self._explicit:
            init = find_special_init(base.class_title, raw.class_title)
            if init is None:
                self._match_below(base, raw)
            else:
                self._fill_specially(base, raw, init)
        self._recover_groups()
        self._report_ties()
        routes: Mapping[SideName, Mapping[str, LayerNode]] = {"base": self._base, "raw": self._raw}
        order = {
            name: at for at, name in enumerate(info.name for node in self._raw.values() for info in node.own.values())
        }
        return Matching(
            layers=tuple(
                LayerPair(node.route, self._partner[node].route, self._how[node])
                for node in self._base.values()
                if node in self._partner
            ),
            links=tuple(sorted(self._links, key=lambda link: order[link.raw[0]])),
            unmatched_base=tuple(self._unmatched_of("base", routes)),
            unmatched_raw=tuple(self._unmatched_of("raw", routes)),
            notes=(*_collapse(self._notes), *proposals(self._guesses["layers"], self._guesses["parameters"])),
        )

    def _match_below(self, base: LayerNode, raw: LayerNode) -> None:
        linked = link_layers(base, raw, self._mapped, self._taken)
        self._notes += linked.notes
        self._guesses["parameters"] += linked.guesses
        for link in linked.links:
            self._add_link(link)
        self._unmatched["base"] += linked.unmatched_base
        self._unmatched["raw"] += linked.unmatched_raw
        self._absorbed |= linked.absorbed
        self._taken |= set(linked.absorbed)
        siblings = Siblings((base, raw), self._taken)
        siblings.run()
        self._notes += siblings.notes
        self._guesses["layers"] += siblings.guesses
        for pack in siblings.packs:
            self._absorb_pack((base.route, raw.route), pack)
        for mine, theirs, how in siblings.pairs:
            self._pair(mine, theirs, how)
        for mine, theirs, _ in siblings.pairs:
            self._match_below(mine, theirs)

    def _fill_specially(self, base: LayerNode, raw: LayerNode, init: SpecialInit) -> None:
        for link in link_specially(base, raw, init, self._by_raw_name):
            self._keep(link)
        for side in (base, raw):
            inside = list(side.descendants())
            self._absorbed |= dict.fromkeys(inside, f"inside {side.shown}, a pair of the layer map that {init} fills")
            self._taken |= set(inside)

    def _absorb_pack(self, routes: tuple[str, str], pack: Pack) -> None:
        for link in link_pack(routes, pack):
            self._add_link(link)
        parts = ", ".join(part.shown for part in pack.parts)
        self._absorbed[pack.fused] = f"it holds in one what {parts} hold apart, so that its output has no counterpart"
        for part in pack.parts:
            self._absorbed[part] = (
                f"{pack.fused.shown} holds its parameters, packed, so that its output has no counterpart"
            )
        self._taken |= {pack.fused, *pack.parts}

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
            self._unmatched["base"].append(Unmatched(link.kind, link.base[0], why, True))

    def _keep(self, link: ParameterLink) -> None:
        self._links.append(link)
        self._by_raw_name.update(dict.fromkeys(link.raw, link))

    def _recover_groups(self) -> None:
        """Pair layers that were looked through, but turn out to hold exactly corresponding parameters."""
        to_raw: dict[str, set[tuple[str, ...]]] = {}
        for link in self._links:
            for name in link.base:
                to_raw.setdefault(name, set()).add(link.raw)
        candidates: dict[frozenset[tuple[str, ...]], list[LayerNode]] = {}
        for node in self._raw.values():
            if node not in self._taken and not node.is_leaf:
                held = frozenset(
                    self._by_raw_name[name].raw for name in _tensor_names(node) if name in self._by_raw_name
                )
                candidates.setdefault(held, []).append(node)
        for node in self._base.values():
            if node in self._taken or node.is_leaf:
                continue
            held = frozenset(raw for name in _tensor_names(node) for raw in to_raw.get(name, ()))
            rivals = candidates.get(held, []) if held else []
            if rivals:
                same_name = next((raw for raw in rivals if raw.name == node.name), None)
                partner = same_name or rivals[0]
                rivals.remove(partner)
                self._pair(node, partner, "name" if same_name else "order")

    # -- what is left ---------------------------------------------------------------------------------------------
    def _report_ties(self) -> None:
        """Note base parameters that feed several of raw: gradients then differ, although values can agree."""
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

    def _unmatched_of(self, side: SideName, routes: Mapping[SideName, Mapping[str, LayerNode]]) -> list[Unmatched]:
        other: SideName = "raw" if side == "base" else "base"
        return unmatched(
            Remains(
                nodes=routes[side],
                paired=set(self._partner if side == "base" else self._partner.values()),
                absorbed=self._absorbed,
                linked={name for link in self._links for name in (link.base if side == "base" else link.raw)},
                excused=self._excused(side),
                free=[node for node in routes[other].values() if node not in self._taken],
                alone=[entry.name for entry in self._unmatched[other] if entry.fails],
                others={info.name: info for node in routes[other].values() for info in node.own.values()},
                other_side=other,
            ),
            self._unmatched[side],
        )

    def _excused(self, side: SideName) -> dict[str, str]:
        """Return the layers that are not compared, as one side of them is left out, and why.

        Not those inside a pair of the layer map: their tensors are compared at that pair.
        """
        mine, theirs = self._selections if side == "base" else self._selections[::-1]
        excused = dict(mine.left_out)
        pairs = [(base, raw) if side == "base" else (raw, base) for base, raw in self._partner.items()]
        for node, partner in pairs:
            if not theirs.keeps(partner.route):
                excused.setdefault(node.route, f"its partner {partner.shown} is, {theirs.left_out[partner.route]}")
        mapped = {node for base, raw in self._explicit for node in (base, raw)}
        for node, _ in pairs:
            if node in mapped and node.route not in excused:
                for below in node.descendants():
                    excused.pop(below.route, None)
        return excused

    # -- names ----------------------------------------------------------------------------------------------------
    def _find_layer(self, side: str, nodes: Mapping[str, LayerNode], route: str) -> LayerNode:
        by_alias = {alias: node for node in nodes.values() for alias in (node.route, *node.info.aliases)}
        if route not in by_alias:
            raise _unknown(f"{side} has no layer {route!r}", route, by_alias)
        return by_alias[route]

    def _find_parameter(self, side: str, nodes: Mapping[str, LayerNode], name: str) -> tuple[LayerNode, str]:
        owners = {
            alias: (node, local)
            for node in reversed(list(nodes.values()))
            for local, info in node.own.items()
            for alias in (info.name, *info.aliases)
        }
        if name not in owners:
            raise _unknown(f"{side} has no parameter or buffer {name!r}", name, owners)
        return owners[name]


def _tensor_names(node: LayerNode) -> set[str]:
    return {info.name for below in node.subtree() for info in below.own.values()}


def _unknown(message: str, name: str, known: Iterable[str]) -> PadiffError:
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(map(repr, near))}?" if near else "`padiff-rpc inspect SPEC` lists them"
    return PadiffError(message, reason=Reason.UNKNOWN_NAME, hint=hint)


def _collapse(notes: list[str]) -> list[str]:
    """Say once what holds for layers that differ in their numbers only."""
    alike: dict[str, list[str]] = {}
    for note in notes:
        same = alike.setdefault(re.sub(r"\d+", "N", note), [])
        if note not in same:
            same.append(note)
    return [same[0] if len(same) == 1 else f"{same[0]} (and {len(same) - 1} alike)" for same in alike.values()]
