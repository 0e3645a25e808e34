"""Special initialisers: a user's own functions that fill raw's layer of one class from base's of another."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.per_side import SideName

_ATTENTION = ("torch::MultiheadAttention", "paddle::MultiHeadAttention")
_NORMS = tuple(
    (f"torch::{kind}{rank}d", f"paddle::{kind}{rank}D") for kind in ("BatchNorm", "InstanceNorm") for rank in "123"
)
_PAIRS = (_ATTENTION, *((f"torch::{kind}", f"paddle::{kind}") for kind in ("LSTM", "GRU")), *_NORMS)
BUILT_IN = frozenset(pair for torch, paddle in _PAIRS for pair in ((torch, paddle), (paddle, torch)))
"""(base, raw) classes whose parameters the automatic rules carry over although the frameworks lay them out differently."""


@dataclass(frozen=True)
class SpecialInit:
    """One initialiser. base, raw: `framework::ClassName`. live: it takes two layers, not named arrays."""

    base: str
    raw: str
    function: Callable[..., Any]
    live: bool

    def __str__(self) -> str:
        return f"the special initialiser of {self.base!r} -> {self.raw!r}"


_added: dict[tuple[str, str], SpecialInit] = {}


def add_special_init(
    base_framework: str, base_class: str, raw_framework: str, raw_class: str, func: Callable[..., Any]
) -> None:
    """Register how raw's layers of a class are filled from base's; one that was there for this pair is replaced.

    It serves the pairs of the layer map. func takes one of two forms, told apart by how many arguments it demands:

    - func(base) -> raw, everywhere: both are dictionaries of NumPy arrays by the names that parameters and buffers have below
      the layer (`q_proj.weight`; a tensor that is tied to one outside the layer goes by its full name). The result
      holds every parameter and running statistic of raw's layer, and may hold its other buffers; bfloat16 and float8
      come as their bits (uint16, uint8), and may go back so. It is called several times, so it must not draw lots.
    - func(base_layer, raw_layer), where both models are in this process: it copies by itself.

    Raises BAD_CONFIG for anything else.
    """
    names = (base_framework, base_class, raw_framework, raw_class)
    if not all(isinstance(name, str) and name for name in names):
        raise PadiffError(
            f"a special initialiser is registered by names, got {names!r}",
            reason=Reason.BAD_CONFIG,
            hint="write add_special_init('torch', 'LSTM', 'paddle', 'LSTM', func)",
        )
    pair = (f"{base_framework}::{base_class}", f"{raw_framework}::{raw_class}")
    _added[pair] = SpecialInit(*pair, func, _demands(func, pair) == 2)


def find_special_init(base: str, raw: str) -> SpecialInit | None:
    """Return what was added for two classes (`framework::ClassName`)."""
    return _added.get((base, raw))


def registered_classes(side: SideName) -> frozenset[str]:
    """Return the classes (`framework::ClassName`) that can stand on a side of a layer map, built in or added."""
    at = 0 if side == "base" else 1
    return frozenset(pair[at] for pair in (*BUILT_IN, *_added))


def auto_layer_map(description: ModelDescription, side: SideName) -> list[str]:
    """Return the routes of the layers whose class is registered for a side, in definition order, outermost only."""
    known = registered_classes(side)
    routes: list[str] = []
    for layer in description.layers:
        inside = any(layer.route.startswith(f"{route}.") or not route for route in routes)
        if not inside and f"{description.framework}::{layer.class_name}" in known:
            routes.append(layer.route)
    return routes


def cure(base: str, raw: str) -> str:
    """Say that nothing is registered for two classes, and what to do."""
    names = ", ".join(repr(part) for name in (base, raw) for part in name.split("::"))
    return (
        f"no special initialiser for {base!r} -> {raw!r}, and the automatic rules do not link all of raw's parameters: "
        f"register one with add_special_init({names}, func)"
    )


def _demands(func: Callable[..., Any], pair: tuple[str, str]) -> int:
    """Count the positional arguments that a function demands: 1 or 2, BAD_CONFIG otherwise."""
    where = f"the special initialiser of {pair[0]!r} -> {pair[1]!r}"
    hint = "give func(base_arrays) -> raw_arrays, or func(base_layer, raw_layer) for models in this process"
    if not callable(func):
        raise PadiffError(f"{where} is no function but {func!r}", reason=Reason.BAD_CONFIG, hint=hint)
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError) as err:
        raise PadiffError(
            f"{where} does not tell which arguments it takes: {err}", reason=Reason.BAD_CONFIG, hint=hint
        ) from err
    needed = [
        one for one in parameters if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    count = len(needed)
    if count not in (1, 2) or any(one.kind is one.KEYWORD_ONLY for one in needed):
        raise PadiffError(
            f"{where} demands {count} arguments ({', '.join(one.name for one in needed) or 'none'})",
            reason=Reason.BAD_CONFIG,
            hint=hint,
        )
    return count
