"""Tell by its name which Linears a packed Linear holds, and in which order: `up_gate_proj` holds up, then gate."""

from __future__ import annotations

import re
from itertools import permutations

from padiff_rpc.match.layer_families import name_in_common

PACKED: tuple[tuple[str, ...], ...] = (("q", "k", "v"), ("k", "v"), ("gate", "up"))
"""Names in common of the Linears that some models pack into one, each group in the usual order."""

_WORDS = {"q": "q|query", "k": "k|key", "v": "v|value", "gate": "gate", "up": "up"}
"""The words of each name, as packed names write them."""

_AROUND = "(?:proj|fused|linear|to|w|fc|in)*"
"""Words around the parts that say nothing of their order."""


def packed_parts(name: str) -> tuple[str, ...]:
    """Return the names in common of the Linears that a packed Linear holds, in the order in which its name gives them.

    The tuple is empty for the name of any other layer. A name that tells of no order (`in_proj`, `c_attn`, `w13`) stands for the
    usual one.
    """
    plain = re.sub(r"[_\s]", "", name.lower())
    return _BY_GROUP.get(name_in_common(name)) or next(
        (parts for parts, pattern in _PATTERNS if pattern.fullmatch(plain)), ()
    )


def tells_order(name: str) -> bool:
    """Return True if the name of a packed Linear tells in which order it holds its parts, as `gate_up_proj` does."""
    plain = re.sub(r"[_\s]", "", name.lower())
    return any(pattern.fullmatch(plain) for _, pattern in _PATTERNS)


_BY_GROUP = {"".join(parts): parts for parts in PACKED}
_PATTERNS = [
    (order, re.compile(_AROUND + "".join(f"(?:{_WORDS[part]})" for part in order) + _AROUND))
    for parts in PACKED
    for order in permutations(parts)
]
