"""The layer map: which layers and parameters of base and raw correspond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from padiff_rpc.model.model import ParameterKind
from padiff_rpc.result import Unmatched


@dataclass(frozen=True, slots=True)
class LayerPair:
    """Two layers that correspond, by route, and what made us think so."""

    base: str
    raw: str
    how: Literal["root", "explicit", "name", "order"]


@dataclass(frozen=True)
class Special:
    """What a special initialiser is to make of a layer's tensors, in one or two links (parameters, buffers).

    base, raw: the classes (`framework::ClassName`) that it is registered for. live: it takes layers, so that what it does
    to values is not known. required, optional: full names of raw's tensors that it must and may make.
    """

    base: str
    raw: str
    live: bool
    required: tuple[str, ...]
    optional: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ParameterLink:
    """Parameters (or buffers) of a layer pair that correspond: base names -> raw names, under a layout rule.

    Mostly one to one; several where one side packs what the other keeps apart (in_proj_weight to q, k, v). `rule` is a
    name from `padiff_rpc.match.layout_rules.RULES`, or begins with "special:", and then `special` says more and `base` names all
    that base's layer holds. Names are the full ones; a tied parameter is linked once.
    """

    base_route: str
    raw_route: str
    base: tuple[str, ...]
    raw: tuple[str, ...]
    rule: str
    kind: ParameterKind
    special: Special | None = None


@dataclass(frozen=True)
class Matching:
    """The whole map. `notes`: what a reader should know, such as a definition order that differs."""

    layers: tuple[LayerPair, ...]
    links: tuple[ParameterLink, ...]
    unmatched_base: tuple[Unmatched, ...]
    unmatched_raw: tuple[Unmatched, ...]
    notes: tuple[str, ...] = ()
