"""Keep the special initialisers: a user's own functions that fill a layer of raw from the layer of base that it corresponds to.

They serve layers whose insides differ too much for the layout rules. Each is registered for a pair of classes.
"""

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
"""Classes, of base and of raw, whose parameters are carried over by rule although the frameworks lay them out differently."""


@dataclass(frozen=True)
class SpecialInit:
    """A special initialiser and the two classes of layers that it is registered for.

    Attributes:
        base: the class of base's layer, as `framework::ClassName`.
        raw: the class of raw's layer, likewise.
        function: the user's function; see `add_special_init` for its two forms.
        live: True if the function takes two live layers, False if it takes and returns named arrays.
    """

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
    """Register a function that fills raw's layers of one class from base's layers of another.

    It is used for pairs of the layer map. It replaces a function registered earlier for the same two classes.

    The function takes one of two forms, told apart by how many arguments it demands:

    - func(base) -> raw works everywhere. Both are dictionaries of NumPy arrays, by the names that parameters and buffers have
      below the layer (`q_proj.weight`); a tensor that is tied to one outside the layer goes by its full name. The result
      holds every parameter and running statistic of raw's layer, and may hold its other buffers. Tensors of bfloat16 and
      float8 come as their bits (uint16, uint8), and may be returned so. The function is called several times, so its result
      must not be random.
    - func(base_layer, raw_layer) works where both models are in this process. It copies the values by itself.

    Args:
        base_framework: the framework of base's layer, "torch" or "paddle".
        base_class: the class name of base's layer, such as "LSTM".
        raw_framework: the framework of raw's layer.
        raw_class: the class name of raw's layer.
        func: the function.

    Raises:
        PadiffError: BAD_CONFIG if a name is no text or is empty, or if func is no function that demands one or two arguments.
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
    """Return the initialiser that was added for base's and raw's class (`framework::ClassName`); None if there is none."""
    return _added.get((base, raw))


def registered_classes(side: SideName) -> frozenset[str]:
    """Return the classes (`framework::ClassName`) of one side for which an initialiser is built in or was added."""
    at = 0 if side == "base" else 1
    return frozenset(pair[at] for pair in (*BUILT_IN, *_added))


def auto_layer_map(description: ModelDescription, side: SideName) -> list[str]:
    """Return the routes of the layers for whose class an initialiser is known, in definition order.

    A layer inside another such layer is not among them.

    Args:
        description: the model to search.
        side: the side that the model is on, for initialisers are registered for base's class and raw's class apart.
    """
    known = registered_classes(side)
    routes: list[str] = []
    for layer in description.layers:
        inside = any(layer.route.startswith(f"{route}.") or not route for route in routes)
        if not inside and f"{description.framework}::{layer.class_name}" in known:
            routes.append(layer.route)
    return routes


def cure(base: str, raw: str) -> str:
    """Return a message: no initialiser is known for base's and raw's class (`framework::ClassName`), and how to add one."""
    names = ", ".join(repr(part) for name in (base, raw) for part in name.split("::"))
    return (
        f"no special initialiser for {base!r} -> {raw!r}, and the automatic rules do not link all of raw's parameters: "
        f"register one with add_special_init({names}, func)"
    )


def _demands(func: Callable[..., Any], pair: tuple[str, str]) -> int:
    """Count the positional arguments without default that a function takes; BAD_CONFIG unless there are one or two."""
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
