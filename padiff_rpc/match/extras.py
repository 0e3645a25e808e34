"""List the parameters and buffers that one side alone has, say which the user allows, and which could be neutral."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from padiff_rpc.match.layer_families import NORMS, family_of, parameter_name
from padiff_rpc.match.layer_map import Matching
from padiff_rpc.match.routes import is_inside
from padiff_rpc.model.model import LayerInfo, ModelDescription, ParameterKind
from padiff_rpc.per_side import OTHER_SIDE, SIDES, PerSide
from padiff_rpc.result import Extra, Unmatched

_NEUTRAL = {"bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
"""The value of all elements with which such a tensor changes nothing, by its name in common. A norm's weight has 1."""


def extras_of(described: PerSide[ModelDescription], matching: Matching) -> list[Extra]:
    """Return the parameters and buffers that need a partner and have none; those whose shapes alone differ are not among them."""
    linked = PerSide(
        {name for link in matching.links for name in link.base}, {name for link in matching.links for name in link.raw}
    )
    entries = PerSide(matching.unmatched_base, matching.unmatched_raw)
    found: list[Extra] = []
    for side, model in described.items():
        holders = holders_of(model)
        kinds: dict[str, ParameterKind] = {info.name: info.kind for info in model.parameters}
        for entry in entries.of(side):
            names = [name for name in entry.tensors if name not in linked.of(side)]
            layer = _common_route([holders[name].route for name in names])
            found += [Extra(side, kinds[name], name, layer, "fails", entry.why) for name in names]
    return found


def allowed(extras: Iterable[Extra], globs: Sequence[str]) -> list[Extra]:
    """Return the extras; those that a glob matches, by their names or by the route of a layer around them, are allowed."""
    found: list[Extra] = []
    for extra in extras:
        glob = next((glob for glob in globs if _matches(extra, glob)), None)
        if glob is not None:
            extra = replace(extra, status="allowed", why=f"allowed by {glob!r}")
        found.append(extra)
    return found


def idle_globs(extras: Collection[Extra], globs: Sequence[str]) -> list[str]:
    """Return the globs that match none of the extras."""
    return [glob for glob in globs if not any(_matches(extra, glob) for extra in extras)]


def neutral_values(
    described: PerSide[ModelDescription], matching: Matching, extras: Iterable[Extra]
) -> Iterator[tuple[Extra, float, bool]]:
    """Yield the extras that could be neutral, with the value that all their elements would have, and whether that excuses them.

    It excuses the scale and shift of a normalisation whose partner normalises alike and has none: InstanceNorm with and without
    affine. A bias of zeros in another layer does no harm as it is either, but is a difference of the models.
    """
    partner = PerSide(
        {pair.base: pair.raw for pair in matching.layers}, {pair.raw: pair.base for pair in matching.layers}
    )
    holders = described.map(holders_of)
    for extra in extras:
        if extra.what == "output":
            continue
        model, other = described.of(extra.side), described.of(OTHER_SIDE[extra.side])
        layer = holders.of(extra.side)[extra.name]
        family = _family(model, layer)
        name = parameter_name(family, extra.name.rpartition(".")[2])
        value = 1.0 if family in NORMS and name == "weight" else _NEUTRAL.get(name)
        if value is None or not family:
            continue
        route = partner.of(extra.side).get(layer.route)
        alike = route is not None and _family(other, other.layer(route)) == family
        yield extra, value, family in NORMS and extra.what == "parameter" and alike


def settled(entries: Iterable[Unmatched], extras: Collection[Extra]) -> list[Unmatched]:
    """Return one side's entries; one whose tensors are all excused, since they are allowed or neutral, does not fail any more."""
    status = {extra.name: extra for extra in extras}
    found: list[Unmatched] = []
    for entry in entries:
        mine = [status[name] for name in entry.tensors if name in status]
        if mine and all(extra.status != "fails" for extra in mine):
            why = ", ".join(dict.fromkeys(extra.why for extra in mine))
            entry = replace(entry, why=f"{entry.why}; {why}", fails=False)
        found.append(entry)
    return found


def lone_layers(
    described: PerSide[ModelDescription], matching: Matching, extras: Collection[Extra]
) -> PerSide[tuple[str, ...]]:
    """Return each side's outermost layers that hold extras, have no partner, and hold no layer that has one."""
    paired = PerSide({pair.base for pair in matching.layers}, {pair.raw for pair in matching.layers})
    found: PerSide[list[str]] = PerSide([], [])
    for side in SIDES:
        routes = {layer.route for layer in described.of(side).layers}
        for extra in extras:
            if extra.side != side or extra.what == "output":
                continue
            around = [route for route in _routes_around(extra.name) if route in routes]
            alone = [route for route in around if route and not any(is_inside(one, route) for one in paired.of(side))]
            if alone and alone[0] not in found.of(side):
                found.of(side).append(alone[0])
    return found.map(tuple)


def holders_of(model: ModelDescription) -> Mapping[str, LayerInfo]:
    """Return the first layer that holds each parameter and buffer, by every name that the tensor has."""
    names = {alias: info.name for info in model.parameters for alias in (info.name, *info.aliases)}
    return {names[name]: layer for layer in reversed(model.layers) for name in layer.parameters}


def _family(model: ModelDescription, layer: LayerInfo) -> str:
    shapes = {
        name.rpartition(".")[2]: info.spec.shape
        for info in model.parameters
        for name in (info.name, *info.aliases)
        if name in layer.parameters
    }
    return family_of(model.framework, layer.class_name, layer.class_path, shapes)


def _matches(extra: Extra, glob: str) -> bool:
    routes = _routes_around(extra.name if extra.what != "output" else f"{extra.layer}.")
    return any(fnmatchcase(text, glob) for text in (extra.name, *routes) if text)


def _routes_around(name: str) -> list[str]:
    """Return the routes of the layers around a tensor, the outermost first; not the root."""
    parts = name.split(".")[:-1]
    return [".".join(parts[: at + 1]) for at in range(len(parts))]


def _common_route(routes: Sequence[str]) -> str:
    """Return the innermost route that encloses all of these."""
    parts = [route.split(".") if route else [] for route in routes]
    common: list[str] = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return ".".join(common)
