"""Find layers that return attention weights: torch's MultiheadAttention averages them over its heads, paddle's does not."""

from __future__ import annotations

from collections.abc import Iterable

from padiff_rpc.match.layer_families import family_of
from padiff_rpc.match.layer_map import LayerPair
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.tensors.tensor import TensorSpec


def attention_routes(base: ModelDescription, raw: ModelDescription, layers: Iterable[LayerPair]) -> frozenset[str]:
    """Return base's routes of the pairs in which torch's MultiheadAttention meets paddle's MultiHeadAttention.

    The result is empty unless one model is of torch and the other of paddle. A user's own attention class does not count.
    """
    if {base.framework, raw.framework} != {"torch", "paddle"}:
        return frozenset()
    return frozenset(pair.base for pair in layers if _is_attention(base, pair.base) and _is_attention(raw, pair.raw))


def are_averaged(one: TensorSpec, other: TensorSpec) -> bool:
    """Return True if one tensor has the shape of the other's mean over heads.

    The shapes are [batch, target, source] and [batch, heads, target, source], in either order of the arguments.
    """
    short, long = sorted((one.shape, other.shape), key=len)
    return len(short) == 3 and len(long) == 4 and short == (long[0], *long[2:])


def _is_attention(description: ModelDescription, route: str) -> bool:
    layer = description.layer(route)
    return family_of(description.framework, layer.class_name, layer.class_path, {}) == "multiheadattention"
