"""Turn a model's description into the tree of nodes that PaDiff dumps, and back into exactly that description."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from padiff_rpc.model.model import LayerInfo, ModelDescription, ParameterInfo
from padiff_rpc.model.recording.native_tree import join
from padiff_rpc.model.selection import Selection
from padiff_rpc.tape.entries import spec_from_json, spec_json
from padiff_rpc.tape.json_files import OURS, damaged, need, need_nodes
from padiff_rpc.tape.texts import layer_text

Fill = Callable[[LayerInfo, dict[str, Any]], None]
"""Adds to a layer's node, the second argument, the paths of that layer's tensors."""


def layer_tree(description: ModelDescription, model_name: str, selection: Selection, fill: Fill) -> dict[str, Any]:
    """Return the tree's root node.

    A layer that is registered at several places has a node at each, as in PaDiff; all but the first are marked as
    aliases.

    Args:
        description: The model.
        model_name: The name with which the nodes' routes begin.
        selection: Which layers the dump keeps. Nodes of the others say that they are not available.
        fill: Called with each layer and its node.
    """
    by_route = {route: layer for layer in description.layers for route in (layer.route, *layer.aliases)}
    tensors = {name: info for info in description.parameters for name in (info.name, *info.aliases)}

    def node_at(route: str) -> dict[str, Any]:
        layer = by_route[route]
        own = {local_name(layer, name): tensors[name] for name in layer.parameters}
        node: dict[str, Any] = {
            "name": layer.class_name,
            "route": shown_route(model_name, layer.route),
            "repr": layer_text(layer),
            "available": selection.keeps(layer.route) and (not layer.route or _has_parameters(own)),
            "weights": {},
            "grads": {},
            OURS: {"at": route} if route != layer.route else _layer_json(layer, own),
        }
        fill(layer, node)
        node["children"] = [node_at(child) for child in layer.children]
        return node

    return node_at("")


def shown_route(model_name: str, route: str) -> str:
    """Return a route as PaDiff writes it: it begins with the model's name, which also stands for the root."""
    return f"{model_name}{route}" if route.startswith("/") or not route else join(model_name, route)


def local_name(layer: LayerInfo, name: str) -> str:
    """Return a tensor's name in its layer: its full name without the layer's route."""
    return name.removeprefix(f"{layer.route}.") if layer.route else name


def description_of(
    root: Mapping[str, Any], framework: str, class_name: str, model_name: str, source: Path
) -> ModelDescription:
    """Read a model's description from a tree that layer_tree() made.

    Args:
        root: The tree's root node.
        framework: The model's framework.
        class_name: The model's class.
        model_name: The name with which the nodes' routes begin.
        source: The JSON file, for errors.

    Raises:
        PadiffError: DATA_LOSS, naming the file, if something is missing or of another type.
    """
    layers: list[LayerInfo] = []
    parameters: list[ParameterInfo] = []
    for node in first_nodes(root, source):
        ours = need(node, OURS, dict, source)
        route = plain_route(need(node, "route", str, source), model_name, source)
        tensors = need(ours, "tensors", dict, source)
        children = [_place(child, model_name, source) for child in need_nodes(node, "children", source)]
        layers.append(
            LayerInfo(
                route=route,
                class_name=need(node, "name", str, source),
                class_path=need(ours, "class_path", str, source),
                children=tuple(children),
                parameters=tuple(join(route, name) for name in tensors),
                hyperparameters=need(ours, "hyperparameters", dict, source),
                training=need(ours, "training", bool, source),
                aliases=tuple(need(ours, "aliases", list, source)),
            )
        )
        for name, tensor in tensors.items():
            first = need(tensor, "name", str, source)
            if first == join(route, name):
                parameters.append(_parameter(first, tensor, source))
    return ModelDescription(framework, class_name, tuple(layers), tuple(parameters))


def first_nodes(node: Mapping[str, Any], source: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the node of each layer once, in pre-order: aliases are left out."""
    if "at" in need(node, OURS, dict, source):
        return
    yield node
    for child in need_nodes(node, "children", source):
        yield from first_nodes(child, source)


def plain_route(route: str, model_name: str, source: Path) -> str:
    """Return a route without the model's name in front, as shown_route() wrote it.

    `/relu` is a functional call in the root's own code.

    Raises:
        PadiffError: DATA_LOSS if the route does not begin with the model's name.
    """
    rest = route.removeprefix(model_name)
    if route.startswith(model_name) and (not rest or rest.startswith("/")):
        return rest
    if not route.startswith(model_name) or not rest.startswith("."):
        raise damaged(source, f"holds the route {route!r}, which does not begin with the model's name {model_name!r}")
    return rest[1:]


def _has_parameters(own: Mapping[str, ParameterInfo]) -> bool:
    return any(info.kind == "parameter" for info in own.values())


def _layer_json(layer: LayerInfo, own: Mapping[str, ParameterInfo]) -> dict[str, Any]:
    return {
        "class_path": layer.class_path,
        "hyperparameters": dict(layer.hyperparameters),
        "training": layer.training,
        "aliases": list(layer.aliases),
        "tensors": {
            name: {
                "name": info.name,
                "kind": info.kind,
                "trainable": info.trainable,
                "aliases": list(info.aliases),
                **({"transient": True} if info.transient else {}),
                **spec_json(info.spec),
            }
            for name, info in own.items()
        },
    }


def _place(child: Mapping[str, Any], model_name: str, source: Path) -> str:
    ours = need(child, OURS, dict, source)
    return ours["at"] if "at" in ours else plain_route(need(child, "route", str, source), model_name, source)


def _parameter(name: str, tensor: Mapping[str, Any], source: Path) -> ParameterInfo:
    kind = need(tensor, "kind", str, source)
    if kind not in ("parameter", "buffer"):
        raise damaged(source, f"says that {name!r} is a {kind!r}")
    return ParameterInfo(
        name=name,
        kind="parameter" if kind == "parameter" else "buffer",
        spec=spec_from_json(tensor, source),
        trainable=need(tensor, "trainable", bool, source),
        aliases=tuple(need(tensor, "aliases", list, source)),
        transient=need(tensor, "transient", bool, source) if "transient" in tensor else False,
    )
