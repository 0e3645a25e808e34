"""Tell whether two layers may be counterparts: by their families, their structure and the shapes of their parameters."""

from __future__ import annotations

from padiff_rpc.match.adapters import find_adapter
from padiff_rpc.match.layer_families import ACTIVATIONS, NORMS, same_class_name
from padiff_rpc.match.stacked_experts import find_stack
from padiff_rpc.match.tree import LayerNode
from padiff_rpc.per_side import PerSide


def fits(base: LayerNode, raw: LayerNode) -> bool:
    """Return True if two layers may be counterparts: they are of one kind, and their parameters have the same shapes.

    Two layers are of one kind if their families are equal or both are containers; if one is a user's own class, both or neither
    must be a leaf (see `LayerNode.is_leaf`), unless they are an adapter or experts (see `find_adapter` and `find_stack`).
    Parameters of the layers below count too. Their shapes agree in one layout, or with q, k, v packed, or, if a layout is not
    known, with the sizes in any order.

    A Linear and a convolution of size 1 are of one kind, too.

    Layers without parameters fit if their families are equal, or, if one is a user's own class, if their class names are.
    """
    if not base.has_parameters and not raw.has_parameters:
        if base.family and raw.family:
            return base.family == raw.family
        return same_class_name(base.info.class_name, raw.info.class_name)
    if base.family and raw.family:
        alike = (base.is_container and raw.is_container) or base.family == raw.family or _compute_alike(base, raw)
        if not alike:
            return False
    elif base.is_leaf != raw.is_leaf:
        return find_adapter(PerSide(base, raw)) is not None or find_stack(PerSide(base, raw)) is not None
    unknown = base.unknown_layout or raw.unknown_layout
    return (
        base.exact == raw.exact
        or base.fused == raw.fused
        or (unknown and (base.loose == raw.loose or base.packed == raw.packed))
    )


def akin(base: LayerNode, raw: LayerNode) -> bool:
    """Return True if two layers of one name are worth pairing although they may not fit, so that messages name the difference.

    They are if neither has parameters. Otherwise both must be of one family, or both be containers, norms or activations; if
    one is a user's own class, both or neither must be a leaf (see `LayerNode.is_leaf`).
    """
    if not base.has_parameters and not raw.has_parameters:
        return True
    if base.family and raw.family:
        both = {base.family, raw.family}
        return len(both) == 1 or (base.is_container and raw.is_container) or both <= NORMS or both <= ACTIVATIONS
    return base.is_leaf == raw.is_leaf


def fits_or_idle(base: LayerNode, raw: LayerNode) -> bool:
    """Return True if two layers fit, or neither holds a parameter."""
    return fits(base, raw) or not (base.has_parameters or raw.has_parameters)


def fits_idle(base: LayerNode, raw: LayerNode) -> bool:
    """Return True if two layers without parameters fit."""
    return not base.has_parameters and not raw.has_parameters and fits(base, raw)


def is_wrapper(node: LayerNode) -> bool:
    """Return True for a layer that only groups others: a container or a user's own class, without parameters of its own."""
    return (node.is_container or not node.family) and not node.own_parameters


def same_composite_family(base: LayerNode, raw: LayerNode) -> bool:
    """Return True if two layers are of one family of layers that hold others, and no containers."""
    return bool(base.family) and base.family == raw.family and not base.is_container and not base.is_leaf


def same_leaf_family(base: LayerNode, raw: LayerNode) -> bool:
    """Return True if two layers are of one family and hold all their parameters themselves."""
    return bool(base.family) and base.family == raw.family and base.is_leaf and raw.is_leaf


def both_activations(base: LayerNode, raw: LayerNode) -> bool:
    """Return True if two layers are activations, of whatever kind."""
    return {base.family, raw.family} <= ACTIVATIONS


def _compute_alike(base: LayerNode, raw: LayerNode) -> bool:
    """Return True for a Linear and a convolution of size 1."""
    kinds = {"linear" if node.family == "linear" else _pointwise(node) for node in (base, raw)}
    return kinds == {"linear", "pointwise"}


def _pointwise(node: LayerNode) -> str:
    return "pointwise" if any(node.is_pointwise(name) for name in node.own) else ""
