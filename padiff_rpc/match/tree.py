"""Turn a model's description into a tree of layers that can be matched.

Each layer has its family and three signatures. A signature counts the shapes of all parameters in a layer and below it, so
that two layers of different frameworks can be held side by side without a look at their names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import prod

from padiff_rpc.match.layer_families import (
    CONTAINERS,
    PARAMETRIZATIONS,
    RUNNING,
    Axes,
    family_of,
    is_pointwise,
    name_in_common,
    uses_no_statistics,
    weight_axes,
    why_dispensable,
)
from padiff_rpc.match.layout_rules import without_ones
from padiff_rpc.model.model import LayerInfo, ModelDescription, ParameterInfo

SignatureKey = tuple[object, ...]
"""A parameter's shape, as signatures count it; ("linear", out, in) for a Linear's matrix, however it lies."""

Signature = frozenset[tuple[SignatureKey, int]]
"""How often each shape occurs among the parameters of a layer and of the layers below it."""


_FUSED = (("q", "k", "v"), ("q", "kv"), ("k", "v"), ("gate", "up"))
"""Names in common of the child Linears that signatures count as one, each group as large as can be."""


@dataclass(eq=False, slots=True)
class LayerNode:
    """One layer of the tree.

    Attributes:
        info: the layer as the model describes it.
        framework: "torch", "paddle" or "numpy".
        family: the family of its class (see `layer_families`); "" for a user's own class.
        own: the parameters and buffers that it holds itself, by their names in it.
        children: its direct sublayers, in definition order.
        exact: the signature with every shape brought to one layout.
        fused: the same, but with q, k and v counted as the one Linear that may pack them, and gate and up likewise.
        loose: the same as exact, but with the sizes of each shape sorted, so that it holds for unknown layouts too.
        packed: the same as fused, with the sizes sorted likewise.
        unknown_layout: whether the layout of a parameter in it or below it is not known.
        holder: the first layer that it is a direct sublayer of; None for the root.
    """

    info: LayerInfo
    framework: str
    family: str
    own: dict[str, ParameterInfo]
    children: list[LayerNode] = field(default_factory=list)
    exact: Signature = frozenset()
    fused: Signature = frozenset()
    loose: Signature = frozenset()
    packed: Signature = frozenset()
    unknown_layout: bool = False
    holder: LayerNode | None = field(default=None, repr=False)

    @property
    def route(self) -> str:
        """The layer's dotted name below the model; "" for the root."""
        return self.info.route

    @property
    def name(self) -> str:
        """The last part of the route."""
        return self.info.route.rpartition(".")[2]

    @property
    def shown(self) -> str:
        """The name for messages: the route, or the class name for the root."""
        return self.info.route or self.info.class_name

    @property
    def class_title(self) -> str:
        """The class under the name that special initialisers use, such as `torch::Linear`."""
        return f"{self.framework}::{self.info.class_name}"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters and buffers that the layer itself holds, by their names in it."""
        return {name: info.spec.shape for name, info in self.own.items()}

    @property
    def has_parameters(self) -> bool:
        """Whether the layer or any layer below it holds a parameter; buffers do not count."""
        return bool(self.loose)

    @property
    def size(self) -> int:
        """How many parameters the layer and all layers below it hold."""
        return sum(count for _, count in self.loose)

    @property
    def own_parameters(self) -> dict[str, ParameterInfo]:
        """The parameters that the layer itself holds, by their names in it; no buffers."""
        return {name: info for name, info in self.own.items() if info.kind == "parameter"}

    @property
    def is_container(self) -> bool:
        """Whether the layer is a framework's list of layers or parameters, such as Sequential or ModuleList."""
        return self.family in CONTAINERS

    @property
    def is_leaf(self) -> bool:
        """Whether all its parameters are its own; activations and the like may lie below. A container never is a leaf."""
        return not self.is_container and not any(child.has_parameters for child in self.children)

    def axes(self, name: str) -> Axes:
        """Return how the layer's own tensor `name` lies, if it is a Linear's matrix; else "".

        A tensor that torch's parametrizations keep beside a Linear, for its matrix, lies as the matrix does.
        """
        if self.family == "parametrizationlist" and self.name == "weight" and self.holder and self.holder.holder:
            layer = self.holder.holder
            shapes = {**layer.shapes, "weight": self.shapes[name]}
            return weight_axes(layer.framework, layer.family, layer.info.class_name, "weight", shapes)
        return weight_axes(self.framework, self.family, self.info.class_name, name, self.shapes)

    def is_pointwise(self, name: str) -> bool:
        """Return True if the layer's own tensor `name` is the weight of a convolution of size 1."""
        return is_pointwise(self.family, name, self.shapes[name])

    def why_dispensable(self, name: str) -> str:
        """Return why the layer's own tensor `name` needs no partner on the other side; "" if it needs one."""
        info = self.own[name]
        if name in RUNNING and uses_no_statistics(self.info.class_path, self.info.hyperparameters):
            return "running statistics that this layer does not use (use_global_stats=False)"
        return why_dispensable(name, info.kind, info.spec.dtype.is_floating, self.shapes)

    def descendants(self) -> Iterator[LayerNode]:
        """Yield all layers below this one, each before its sublayers, in definition order."""
        for child in self.children:
            yield child
            yield from child.descendants()

    def subtree(self) -> Iterator[LayerNode]:
        """Yield this layer, then all layers below it."""
        yield self
        yield from self.descendants()

    def tensor_names(self) -> set[str]:
        """Return the full names of the parameters and buffers of this layer and of all layers below it."""
        return {info.name for below in self.subtree() for info in below.own.values()}


def build_tree(description: ModelDescription) -> dict[str, LayerNode]:
    """Return all layers of a model by route, in definition order; the root's route is "".

    A layer that is registered under several routes stands under the first of them only.
    """
    infos = {name: info for info in description.parameters for name in (info.name, *info.aliases)}
    canonical = {route: layer.route for layer in description.layers for route in (layer.route, *layer.aliases)}
    tree: dict[str, LayerNode] = {}
    for layer in description.layers:
        own = {_local(name, layer): infos[name] for name in layer.parameters}
        shapes = {name: info.spec.shape for name, info in own.items()}
        family = family_of(description.framework, layer.class_name, layer.class_path, shapes)
        tree[layer.route] = LayerNode(layer, description.framework, family, own)
    for node in tree.values():
        routes = dict.fromkeys(canonical[route] for route in node.info.children)
        node.children = [tree[route] for route in routes]
        for child in node.children:
            child.holder = child.holder or node
    for node in tree.values():
        _take_parametrized(node)
    _sign(tree[""], {}, {})
    return tree


def similarity(base: LayerNode, raw: LayerNode) -> float:
    """Return which share of their parameters two layers have in common, by shape and with all layers below them.

    The share is of the side that has more parameters: 1.0 if all agree, 0.0 if none does or there are no parameters.
    """
    left, right = Counter(dict(base.loose)), Counter(dict(raw.loose))
    most = max(left.total(), right.total())
    return (left & right).total() / most if most else 0.0


def loose_key(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape as the signature `loose` counts it: its sizes in order, without those of 1."""
    return tuple(sorted(without_ones(shape)))


def _sorted_key(key: SignatureKey) -> SignatureKey:
    return loose_key(tuple(size for size in key if isinstance(size, int)))


def _local(name: str, layer: LayerInfo) -> str:
    for route in (layer.route, *layer.aliases):
        if route and name.startswith(route + "."):
            return name[len(route) + 1 :]
    return name


def _take_parametrized(node: LayerNode) -> None:
    """Let a layer hold itself, under the names of the older hooks, what torch's parametrizations keep for it below it.

    So `parametrizations.weight.original0` is the layer's `weight_g`, as in torch's older weight_norm and in paddle's.
    """
    if node.family != "parametrizationlist" or len(node.children) != 1 or not (node.holder and node.holder.holder):
        return
    layer, (step,) = node.holder.holder, node.children
    for local, suffix in PARAMETRIZATIONS.get(step.info.class_path, {}).items():
        for at in (node, step):
            if local in at.own:
                layer.own[node.name + suffix] = at.own.pop(local)


@dataclass(frozen=True, slots=True)
class _Keys:
    """What one parameter adds to the signatures of the layers around it."""

    exact: list[SignatureKey]
    fused: list[SignatureKey]
    loose: list[SignatureKey]
    unknown_layout: bool


def _sign(node: LayerNode, done: dict[int, dict[str, _Keys]], known: dict[Signature, Signature]) -> dict[str, _Keys]:
    """Fill in the signatures of a layer and of all below it; return what each of their parameters adds, by full name.

    A tied parameter counts once in each layer that it lies in or below.

    Args:
        node: the layer to begin with.
        done: the results for layers that are signed already, by the layer's id().
        known: the signatures that there are already, each as its own value: layers of one kind have equal signatures, a deep
            model has many such layers, and they share one object.
    """
    if id(node) in done:
        return done[id(node)]
    added = {info.name: _keys(node, name, info) for name, info in node.own_parameters.items()}
    for child in node.children:
        for name, keys in _sign(child, done, known).items():
            added.setdefault(name, keys)
    _fuse(node, added)
    node.exact = _counted((key for keys in added.values() for key in keys.exact), known)
    node.fused = _counted((key for keys in added.values() for key in keys.fused), known)
    node.loose = _counted((key for keys in added.values() for key in keys.loose), known)
    node.packed = _counted((_sorted_key(key) for keys in added.values() for key in keys.fused), known)
    node.unknown_layout = any(keys.unknown_layout for keys in added.values())
    done[id(node)] = added
    return added


def _counted(keys: Iterable[SignatureKey], known: dict[Signature, Signature]) -> Signature:
    counted = frozenset(Counter(keys).items())
    return known.setdefault(counted, counted)


def _fuse(node: LayerNode, added: dict[str, _Keys]) -> None:
    """Let the first of the child Linears q, k, v (or q and kv; and of gate, up) stand for the Linear that would pack them.

    added: what each parameter of the layer, and below it, adds to the signatures, by full name; changed in place.
    """
    linears = {name_in_common(child.name): child for child in node.children if child.family == "linear"}
    for names in _FUSED:
        parts = [linears[name] for name in names if name in linears]
        if names == ("k", "v") and "q" in linears:
            continue
        for kind in ("weight", "bias"):
            infos = [part.own_parameters[kind] for part in parts if kind in part.own_parameters]
            if len(infos) < len(names):
                continue
            shapes = [_oriented(part, kind) for part in parts]
            whole = (sum(shape[0] for shape in shapes), *shapes[0][1:])
            for info in infos:
                added[info.name] = replace(added[info.name], fused=[])
            key: SignatureKey = ("linear", *whole) if len(whole) == 2 else whole
            added[infos[0].name] = replace(added[infos[0].name], fused=[key])


def _oriented(node: LayerNode, name: str) -> tuple[int, ...]:
    """Return the shape of a layer's own tensor, a Linear's matrix as [out, in]."""
    shape = node.own[name].spec.shape
    return shape[::-1] if node.axes(name) == "in_out" else shape


def _keys(node: LayerNode, name: str, info: ParameterInfo) -> _Keys:
    """Return what one parameter adds to the signatures; packed q, k and v add three shapes to the exact one."""
    shape = info.spec.shape
    if name in ("in_proj_weight", "in_proj_bias") and shape and shape[0] % 3 == 0:
        part = without_ones((shape[0] // 3, *shape[1:]))
        exact, fused = [("linear", *one) if len(one) == 2 else one for one in (part, shape)]
        return _Keys([exact] * 3, [fused], [tuple(sorted(part))] * 3, False)
    if node.family == "layernorm":
        return _Keys([(prod(shape),)], [(prod(shape),)], [(prod(shape),)], False)
    if node.is_pointwise(name):
        linear = ("linear", *shape[:2])
        return _Keys([linear], [linear], [loose_key(shape)], False)
    plain = without_ones(shape)
    loose: SignatureKey = loose_key(shape)
    axes = node.axes(name)
    if axes or (name in ("q_proj_weight", "k_proj_weight", "v_proj_weight") and len(shape) == 2):
        linear: SignatureKey = ("linear", *_oriented(node, name))
        return _Keys([linear], [linear], [loose], False)
    return _Keys([plain], [plain], [loose], node.family == "" and len(plain) > 1)
