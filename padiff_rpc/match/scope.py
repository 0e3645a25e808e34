"""What of a matching is recorded and compared, as the two selections have it, and what is said of the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.layer_map import LayerPair, Matching, ParameterLink
from padiff_rpc.match.routes import is_inside, listed
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.model.selection import EVERYTHING, Selection, asked_layers, check_globs, narrowed
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Pair, Stage, Unmatched


@dataclass(frozen=True)
class Scope:
    """What both sides keep.

    skipped: one pair for each layer pair and each link that a side leaves out. hidden: base route of a recorded layer -> the
    left-out layers inside it that no other recorded layer encloses; under "" those that none encloses. root: whether
    the model's own inputs and outputs are recorded.
    """

    layers: tuple[LayerPair, ...]
    links: tuple[ParameterLink, ...]
    skipped: tuple[Pair, ...]
    notes: tuple[str, ...]
    hidden: Mapping[str, tuple[str, ...]]
    root: bool

    @property
    def is_everything(self) -> bool:
        return not self.skipped


def scope_of(
    base: ModelDescription,
    raw: ModelDescription,
    matching: Matching,
    selections: PerSide[Selection],
    *,
    dumped: bool = False,
) -> Scope:
    """Filter a matching by what each side's selection keeps.

    Assignment does not ask for this: what is left out gets base's weights too.

    The tensors inside a pair of the layer map are compared at that pair where the layers that hold them are left out.
    dumped: not these, since dumps do not hold what is left out.
    """
    left_out = _LeftOut(selections.base, selections.raw)
    layers = tuple(pair for pair in matching.layers if not left_out.why(pair.base, pair.raw))
    mapped = [] if dumped else [pair for pair in layers if pair.how == "explicit"]
    links: list[ParameterLink] = []
    skipped: list[Pair] = []
    absent = {
        "base": _undumped("base", base, selections.base),
        "raw": _undumped("raw", raw, selections.raw),
    }
    for link in matching.links:
        why = left_out.why(link.base_route, link.raw_route)
        if dumped and not why:
            reasons = [
                *(absent["base"].get(name) for name in link.base),
                *(absent["raw"].get(name) for name in link.raw),
            ]
            why = next(filter(None, reasons), "")
        home = next((pair for pair in mapped if _inside(link, pair)), None) if why else None
        if home is not None:
            links.append(replace(link, base_route=home.base, raw_route=home.raw))
        elif why:
            skipped += [_skipped("weights_before", link.base_route, link.raw_route, name, why) for name in link.raw]
        else:
            links.append(link)
    for pair in matching.layers:
        if why := left_out.why(pair.base, pair.raw):
            skipped.append(_skipped("forward", pair.base, pair.raw, "output", why))
    return Scope(
        layers=layers,
        links=tuple(links),
        skipped=tuple(skipped),
        notes=(*_notes("base", base, selections.base), *_notes("raw", raw, selections.raw)),
        hidden=_hidden(matching, layers),
        root=any(pair.base == "" or pair.raw == "" for pair in layers),
    )


def _undumped(side: str, model: ModelDescription, selection: Selection) -> dict[str, str]:
    """Return the tensors that only left-out layers hold, and why these are."""
    names = {alias: info.name for info in model.parameters for alias in (info.name, *info.aliases)}
    holders = [(layer.route, names[name]) for layer in model.layers for name in layer.parameters]
    kept = {name for route, name in holders if selection.keeps(route)}
    return {name: f"left out of {side}: {selection.left_out[route]}" for route, name in holders if name not in kept}


class _LeftOut:
    """Tells why a pair of layers is not compared, "" where it is."""

    def __init__(self, base: Selection, raw: Selection) -> None:
        self._base = base
        self._raw = raw

    def why(self, base_route: str, raw_route: str) -> str:
        for side, selection, route in (("base", self._base, base_route), ("raw", self._raw, raw_route)):
            if not selection.keeps(route):
                return f"left out of {side}: {selection.left_out[route]}"
        return ""


def _inside(link: ParameterLink, pair: LayerPair) -> bool:
    return is_inside(link.base_route, pair.base) and is_inside(link.raw_route, pair.raw)


def _skipped(stage: Stage, base_route: str, raw_route: str, tensor: str, why: str) -> Pair:
    local = tensor.removeprefix(f"{raw_route}.") if raw_route else tensor
    return Pair(0, stage, base_route, raw_route, 0, local, "skipped", why)


def _notes(side: str, description: ModelDescription, selection: Selection) -> list[str]:
    """Say once per reason what is left out."""
    routes: dict[str, list[str]] = defaultdict(list)
    for layer in description.layers:
        if not selection.keeps(layer.route):
            routes[selection.left_out[layer.route]].append(layer.route or layer.class_name)
    return [
        f"{side}: {len(found)} of {len(description.layers)} layers left out, {reason}: {listed(found)}"
        for reason, found in routes.items()
    ]


def _hidden(matching: Matching, layers: tuple[LayerPair, ...]) -> dict[str, tuple[str, ...]]:
    recorded = {pair.base for pair in layers}
    hidden: dict[str, list[str]] = defaultdict(list)
    for pair in matching.layers:
        if pair.base in recorded or not pair.base:
            continue
        outer = pair.base.rpartition(".")[0]
        while outer and outer not in recorded:
            outer = outer.rpartition(".")[0]
        hidden[outer].append(pair.base)
    return {route: tuple(found) for route, found in hidden.items()}


_WRAPS = "it holds no parameters of its own (PADIFF_SIKP_WRAP_LAYER)"


def wrap_layers(description: ModelDescription) -> Selection:
    """Leave out every layer without parameters of its own, the root apart; buffers do not count."""
    held = _parameters(description)
    return Selection(
        {layer.route: _WRAPS for layer in description.layers if layer.route and held.isdisjoint(layer.parameters)}
    )


def skipped_routes(
    description: ModelDescription, selection: Selection = EVERYTHING, layer_map: Collection[str] = ()
) -> dict[str, str]:
    """Return the routes that weight assignment passes over layer by layer, with the reason, in definition order.

    PaDiff's tree marks them "(skip)". layer_map: this side's routes in the layer map.
    """
    held = _parameters(description)
    reasons: dict[str, str] = {}
    for layer in description.layers:
        if layer.route in layer_map:
            reasons[layer.route] = "in the layer map"
        elif not selection.keeps(layer.route):
            reasons[layer.route] = f"left out: {selection.left_out[layer.route]}"
        elif held.isdisjoint(layer.parameters):
            reasons[layer.route] = "no parameters of its own"
    return reasons


def as_asked(
    selections: PerSide[Selection],
    globs: Sequence[str],
    depth: int | None,
    base: ModelDescription,
    raw: ModelDescription,
    matching: Matching,
) -> PerSide[Selection]:
    """Narrow the selections to the pairs of layers that are asked for.

    globs: a pair is asked for where base's or raw's route matches one of them; empty for all. depth: the most levels that
    base's layer may lie below the root; None for any.

    Raises PadiffError (BAD_CONFIG) for a glob that matches no layer of either side, or where no pair is left.
    """
    if not globs and depth is None:
        return selections
    routes = PerSide([layer.route for layer in base.layers], [layer.route for layer in raw.layers])
    check_globs(globs, {*routes.base, *routes.raw}, "base or raw")
    asked = routes.map(lambda each: asked_layers(each, globs, None))
    within = asked_layers(routes.base, (), depth)
    pairs = [
        pair for pair in matching.layers if (pair.base in asked.base or pair.raw in asked.raw) and pair.base in within
    ]
    if not pairs:
        raise PadiffError(
            "no layer that is asked for has a partner on the other side",
            reason=Reason.BAD_CONFIG,
            hint="`padiff-rpc inspect` lists the layers of a model; --pair BASE=RAW makes two of them correspond",
        )
    return PerSide(
        narrowed(selections.base, routes.base, {pair.base for pair in pairs}),
        narrowed(selections.raw, routes.raw, {pair.raw for pair in pairs}),
    )


def _parameters(description: ModelDescription) -> frozenset[str]:
    infos = [info for info in description.parameters if info.kind == "parameter"]
    return frozenset(name for info in infos for name in (info.name, *info.aliases))


def without_unrecorded(matching: Matching, base: ModelDescription, raw: ModelDescription) -> Matching:
    """Return the matching without links to tensors that no dump holds, and with their absence excused."""
    links = matching.links
    notes = list(matching.notes)
    for side, description in (("base", base), ("raw", raw)):
        if description.unrecorded == "tensors":
            links = ()
            notes.append(f"{side} is a dump that holds no parameters and buffers: these were not compared")
    return replace(
        matching,
        links=links,
        notes=tuple(notes),
        unmatched_base=_excused(matching.unmatched_base, raw, "raw"),
        unmatched_raw=_excused(matching.unmatched_raw, base, "base"),
    )


def _excused(entries: Sequence[Unmatched], other: ModelDescription, other_side: str) -> tuple[Unmatched, ...]:
    """Let tensors stand alone of whose kind the other side's dump lists none; what it lists must correspond."""
    kinds = {"": (), "buffers": ("buffer",), "tensors": ("parameter", "buffer")}[other.unrecorded]
    absent = set(kinds) - {info.kind for info in other.parameters}
    return tuple(
        replace(entry, why=f"{other_side} is a dump that does not hold {entry.what}s", fails=False)
        if entry.fails and entry.what in absent
        else entry
        for entry in entries
    )
