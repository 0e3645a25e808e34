"""The map between two models: which layers, parameters and buffers of base and raw correspond."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from padiff_rpc.model.model import ModelDescription, ParameterKind
from padiff_rpc.model.part_names import with_parts
from padiff_rpc.per_side import PerSide
from padiff_rpc.result import Unmatched

How = Literal["root", "explicit", "parameters", "flow", "name", "order"]
"""Why two layers are paired: both are whole models, the user's layer map says so, the user's map joins what lies in them, the
same layers feed them and take what they make, their names agree, or their order does."""


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
    A tensor may be a part of a stack, `experts.w1[3]` (see `model.part_names`).

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


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way in which raw's tensors may follow from base's, where names and shapes leave several.

    Attributes:
        words: what a note calls it, such as "gate, up, one whole after the other".
        links: the links under this alternative.
        layers: the pairs of layers that go with it, where it is they that are in doubt; mostly there are none.
        contrary: whether it goes against what names, shapes or the library tell. It is tried to explain a difference, and never
            taken: a model that splits `gate_up_proj` into up and gate may mean it so, or be wrong.
    """

    words: str
    links: tuple[ParameterLink, ...]
    contrary: bool = False
    layers: tuple[LayerPair, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """Links that names and shapes leave in doubt, with all that they may be.

    Attributes:
        what: what a note calls the tensors, such as the route of a packed Linear.
        base_route: the route of base's layer in the innermost pair of layers around these tensors.
        raw_route: the route of raw's layer in that pair.
        alternatives: the possible ones, the most plausible first: the matching's own links are those of the first. All have
            as many links, in one order.
        guess: the sentence that tells a user of the first one, where the choice is not tried.
    """

    what: str
    base_route: str
    raw_route: str
    alternatives: tuple[Alternative, ...]
    guess: str


@dataclass(frozen=True)
class Matching:
    """The whole map between two models, and what it leaves over.

    Attributes:
        layers: the pairs of layers, in the order in which base defines them.
        links: the links of parameters and buffers, in the order in which raw defines them.
        unmatched_base: base's layers, parameters and buffers without a partner, each with the reason.
        unmatched_raw: the same for raw.
        notes: sentences that a reader should see, such as one on a definition order that differs.
        guessed_pairs: the routes, in base and raw, of layers that their order alone joins, though others have the same shapes.
        choices: what names and shapes leave in doubt. The links hold the most plausible alternative of each.
        guesses_of_order: those of the notes that tell of layers in doubt.
    """

    layers: tuple[LayerPair, ...]
    links: tuple[ParameterLink, ...]
    unmatched_base: tuple[Unmatched, ...]
    unmatched_raw: tuple[Unmatched, ...]
    notes: tuple[str, ...] = ()
    guessed_pairs: tuple[tuple[str, str], ...] = ()
    choices: tuple[Choice, ...] = ()
    guesses_of_order: tuple[str, ...] = ()

    @property
    def guessed_routes(self) -> list[tuple[str, str]]:
        """The routes, in base and raw, of layers that their order alone joins, and that nothing has settled since."""
        in_doubt = [(pair.base, pair.raw) for choice in self.choices for pair in choice.alternatives[0].layers]
        return [*self.guessed_pairs, *in_doubt]

    @property
    def undecided(self) -> set[ParameterLink]:
        """The links that names and shapes leave in doubt."""
        return {link for choice in self.choices for link in choice.alternatives[0].links}

    @property
    def guesses(self) -> list[str]:
        """The sentences that tell a user what the links take for granted."""
        return collapse_alike(choice.guess for choice in self.choices)

    @property
    def sentences(self) -> list[str]:
        """The notes, and the guesses that none of them tells of."""
        of_order = {choice for choice in self.choices if choice.alternatives[0].layers}
        return [*self.notes, *collapse_alike(choice.guess for choice in self.choices if choice not in of_order)]

    def choosing(self, chosen: Iterable[tuple[Choice, Alternative]]) -> Matching:
        """Return the matching with each of these choices settled by an alternative of it."""
        settled = list(chosen)
        new = {
            old: link
            for choice, taken in settled
            for old, link in zip(choice.alternatives[0].links, taken.links, strict=True)
        }
        done = [choice for choice, _ in settled]
        pairs = {pair.base: pair for _, taken in settled for pair in taken.layers}
        gone = self.guesses_of_order if pairs else ()
        return replace(
            self,
            layers=tuple(pairs.get(pair.base, pair) for pair in self.layers),
            notes=tuple(note for note in self.notes if note not in gone),
            links=tuple(new.get(link, link) for link in self.links),
            choices=tuple(choice for choice in self.choices if choice not in done),
        )

    def in_parts(self, described: PerSide[ModelDescription]) -> PerSide[ModelDescription]:
        """Return both models' descriptions with the parts of stacks that the links name in the stacks' places."""
        base, raw = described
        return PerSide(
            with_parts(base, (name for link in self.links for name in link.base)),
            with_parts(raw, (name for link in self.links for name in link.raw)),
        )

    @property
    def misfits(self) -> bool:
        """Whether something fails that both sides have: two shapes that no rule joins, or what one side alone ties."""
        return any(entry.fails and not entry.tensors for entry in (*self.unmatched_base, *self.unmatched_raw))


def collapse_alike(notes: Iterable[str]) -> list[str]:
    """Merge notes that differ in their numbers only into the first of them, with a count of the others."""
    alike: dict[str, list[str]] = {}
    for note in notes:
        same = alike.setdefault(re.sub(r"\d+", "N", note), [])
        if note not in same:
            same.append(note)
    return [same[0] if len(same) == 1 else f"{same[0]} (and {len(same) - 1} alike)" for same in alike.values()]
