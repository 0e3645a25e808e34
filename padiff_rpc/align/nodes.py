"""A description as a tree that can be matched: each layer with its family and the signature of all it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

from padiff_rpc.align.families import CONTAINERS, family_of, weight_axes
from padiff_rpc.align.layouts import without_ones
from padiff_rpc.model.model import LayerInfo, ModelDescription, ParameterInfo

Key = tuple[object, ...]


@dataclass(eq=False)
class Node:
    """One layer. `own`: the tensors it holds itself, by their names in it. `family`: "" for a user's own class.

    exact: how often each parameter shape, brought to one layout, occurs in the subtree; loose: the same with sizes
    sorted, which also stands for layouts that nobody knows.
    """

    info: LayerInfo
    framework: str
    family: str
    own: dict[str, ParameterInfo]
    children: list[Node] = field(default_factory=list)
    exact: frozenset[tuple[Key, int]] = frozenset()
    loose: frozenset[tuple[Key, int]] = frozenset()
    unknown_layout: bool = False

    @property
    def route(self) -> str:
        return self.info.route

    @property
    def name(self) -> str:
        """The last part of the route."""
        return self.info.route.rpartition(".")[2]

    @property
    def shown(self) -> str:
        """The route, or the class name of the root."""
        return self.info.route or self.info.class_name

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: info.spec.shape for name, info in self.own.items()}

    @property
    def has_parameters(self) -> bool:
        """Whether the subtree holds any parameter; buffers do not count."""
        return bool(self.loose)

    @property
    def own_parameters(self) -> dict[str, ParameterInfo]:
        return {name: info for name, info in self.own.items() if info.kind == "parameter"}

    @property
    def is_container(self) -> bool:
        return self.family in CONTAINERS

    @property
    def is_leaf(self) -> bool:
        """A layer whose parameters are all its own (children such as activations may stand below it)."""
        return not self.is_container and not any(child.has_parameters for child in self.children)

    def axes(self, name: str) -> str:
        return weight_axes(self.framework, self.family, self.info.class_name, name, self.shapes)

    def descendants(self) -> Iterator[Node]:
        for child in self.children:
            yield child
            yield from child.descendants()

    def subtree(self) -> Iterator[Node]:
        yield self
        yield from self.descendants()


def build_tree(description: ModelDescription) -> dict[str, Node]:
    """Return every layer's node by route, in definition order; the root under ""."""
    infos = {name: info for info in description.parameters for name in (info.name, *info.aliases)}
    canonical = {route: layer.route for layer in description.layers for route in (layer.route, *layer.aliases)}
    nodes: dict[str, Node] = {}
    for layer in description.layers:
        own = {_local(name, layer): infos[name] for name in layer.parameters}
        shapes = {name: info.spec.shape for name, info in own.items()}
        family = family_of(description.framework, layer.class_name, layer.class_path, shapes)
        nodes[layer.route] = Node(layer, description.framework, family, own)
    for node in nodes.values():
        routes = dict.fromkeys(canonical[route] for route in node.info.children)
        node.children = [nodes[route] for route in routes]
    _sign(nodes[""], {})
    return nodes


def similarity(base: Node, raw: Node) -> float:
    """Return the share of parameters, by shape, that two subtrees have in common: 1 when all, 0 when none or no parameters."""
    left, right = Counter(dict(base.loose)), Counter(dict(raw.loose))
    most = max(left.total(), right.total())
    return (left & right).total() / most if most else 0.0


def _local(name: str, layer: LayerInfo) -> str:
    for route in (layer.route, *layer.aliases):
        if route and name.startswith(route + "."):
            return name[len(route) + 1 :]
    return name


def _sign(node: Node, done: dict[int, dict[str, tuple[list[Key], list[Key], bool]]]) -> dict:
    """Fill in the signatures below a node; a tied parameter counts once in each subtree."""
    if id(node) in done:
        return done[id(node)]
    held = {info.name: _keys(node, name, info) for name, info in node.own_parameters.items()}
    for child in node.children:
        for name, keys in _sign(child, done).items():
            held.setdefault(name, keys)
    node.exact = frozenset(Counter(key for exact, _, _ in held.values() for key in exact).items())
    node.loose = frozenset(Counter(key for _, loose, _ in held.values() for key in loose).items())
    node.unknown_layout = any(unknown for _, _, unknown in held.values())
    done[id(node)] = held
    return held


def _keys(node: Node, name: str, info: ParameterInfo) -> tuple[list[Key], list[Key], bool]:
    """Return (exact keys, loose keys, whether the layout is unknown) of one parameter; packed q, k, v count as three."""
    shape = info.spec.shape
    if name in ("in_proj_weight", "in_proj_bias") and shape and shape[0] % 3 == 0:
        part = without_ones((shape[0] // 3, *shape[1:]))
        exact: Key = ("linear", *part) if len(part) == 2 else part
        return [exact] * 3, [tuple(sorted(part))] * 3, False
    if node.family == "layernorm":
        return [(prod(shape),)], [(prod(shape),)], False
    axes = node.axes(name)
    if axes or (name in ("q_proj_weight", "k_proj_weight", "v_proj_weight") and len(shape) == 2):
        oriented = shape[::-1] if axes == "in_out" else shape
        return [("linear", *oriented)], [tuple(sorted(without_ones(shape)))], False
    plain = without_ones(shape)
    return [plain], [tuple(sorted(plain))], node.family == "" and len(plain) > 1
