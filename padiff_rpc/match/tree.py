"""A description as a tree that can be matched: each layer with its family and the signature of all it holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from padiff_rpc.match.layer_families import CONTAINERS, family_of, name_in_common, weight_axes
from padiff_rpc.match.layout_rules import without_ones
from padiff_rpc.model.model import LayerInfo, ModelDescription, ParameterInfo

SignatureKey = tuple[object, ...]
Signature = frozenset[tuple[SignatureKey, int]]

PACKS: Mapping[str, tuple[str, ...]] = {"qkv": ("q", "k", "v"), "gateup": ("gate", "up")}
"""A name that stands for one Linear (`families.name_in_common`) -> the names of those that it packs, in their order."""


@dataclass(eq=False, slots=True)
class LayerNode:
    """One layer. `own`: the tensors it holds itself, by their names in it. `family`: "" for a user's own class.

    exact: how often each parameter shape, brought to one layout, occurs in the subtree; fused: the same with q, k, v and
    gate, up as the one Linear that may pack them; loose: as exact with sizes sorted, which also stands for layouts that
    nobody knows.
    """

    info: LayerInfo
    framework: str
    family: str
    own: dict[str, ParameterInfo]
    children: list[LayerNode] = field(default_factory=list)
    exact: Signature = frozenset()
    fused: Signature = frozenset()
    loose: Signature = frozenset()
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
    def class_title(self) -> str:
        """The class as special initialisers name it: `torch::Linear`."""
        return f"{self.framework}::{self.info.class_name}"

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

    def descendants(self) -> Iterator[LayerNode]:
        for child in self.children:
            yield child
            yield from child.descendants()

    def subtree(self) -> Iterator[LayerNode]:
        yield self
        yield from self.descendants()


def build_tree(description: ModelDescription) -> dict[str, LayerNode]:
    """Return every layer's node by route, in definition order; the root under ""."""
    infos = {name: info for info in description.parameters for name in (info.name, *info.aliases)}
    canonical = {route: layer.route for layer in description.layers for route in (layer.route, *layer.aliases)}
    nodes: dict[str, LayerNode] = {}
    for layer in description.layers:
        own = {_local(name, layer): infos[name] for name in layer.parameters}
        shapes = {name: info.spec.shape for name, info in own.items()}
        family = family_of(description.framework, layer.class_name, layer.class_path, shapes)
        nodes[layer.route] = LayerNode(layer, description.framework, family, own)
    for node in nodes.values():
        routes = dict.fromkeys(canonical[route] for route in node.info.children)
        node.children = [nodes[route] for route in routes]
    _sign(nodes[""], {}, {})
    return nodes


def similarity(base: LayerNode, raw: LayerNode) -> float:
    """Return the share of parameters, by shape, that two subtrees have in common: 1 when all, 0 when none or no parameters."""
    left, right = Counter(dict(base.loose)), Counter(dict(raw.loose))
    most = max(left.total(), right.total())
    return (left & right).total() / most if most else 0.0


def _local(name: str, layer: LayerInfo) -> str:
    for route in (layer.route, *layer.aliases):
        if route and name.startswith(route + "."):
            return name[len(route) + 1 :]
    return name


@dataclass(frozen=True, slots=True)
class _Keys:
    """What one parameter adds to the signatures of the layers around it."""

    exact: list[SignatureKey]
    fused: list[SignatureKey]
    loose: list[SignatureKey]
    unknown_layout: bool


def _sign(node: LayerNode, done: dict[int, dict[str, _Keys]], known: dict[Signature, Signature]) -> dict[str, _Keys]:
    """Fill in the signatures below a node; a tied parameter counts once in each subtree.

    known: those that there are already. Layers of one kind have equal ones, and a deep model has many of them.
    """
    if id(node) in done:
        return done[id(node)]
    held = {info.name: _keys(node, name, info) for name, info in node.own_parameters.items()}
    for child in node.children:
        for name, keys in _sign(child, done, known).items():
            held.setdefault(name, keys)
    _fuse(node, held)
    node.exact = _counted((key for keys in held.values() for key in keys.exact), known)
    node.fused = _counted((key for keys in held.values() for key in keys.fused), known)
    node.loose = _counted((key for keys in held.values() for key in keys.loose), known)
    node.unknown_layout = any(keys.unknown_layout for keys in held.values())
    done[id(node)] = held
    return held


def _counted(keys: Iterable[SignatureKey], known: dict[Signature, Signature]) -> Signature:
    counted = frozenset(Counter(keys).items())
    return known.setdefault(counted, counted)


def _fuse(node: LayerNode, held: dict[str, _Keys]) -> None:
    """Let the first of q, k, v (and of gate, up) stand for the Linear that would pack them."""
    linears = {name_in_common(child.name): child for child in node.children if child.family == "linear"}
    for names in PACKS.values():
        parts = [linears[name] for name in names if name in linears]
        for kind in ("weight", "bias"):
            infos = [part.own_parameters[kind] for part in parts if kind in part.own_parameters]
            if len(infos) < len(names):
                continue
            shapes = [_oriented(part, kind) for part in parts]
            whole = (sum(shape[0] for shape in shapes), *shapes[0][1:])
            for info in infos:
                held[info.name] = replace(held[info.name], fused=[])
            key: SignatureKey = ("linear", *whole) if len(whole) == 2 else whole
            held[infos[0].name] = replace(held[infos[0].name], fused=[key])


def _oriented(node: LayerNode, name: str) -> tuple[int, ...]:
    shape = node.own[name].spec.shape
    return shape[::-1] if node.axes(name) == "in_out" else shape


def _keys(node: LayerNode, name: str, info: ParameterInfo) -> _Keys:
    """Sign one parameter; packed q, k, v count as three in the exact signature."""
    shape = info.spec.shape
    if name in ("in_proj_weight", "in_proj_bias") and shape and shape[0] % 3 == 0:
        part = without_ones((shape[0] // 3, *shape[1:]))
        exact, fused = [("linear", *one) if len(one) == 2 else one for one in (part, shape)]
        return _Keys([exact] * 3, [fused], [tuple(sorted(part))] * 3, False)
    if node.family == "layernorm":
        return _Keys([(prod(shape),)], [(prod(shape),)], [(prod(shape),)], False)
    plain = without_ones(shape)
    loose: SignatureKey = tuple(sorted(plain))
    axes = node.axes(name)
    if axes or (name in ("q_proj_weight", "k_proj_weight", "v_proj_weight") and len(shape) == 2):
        linear: SignatureKey = ("linear", *_oriented(node, name))
        return _Keys([linear], [linear], [loose], False)
    return _Keys([plain], [plain], [loose], node.family == "" and len(plain) > 1)
