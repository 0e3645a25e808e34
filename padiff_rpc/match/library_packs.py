"""Know how some libraries lay out their packed Linears, where the name does not tell it, or tells it wrong."""

from __future__ import annotations

from dataclasses import dataclass

from padiff_rpc.match.pack_names import packed_parts
from padiff_rpc.match.tree import LayerNode


@dataclass(frozen=True)
class PackLayout:
    """How a Linear packs others along its output.

    Attributes:
        order: the names in common of its parts, in order.
        groups: how many groups there are, each with a share of every part: 1 if each part lies there whole.
        library: the library whose layout is known; "" if the name is all there is to go by.
    """

    order: tuple[str, ...]
    groups: int = 1
    library: str = ""


def pack_layout(fused: LayerNode) -> PackLayout:
    """Return how a packed Linear is taken to lie: as its library lays it, or else whole parts in the order of its name.

    Paddleformers' `up_gate_proj` holds gate, then up, and its `qkv_proj` one group for each head of keys and values: that head's
    queries, its key and its value. Both follow from its own rules for checkpoints (`fused_ffn` and `fused_qkv`).
    """
    order = packed_parts(fused.name)
    holder = fused.holder
    if holder is None or not holder.info.class_path.startswith("paddleformers."):
        return PackLayout(order)
    if set(order) == {"gate", "up"}:
        return PackLayout(("gate", "up"), library="paddleformers")
    heads = holder.info.hyperparameters.get("num_key_value_heads")
    if order == ("q", "k", "v") and isinstance(heads, int) and heads > 0:
        return PackLayout(order, heads, "paddleformers")
    return PackLayout(order)
