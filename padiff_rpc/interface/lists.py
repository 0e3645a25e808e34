"""Keep the black list, white list and layer map of a model, which tell which layers are recorded, dumped and compared."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, get_args

from padiff_rpc.compare.rules import one_of
from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import LayerInfo, ModelDescription
from padiff_rpc.model.selection import Selection

ListMode = Literal["self", "sublayers", "all"]
"""Whether a list means the layers that are given, all layers below them, or both."""

RouteOf = Callable[[object], "str | None"]
"""Finds the route of a live layer; None for an object that is no layer of the model, or if the model lives elsewhere."""


class LayerLists:
    """The lists of one model.

    Layers are given by route or glob, or, if the model is in this process, as live objects; one or a list of them.
    """

    def __init__(self, description: ModelDescription, route_of: RouteOf) -> None:
        self._description = description
        self._route_of = route_of
        self._black: dict[str, str] = {}
        self._white: set[str] | None = None
        self._map: list[str] = []

    @property
    def layer_map(self) -> tuple[str, ...]:
        """The routes of the layers in the layer map, in the order in which they were given."""
        return tuple(self._map)

    def blacken(self, layers: Any, mode: ListMode) -> None:
        """Add layers to the black list: themselves, their sublayers, or all of these.

        Raises:
            PadiffError: UNKNOWN_NAME for what is no layer of the model; BAD_CONFIG for another mode.
        """
        for route in self._chosen(self.routes(layers), mode):
            self._black[route] = "on the black list"

    def whiten(self, layers: Any, mode: ListMode) -> None:
        """Add layers to the white list: themselves, their sublayers, or all of these. No others are kept from now on.

        Raises:
            PadiffError: UNKNOWN_NAME for what is no layer of the model; BAD_CONFIG for another mode.
        """
        self._white = (self._white or set()) | set(self._chosen(self.routes(layers), mode))

    def map(self, layers: Any) -> None:
        """Set the layer map: these layers correspond, in this order, to those of the other model's layer map.

        Raises:
            PadiffError: UNKNOWN_NAME for what is no layer of the model; BAD_CONFIG for a layer that is given twice.
        """
        routes = self.routes(layers, keep_order=True)
        doubled = next((route for route in routes if routes.count(route) > 1), None)
        if doubled is not None:
            raise PadiffError(
                f"the layer map names {doubled!r} twice", reason=Reason.BAD_CONFIG, hint="give each layer one partner"
            )
        self._map = routes

    def selection(self) -> Selection:
        """Return the layers that are left out, each with the reason.

        If there is a white list, it alone counts, and the root is on it. If not, the black list counts. Layers of the layer map
        are kept, and the layers below them left out, whatever the lists say.
        """
        left_out: dict[str, str] = {}
        for layer in self._description.layers:
            if self._white is not None:
                if layer.route not in self._white and layer.route:
                    left_out[layer.route] = "not on the white list"
            elif layer.route in self._black:
                left_out[layer.route] = self._black[layer.route]
        for route in self._map:
            left_out.pop(route, None)
            inside = f"inside the mapped layer {route or self._description.class_name!r}"
            left_out |= dict.fromkeys(self._below(self._description.layer(route)), inside)
        return Selection(left_out)

    def of_class(self, layer_class: type | str) -> list[str]:
        """Return the routes of all layers of a class, in definition order.

        Args:
            layer_class: the class itself, whose subclasses count too, or its name, with or without its module.

        Raises:
            PadiffError: UNKNOWN_NAME if there is no such layer; BAD_CONFIG for what is no class and no name.
        """
        if not isinstance(layer_class, (type, str)):
            raise PadiffError(
                f"a class is given itself or by its name, got a {type(layer_class).__qualname__}",
                reason=Reason.BAD_CONFIG,
                hint="write for example torch.nn.Linear, 'Linear' or type(layer); lists of layers are for update_black_list",
            )
        routes = [layer.route for layer in self._description.layers if self._is_a(layer, layer_class)]
        if routes:
            return routes
        name = layer_class if isinstance(layer_class, str) else layer_class.__name__
        classes = sorted({layer.class_name for layer in self._description.layers})
        nearest = difflib.get_close_matches(name, classes, n=1)
        raise PadiffError(
            f"{self._description.class_name} has no layer of the class {name!r}",
            reason=Reason.UNKNOWN_NAME,
            hint=f"did you mean {nearest[0]!r}?" if nearest else f"its classes are {', '.join(classes)}",
        )

    def routes(self, layers: Any, keep_order: bool = False) -> list[str]:
        """Return the routes of layers.

        Args:
            layers: layers as objects, routes or globs; one or a list.
            keep_order: True to keep the order and what is given twice; False for each route once.

        Raises:
            PadiffError: UNKNOWN_NAME for what is no layer of the model.
        """
        found: list[str] = []
        for layer in layers if _is_sequence(layers) else [layers]:
            found += self._matching(layer) if isinstance(layer, str) else [self._placed(layer)]
        return found if keep_order else list(dict.fromkeys(found))

    def _matching(self, text: str) -> list[str]:
        by_alias = {alias: layer.route for layer in self._description.layers for alias in (layer.route, *layer.aliases)}
        if text in by_alias:
            return [by_alias[text]]
        found = list(dict.fromkeys(by_alias[route] for route in fnmatch.filter(by_alias, text)))
        if found:
            return found
        nearest = difflib.get_close_matches(text, by_alias, n=3, cutoff=0.5)
        raise PadiffError(
            f"{self._description.class_name} has no layer {text!r}",
            reason=Reason.UNKNOWN_NAME,
            hint=f"did you mean {', '.join(map(repr, nearest))}?"
            if nearest
            else "give a route such as 'encoder.layers.0', or a glob such as 'encoder.*'",
        )

    def _placed(self, layer: object) -> str:
        route = self._route_of(layer)
        if route is not None:
            return route
        raise PadiffError(
            f"a {type(layer).__module__}.{type(layer).__qualname__} that is no layer of {self._description.class_name}",
            reason=Reason.UNKNOWN_NAME,
            hint="give layers of this very model (proxy.model.linear1), or their routes ('linear1'): a model in another "
            "process knows its layers by route only",
        )

    def _chosen(self, routes: Sequence[str], mode: ListMode) -> Iterable[str]:
        one_of("mode of a layer list", mode, get_args(ListMode))
        for route in routes:
            if mode in ("self", "all"):
                yield route
            if mode in ("sublayers", "all"):
                yield from self._below(self._description.layer(route))

    def _below(self, layer: LayerInfo) -> Iterable[str]:
        for child in layer.children:
            info = self._description.layer(child)
            yield info.route
            yield from self._below(info)

    def _is_a(self, layer: LayerInfo, layer_class: type | str) -> bool:
        if isinstance(layer_class, str):
            return layer_class in (layer.class_name, layer.class_path)
        # By name, so that it holds for a model in another process as well; subclasses count where they can be seen.
        return any(
            f"{each.__module__}.{each.__qualname__}" == layer.class_path for each in _with_subclasses(layer_class)
        )


def _with_subclasses(layer_class: type) -> Iterable[type]:
    yield layer_class
    for each in layer_class.__subclasses__():
        yield from _with_subclasses(each)


def _is_sequence(layers: Any) -> bool:
    """Return True for a list of layers, False for one: nn.Sequential and nn.ModuleList are layers that can be iterated over."""
    return isinstance(layers, (list, tuple, set, frozenset)) or (
        isinstance(layers, Iterable) and not isinstance(layers, str) and not hasattr(layers, "forward")
    )
