"""The map between two models: which layers, parameters and buffers of base and raw correspond."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from padiff_rpc.model.model import ParameterKind
from padiff_rpc.result import Unmatched

How = Literal["root", "explicit", "flow", "name", "order"]
"""Why two layers are paired: both are whole models, the user's layer map says so, the same layers feed them and take what they
make, their names agree, or their order does."""


@dataclass(frozen=True, slots=True)
class LayerPair:
    """Two layers that correspond.

    Attributes:
        base: the route of base's layer; "" for the model itself.
        raw: the route of raw's layer.
        how: what paired them; see `How`.
        certain: True where parameters tie the two (a link joins tensors of theirs, or of layers below them), where the user's
            layer map pairs them, and for the two whole models; False where only structure, order or name does, as for dropouts,
            activations and containers without parameters.
    """

    base: str
    raw: str
    how: How
    certain: bool


@dataclass(frozen=True)
class Special:
    """Which of raw's tensors a special initialiser (a user's function, see `special_init`) fills in one layer pair.

    The links of the pair share it: there are one or two of them, for parameters and for buffers.

    Attributes:
        base: the class of base's layer that it is registered for, as `framework::ClassName`.
        raw: the class of raw's layer that it is registered for, likewise.
        live: True if it takes two live layers instead of named arrays, so that what it does to values is not known.
        required: full names of raw's tensors that it must fill.
        optional: full names of raw's tensors that it may fill.
    """

    base: str
    raw: str
    live: bool
    required: tuple[str, ...]
    optional: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ParameterLink:
    """Parameters (or buffers) of base that correspond to parameters (or buffers) of raw, in one layer pair.

    A link mostly joins one tensor with one. It joins one with several where one side packs into a tensor what the other side
    keeps apart (`in_proj_weight` and the weights of q, k, v). A tied parameter is linked once, under one of its names.

    Attributes:
        base_route: the route of base's layer.
        raw_route: the route of raw's layer.
        base: full names of base's tensors; with a special initialiser, of all tensors that base's layer holds.
        raw: full names of raw's tensors.
        rule: how raw's values follow from base's: a name for `layout_rules.rule_named`, or a text that begins with "special:".
        kind: whether the tensors are parameters or buffers.
        special: more about the special initialiser, if the rule is one; else None.
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
    """The whole map between two models, and what it leaves over.

    Attributes:
        layers: the pairs of layers, in the order in which base defines them.
        links: the links of parameters and buffers, in the order in which raw defines them.
        unmatched_base: base's layers, parameters and buffers without a partner, each with the reason.
        unmatched_raw: the same for raw.
        notes: sentences that a reader should see, such as one on a definition order that differs.
        guesses: the routes, in base and raw, of layers that their order alone joins, though others have the same shapes.
    """

    layers: tuple[LayerPair, ...]
    links: tuple[ParameterLink, ...]
    unmatched_base: tuple[Unmatched, ...]
    unmatched_raw: tuple[Unmatched, ...]
    notes: tuple[str, ...] = ()
    guesses: tuple[tuple[str, str], ...] = ()

    @property
    def misfits(self) -> bool:
        """Whether something fails that both sides have: two shapes that no rule joins, or what one side alone ties."""
        return any(entry.fails and not entry.tensors for entry in (*self.unmatched_base, *self.unmatched_raw))
