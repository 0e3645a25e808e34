"""List how a packed Linear may lie: in which order it holds its parts, and whether whole, by heads or by turns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from math import gcd

from padiff_rpc.match.pack_names import tells_order
from padiff_rpc.match.tree import LayerNode

_MOST_GROUPINGS = 4
"""How many numbers of groups are considered, besides one and by turns: layers have numbers that are no numbers of heads."""


_MOST_BESIDES = 2
"""How many of them are considered in another order than the name's: each takes a run."""


@dataclass(frozen=True)
class PackLayout:
    """How a Linear packs others along its output.

    Attributes:
        order: the names in common of its parts, in order.
        groups: how many groups there are, each with a share of every part: 1 if each part lies there whole.
        by_turns: whether the groups are as small as can be, one row of the smallest part each.
        library: the library that is known to lay it so; "" if the name is all there is to go by.
        contrary: whether it goes against what the name, or the library, tells.
    """

    order: tuple[str, ...]
    groups: int = 1
    by_turns: bool = False
    library: str = ""
    contrary: bool = False

    @property
    def words(self) -> str:
        """What notes call it."""
        how = f"in {self.groups} groups with a share of each" if self.groups > 1 else "one whole after the other"
        known = f", as {self.library} lays them" if self.library else ""
        return f"{', '.join(self.order)}, {'by turns' if self.by_turns else how}{known}"


def pack_layouts(name: str, holder: LayerNode | None, parts: Mapping[str, LayerNode]) -> list[PackLayout]:
    """Return the layouts that a packed Linear, or a matrix that packs Linears, may have, the most plausible first.

    The first is the library's, where it is known; all others then are contrary to it. Otherwise it is the order that the name
    tells, each part whole. Then come by the heads that the layers around have, and by turns (`[..., ::2]`); then other orders,
    which are contrary to a name that tells one.

    Args:
        name: the packed Linear's, or matrix's.
        holder: the layer that holds it.
        parts: the Linears that it packs, by their names in common, in the order that its name tells.
    """
    named = tuple(parts)
    known = _known(holder, named)
    rows = gcd(*(_rows(part) for part in parts.values()))
    holders = [each for each in (holder, *(part.holder for part in parts.values())) if each is not None]
    numbers = dict.fromkeys(number for each in holders for number in _numbers(each))
    heads = _groupings(numbers, rows)[:_MOST_GROUPINGS] if "k" in parts else []
    ways = [(1, False), *((groups, False) for groups in heads), *([(rows, True)] if rows > 1 else [])]
    unusual = ways[: 1 + _MOST_BESIDES] if heads else ways
    others = [order for order in permutations(parts) if order != named]
    told = known is not None or tells_order(name)
    found = [
        *(PackLayout(named, *way, contrary=known is not None) for way in ways),
        *(PackLayout(order, *way, contrary=told) for way in unusual for order in others),
    ]
    if known is None:
        return found
    return [known, *(one for one in found if (one.order, one.groups) != (known.order, known.groups))]


def _known(holder: LayerNode | None, named: tuple[str, ...]) -> PackLayout | None:
    """Return how the library of a packed Linear lays it; None for one that is not known.

    Paddleformers' `up_gate_proj` holds gate, then up, and its `qkv_proj` one group for each head of keys and values: that head's
    queries, its key and its value. Both follow from its own rules for checkpoints (`fused_ffn` and `fused_qkv`).
    """
    if holder is None or not holder.info.class_path.startswith("paddleformers."):
        return None
    if set(named) == {"gate", "up"}:
        return PackLayout(("gate", "up"), library="paddleformers")
    heads = holder.info.hyperparameters.get("num_key_value_heads")
    if named == ("q", "k", "v") and isinstance(heads, int) and heads > 0:
        return PackLayout(named, heads, library="paddleformers")
    return None


def _rows(linear: LayerNode) -> int:
    """Return the length of a Linear's output."""
    shape = linear.own["weight"].spec.shape
    return shape[-1] if linear.axes("weight") == "in_out" else shape[0]


def _numbers(holder: LayerNode) -> list[int]:
    """Return the whole numbers above 1 among a layer's hyper-parameters, those of heads and groups first."""
    found = [
        (name, value)
        for name, value in holder.info.hyperparameters.items()
        if isinstance(value, int) and not isinstance(value, bool) and value > 1
    ]
    found.sort(key=lambda one: not any(word in one[0].lower() for word in ("head", "group")))
    return [value for _, value in found]


def _groupings(numbers: Iterable[int], rows: int) -> list[int]:
    """Return the numbers of groups into which every part falls: as many as there are heads, or rows by the size of a head."""
    fitting = [number for number in numbers if number < rows and rows % number == 0]
    return list(dict.fromkeys([*fitting, *(rows // number for number in fitting)]))
