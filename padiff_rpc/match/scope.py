"""What of a matching is recorded and compared, as the two selections have it, and what is said of the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from padiff_rpc.align.settings import AlignSettings
from padiff_rpc.match.layer_map import LayerPair, Matching, ParameterLink
from padiff_rpc.match.routes import is_inside, listed
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.model.selection import Selection
from padiff_rpc.result import Pair, Stage


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
    base: ModelDescription, raw: ModelDescription, matching: Matching, settings: AlignSettings, *, dumped: bool = False
) -> Scope:
    """Filter a matching. Assignment does not ask for this: what is left out gets base's weights too.

    The tensors inside a pair of the layer map are compared at that pair where the layers that hold them are left out.
    dumped: not these, since dumps do not hold what is left out.
    """
    left_out = _LeftOut(settings.base_selection, settings.raw_selection)
    layers = tuple(pair for pair in matching.layers if not left_out.why(pair.base, pair.raw))
    mapped = [] if dumped else [pair for pair in layers if pair.how == "explicit"]
    links: list[ParameterLink] = []
    skipped: list[Pair] = []
    absent = {
        "base": _undumped("base", base, settings.base_selection),
        "raw": _undumped("raw", raw, settings.raw_selection),
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
        notes=(*_notes("base", base, settings.base_selection), *_notes("raw", raw, settings.raw_selection)),
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
