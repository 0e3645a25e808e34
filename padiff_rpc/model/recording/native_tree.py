"""Walk the layer tree of a native model, and name its layers and tensors by routes, first names and aliases."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.backends.backend import Backend
from padiff_rpc.model.model import LayerInfo, ModelDescription, ParameterInfo, ParameterKind
from padiff_rpc.model.recording.config_values import ConfigValues


@dataclass
class PlacedLayer:
    """A layer under its first route.

    Attributes:
        route: The first route at which the walk found the layer.
        layer: The framework's own layer.
        children: The routes of its direct sublayers, as they are named below this layer.
        aliases: The further routes of the same object.
    """

    route: str
    layer: Any
    children: tuple[str, ...]
    aliases: list[str] = field(default_factory=list)


@dataclass
class NamedTensor:
    """A parameter or buffer under its first full name; see `ParameterInfo` for the attributes."""

    name: str
    tensor: Any
    kind: ParameterKind
    trainable: bool
    transient: bool
    aliases: list[str] = field(default_factory=list)


def place_layers(backend: Backend, model: Any) -> list[PlacedLayer]:
    """List every layer once, in pre-order and definition order; further routes to the same object become aliases."""
    placed: dict[int, PlacedLayer] = {}
    for route, layer, children in _visit(backend, model, "", ()):
        known = placed.get(id(layer))
        if known is None:
            placed[id(layer)] = PlacedLayer(route, layer, children)
        elif route not in known.aliases and route != known.route:
            known.aliases.append(route)
    return list(placed.values())


def choose_layers(layers: Sequence[PlacedLayer], routes: Collection[str]) -> list[PlacedLayer]:
    """Return the layers at these routes or aliases, each once, in the order of `layers`.

    Raises:
        PadiffError: UNKNOWN_NAME for a route that no layer has.
    """
    known = {route: placed for placed in layers for route in (placed.route, *placed.aliases)}
    for route in routes:
        if route not in known:
            raise unknown_layer(f"no layer {route!r} to record", route, known)
    wanted = {id(known[route]) for route in routes}
    return [placed for placed in layers if id(placed) in wanted]


def unknown_layer(message: str, route: str, known: Iterable[str]) -> PadiffError:
    """Return an UNKNOWN_NAME error that proposes the nearest of the known routes."""
    nearest = difflib.get_close_matches(route, list(known), n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "describe() lists the layers"
    return PadiffError(message, reason=Reason.UNKNOWN_NAME, hint=hint)


def place_tensors(backend: Backend, layers: list[PlacedLayer]) -> list[NamedTensor]:
    """List every parameter and buffer once, layer by layer; further names of the same object become aliases.

    The names below a layer's aliases count as aliases, too.
    """
    placed: dict[int, NamedTensor] = {}
    for each in layers:
        transient = backend.transient_buffers(each.layer)
        for own_name, tensor, kind, trainable in backend.own_tensors(each.layer):
            names = [join(route, own_name) for route in (each.route, *each.aliases)]
            known = placed.get(id(tensor))
            if known is None:
                known = placed[id(tensor)] = NamedTensor(names.pop(0), tensor, kind, trainable, own_name in transient)
            known.aliases += [name for name in names if name not in known.aliases and name != known.name]
    return list(placed.values())


def find_tensors(backend: Backend, model: Any, names: Sequence[str]) -> dict[str, Any]:
    """Return the parameters and buffers of these full names or aliases, by name; unknown names are left out.

    Only layers on the way to a name are visited: a model is read name by name, and must not be walked whole for each.
    """
    found: dict[str, Any] = {}
    _find(backend, model, {name: name for name in names}, (), found)
    return found


def describe(backend: Backend, model: Any) -> ModelDescription:
    """Return the description of a native model."""
    layers = place_layers(backend, model)
    configs = ConfigValues()
    return ModelDescription(
        framework=backend.name,
        class_name=type(model).__name__,
        layers=tuple(_layer_info(backend, each, configs) for each in layers),
        parameters=tuple(
            ParameterInfo(
                name=each.name,
                kind=each.kind,
                spec=backend.spec(each.tensor),
                trainable=each.trainable,
                aliases=tuple(each.aliases),
                transient=each.transient,
            )
            for each in place_tensors(backend, layers)
        ),
    )


def join(route: str, name: str) -> str:
    """Join a route and a name below it; the root's route is empty."""
    return f"{route}.{name}" if route else name


def _visit(
    backend: Backend, layer: Any, route: str, path: tuple[int, ...]
) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Yield (route, layer, routes of children) in pre-order; the walk does not descend into a layer's own ancestor."""
    children = [(join(route, name), child) for name, child in backend.children(layer)]
    path = (*path, id(layer))
    children = [(child_route, child) for child_route, child in children if id(child) not in path]
    yield route, layer, tuple(child_route for child_route, _ in children)
    for child_route, child in children:
        yield from _visit(backend, child, child_route, path)


def _find(
    backend: Backend, layer: Any, wanted: Mapping[str, str], path: tuple[int, ...], found: dict[str, Any]
) -> None:
    """Add to `found`, by full name, the wanted tensors of a layer and the layers below it.

    `wanted` maps a tensor's name below this layer to its full name.
    """
    own = {name: tensor for name, tensor, _, _ in backend.own_tensors(layer)}
    below: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for name, full_name in wanted.items():
        if name in own:
            found[full_name] = own[name]
        for at in (at for at, sign in enumerate(name) if sign == "."):  # every one: a framework may allow dots in names
            below[name[:at]][name[at + 1 :]] = full_name
    path = (*path, id(layer))
    for name, child in backend.children(layer):
        if name in below and id(child) not in path:
            _find(backend, child, below[name], path, found)


def _layer_info(backend: Backend, placed: PlacedLayer, configs: ConfigValues) -> LayerInfo:
    kind = type(placed.layer)
    return LayerInfo(
        route=placed.route,
        class_name=kind.__name__,
        class_path=f"{kind.__module__}.{kind.__qualname__}",
        children=placed.children,
        parameters=tuple(join(placed.route, name) for name, *_ in backend.own_tensors(placed.layer)),
        hyperparameters={**backend.hyperparameters(placed.layer), **configs.of(placed.layer)},
        training=backend.is_training(placed.layer),
        aliases=tuple(placed.aliases),
    )
