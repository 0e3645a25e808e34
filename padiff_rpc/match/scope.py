"""Narrow a matching to what is recorded and compared, and say why the rest is not.

Layers are left out by the selections of the two sides, by the layers that are asked for, or since they hold no parameters.
Parameters and buffers are left out with their layers, or since a dump does not hold them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.layer_map import LayerPair, Matching, ParameterLink
from padiff_rpc.match.routes import is_inside, listed
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.model.selection import EVERYTHING, Selection, asked_layers, check_globs, narrowed
from padiff_rpc.per_side import PerSide, SideName
from padiff_rpc.result import Pair, Stage, Unmatched, Verdict

_WRAPS = "it holds no parameters of its own (PADIFF_SIKP_WRAP_LAYER)"


@dataclass(frozen=True)
class Scope:
    """The part of a matching that both sides keep.

    Attributes:
        layers: the pairs of layers that are recorded and compared.
        links: the links of parameters and buffers that are compared.
        skipped: a result with the status "skipped" for each pair of layers and each of raw's tensors that a side leaves out.
        notes: sentences that tell which layers each side leaves out, and why.
        hidden: the left-out layers, by the innermost recorded layer around them; all are base's routes. Under "" are those
            that no recorded layer encloses, the root apart.
        root: whether the model's own inputs and outputs are recorded.
    """

    layers: tuple[LayerPair, ...]
    links: tuple[ParameterLink, ...]
    skipped: tuple[Pair, ...]
    notes: tuple[str, ...]
    hidden: Mapping[str, tuple[str, ...]]
    root: bool

    @property
    def is_everything(self) -> bool:
        """Whether no pair of layers and no tensor is left out."""
        return not self.skipped


def scope_of(
    base: ModelDescription,
    raw: ModelDescription,
    matching: Matching,
    selections: PerSide[Selection],
    *,
    dumped: bool = False,
) -> Scope:
    """Narrow a matching to the layers and tensors that the selections of both sides keep.

    The tensors inside a pair of the layer map are compared as that pair's, although the layers that hold them are left out.

    Weight assignment does not heed the result: layers that are left out get base's weights too.

    Args:
        base: base's layers, parameters and buffers.
        raw: the same for raw.
        matching: the map between the two models.
        selections: the layers that each side keeps.
        dumped: whether tensors are read from dumps. A dump does not hold the tensors of left-out layers, so that those inside
            a pair of the layer map are skipped, and so is a tensor that left-out layers alone hold.
    """
    layers = tuple(pair for pair in matching.layers if not _why_left_out(selections, pair.base, pair.raw))
    mapped = [] if dumped else [pair for pair in layers if pair.how == "explicit"]
    undumped: PerSide[dict[str, str]] = PerSide({}, {})
    if dumped:
        undumped = PerSide(_undumped("base", base, selections.base), _undumped("raw", raw, selections.raw))
    links: list[ParameterLink] = []
    skipped: list[Pair] = []
    for link in matching.links:
        why = _why_left_out(selections, link.base_route, link.raw_route) or _why_undumped(undumped, link)
        home = next((pair for pair in mapped if _is_link_inside(link, pair)), None) if why else None
        if home is not None:
            links.append(replace(link, base_route=home.base, raw_route=home.raw))
        elif why:
            skipped += [_skipped("weights_before", link.base_route, link.raw_route, name, why) for name in link.raw]
        else:
            links.append(link)
    for pair in matching.layers:
        if why := _why_left_out(selections, pair.base, pair.raw):
            skipped.append(_skipped("forward", pair.base, pair.raw, "output", why))
    return Scope(
        layers=layers,
        links=tuple(links),
        skipped=tuple(skipped),
        notes=(*_notes("base", base, selections.base), *_notes("raw", raw, selections.raw)),
        hidden=_hidden(matching, layers),
        root=any(pair.base == "" or pair.raw == "" for pair in layers),
    )


def as_asked(
    selections: PerSide[Selection],
    globs: Sequence[str],
    depth: int | None,
    base: ModelDescription,
    raw: ModelDescription,
    matching: Matching,
) -> PerSide[Selection]:
    """Narrow the selections to the pairs of layers that are asked for.

    Args:
        selections: the layers that each side keeps so far.
        globs: a pair is asked for if base's or raw's route matches one of these patterns; all pairs are if there are none.
        depth: the most levels that base's layer may lie below the root (the root is 0); None for any depth.
        base: base's layers.
        raw: raw's layers.
        matching: the map between the two models.

    Raises:
        PadiffError: BAD_CONFIG if a glob matches no layer of either side, or if no pair is left.
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


def without_unrecorded(matching: Matching, base: ModelDescription, raw: ModelDescription) -> Matching:
    """Remove from a matching the tensors that a dump does not hold, so that their absence is no failure.

    If a dump holds the values of no tensor, all links are removed, and a note says so. If a dump lists no tensor of a kind
    (parameters or buffers), the other side's tensors of that kind need no partner. Tensors that a dump lists still need one.

    Args:
        matching: the map between the two models.
        base: base's layers, parameters and buffers; `base.unrecorded` tells what its dump lacks.
        raw: the same for raw.
    """
    links = matching.links
    notes = list(matching.notes)
    for side, description in PerSide(base, raw).items():
        if description.unrecorded == "tensors":
            links = ()
            notes.append(f"{side} is a dump that holds no parameters and buffers: these were not compared")
    return replace(
        matching,
        links=links,
        choices=matching.choices if links else (),
        notes=tuple(notes),
        unmatched_base=_excused(matching.unmatched_base, raw, "raw"),
        unmatched_raw=_excused(matching.unmatched_raw, base, "base"),
    )


def wrap_layers(description: ModelDescription) -> Selection:
    """Return a selection that leaves out every layer without parameters of its own, except the root.

    Buffers do not count as parameters.
    """
    parameters = _parameter_names(description)
    return Selection(
        {layer.route: _WRAPS for layer in description.layers if layer.route and parameters.isdisjoint(layer.parameters)}
    )


def parameter_holders(description: ModelDescription) -> set[str]:
    """Return the routes of the layers that hold parameters themselves; buffers do not count."""
    held = _parameter_names(description)
    return {layer.route for layer in description.layers if not held.isdisjoint(layer.parameters)}


def skipped_routes(
    description: ModelDescription, selection: Selection = EVERYTHING, layer_map: Collection[str] = ()
) -> dict[str, str]:
    """Return the layers whose own weights are not assigned one by one: the reason by route, in definition order.

    They are the layers of the layer map, those that are left out, and those without parameters of their own. PaDiff's tree of
    layers marks them "(skip)".

    Args:
        description: the model.
        selection: the layers of the model that are kept.
        layer_map: the routes of the model's layers in the layer map.
    """
    parameters = _parameter_names(description)
    reasons: dict[str, str] = {}
    for layer in description.layers:
        if layer.route in layer_map:
            reasons[layer.route] = "in the layer map"
        elif not selection.keeps(layer.route):
            reasons[layer.route] = f"left out: {selection.left_out[layer.route]}"
        elif parameters.isdisjoint(layer.parameters):
            reasons[layer.route] = "no parameters of its own"
    return reasons


def _why_left_out(selections: PerSide[Selection], base_route: str, raw_route: str) -> str:
    """Return which side leaves out its layer of a pair, and why; "" if both keep theirs."""
    routes = PerSide(base_route, raw_route)
    for side, selection in selections.items():
        if not selection.keeps(routes.of(side)):
            return f"left out of {side}: {selection.left_out[routes.of(side)]}"
    return ""


def _undumped(side: SideName, model: ModelDescription, selection: Selection) -> dict[str, str]:
    """Return the tensors that left-out layers alone hold: the reason by the tensor's full name."""
    names = {alias: info.name for info in model.parameters for alias in (info.name, *info.aliases)}
    holders = [(layer.route, names[name]) for layer in model.layers for name in layer.parameters]
    kept = {name for route, name in holders if selection.keeps(route)}
    return {name: f"left out of {side}: {selection.left_out[route]}" for route, name in holders if name not in kept}


def _why_undumped(undumped: PerSide[dict[str, str]], link: ParameterLink) -> str:
    """Return why a tensor of a link is in no dump; "" if all are in one."""
    reasons = [undumped.base.get(name, "") for name in link.base] + [undumped.raw.get(name, "") for name in link.raw]
    return next(filter(None, reasons), "")


def _is_link_inside(link: ParameterLink, pair: LayerPair) -> bool:
    return is_inside(link.base_route, pair.base) and is_inside(link.raw_route, pair.raw)


def _skipped(stage: Stage, base_route: str, raw_route: str, tensor: str, why: str) -> Pair:
    local = tensor.removeprefix(f"{raw_route}.") if raw_route else tensor
    return Pair.of(Verdict.skip(why), step=0, stage=stage, base_route=base_route, raw_route=raw_route, tensor=local)


def _notes(side: SideName, description: ModelDescription, selection: Selection) -> list[str]:
    """Return one sentence for each reason for which layers of a side are left out."""
    routes: dict[str, list[str]] = defaultdict(list)
    for layer in description.layers:
        if not selection.keeps(layer.route):
            routes[selection.left_out[layer.route]].append(layer.route or layer.class_name)
    return [
        f"{side}: {len(found)} of {len(description.layers)} layers left out, {reason}: {listed(found)}"
        for reason, found in routes.items()
    ]


def _hidden(matching: Matching, layers: tuple[LayerPair, ...]) -> dict[str, tuple[str, ...]]:
    """Return base's paired layers that are not in `layers`, by the innermost layer around them that is."""
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


def _excused(entries: Sequence[Unmatched], other: ModelDescription, other_side: SideName) -> tuple[Unmatched, ...]:
    """Let tensors stand alone if the other side's dump lists no tensor of their kind."""
    kinds = {"": (), "buffers": ("buffer",), "tensors": ("parameter", "buffer")}[other.unrecorded]
    absent = set(kinds) - {info.kind for info in other.parameters}
    return tuple(
        replace(entry, why=f"{other_side} is a dump that does not hold {entry.what}s", fails=False, tensors=())
        if entry.fails and entry.what in absent
        else entry
        for entry in entries
    )


def _parameter_names(description: ModelDescription) -> frozenset[str]:
    """Return the full names, aliases included, of all parameters of a model; no buffers."""
    infos = [info for info in description.parameters if info.kind == "parameter"]
    return frozenset(name for info in infos for name in (info.name, *info.aliases))
