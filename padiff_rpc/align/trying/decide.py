"""Decide between the alternatives of choices by how far each leaves the two models apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Literal

from padiff_rpc.match.layer_map import Alternative, Choice

Outcome = Literal["fits", "nearest", "alike", "none", "untried"]
"""What trying has shown: one alternative alone fits; none does, and one is far nearer than all others; several fit; none is
near; or nothing could be tried."""

Combination = tuple[int, ...]
"""The number of an alternative for each of some choices."""

CLEARLY = 100.0
"""An alternative is told from another where it leaves the models this many times less apart. On healthy pairs in float32 the
right one leaves about 1e-7 and a wrong one 1e-2 to 1; in bfloat16 1e-2 and 1."""

_MOST_COMBINATIONS = 64
"""How many combinations are tried of choices that show at one layer."""


@dataclass(frozen=True)
class Fit:
    """How far the models are apart under some alternatives.

    Attributes:
        error: is the greatest relative L2 error of a tensor; it is infinite where one is not finite.
        passes: says whether all tensors are within tolerance.
    """

    error: float
    passes: bool


@dataclass(frozen=True)
class Decision:
    """What became of one choice.

    Attributes:
        choice: is what names and shapes leave in doubt.
        taken: is the alternative that is taken.
        outcome: tells what trying has shown.
        error: is how far it leaves the models apart; None where nothing could be tried.
        next: is the nearest of the other alternatives that were tried; None where nothing could be.
        next_error: is how far that one leaves them apart.
        lead: says that `next` fits, and is not taken, since it goes against what names, shapes or the library tell.
        measured: names what was compared.
        why: tells why nothing could be tried.
    """

    choice: Choice
    taken: Alternative
    outcome: Outcome
    error: float | None = None
    next: Alternative | None = None
    next_error: float | None = None
    lead: bool = False
    measured: str = ""
    why: str = ""

    @property
    def suggested(self) -> Alternative:
        """The alternative that names and shapes suggest."""
        return self.choice.alternatives[0]


def untried(choice: Choice, why: str) -> Decision:
    """Return the decision on a choice that could not be tried: what names and shapes suggest is taken."""
    return Decision(choice, choice.alternatives[0], "untried", why=why)


@dataclass
class Trial:
    """Choices that fall alike in every layer of one kind, with how well each combination of alternatives fits.

    Layers of one kind run the same code. So what one of them alone would need is no convention, and is not taken. Nor is what
    only some of a layer's choices between the same alternatives would need.

    Attributes:
        places: map the route of each of these layers, or the name of what it holds, to its choices, in one order.
        measured: names what of these places is compared.
        fits: maps each combination that was tried to its fit in the middle of these layers.
    """

    places: Mapping[str, Sequence[Choice]]
    measured: str
    fits: dict[Combination, Fit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first = next(iter(self.places.values()))
        words = [words_of(choice) for choice in first]
        kinds = list(dict.fromkeys(words))
        counts = [range(len(kind)) for kind in kinds]
        some = [
            tuple(numbers[kinds.index(kind)] for kind in words)
            for numbers in islice(product(*counts), _MOST_COMBINATIONS**2)
        ]

        def contrary(numbers: Combination) -> int:
            return sum(choice.alternatives[at].contrary for choice, at in zip(first, numbers, strict=True))

        some.sort(key=lambda numbers: (contrary(numbers), sum(numbers)))
        self._combinations = some[:_MOST_COMBINATIONS]
        self._takeable = [numbers for numbers in self._combinations if not contrary(numbers)]

    @property
    def count(self) -> int:
        """How many choices there are in each layer."""
        return len(next(iter(self.places.values())))

    @property
    def next(self) -> Combination | None:
        """The combination to try next; None where the choices are decided, or all combinations were tried."""
        rest = [one for one in self._combinations if one not in self.fits]
        compared = len(self.fits) > 1 and any(fit.passes for fit in self.fits.values())
        if compared and (self._is_clear() or not any(one in self._takeable for one in rest)):
            return None
        return next(iter(rest), None)

    @property
    def best(self) -> Combination:
        """The combination to take: the first of those that fit as well as any."""
        return next(iter(self._near()), self._combinations[0])

    def take(self, numbers: Combination, fits: Sequence[Fit]) -> None:
        """Note how well a combination fits in each layer."""
        ordered = sorted(fits, key=lambda fit: fit.error)
        self.fits[numbers] = ordered[(len(ordered) - 1) // 2]

    def decisions(self) -> list[Decision]:
        """Return what becomes of each choice in each layer."""
        return [
            self._decision(at, choice, f"{self.measured} {place or 'the model'}")
            for place, choices in self.places.items()
            for at, choice in enumerate(choices)
        ]

    def _near(self) -> list[Combination]:
        """Return the combinations that may be taken and cannot be told from the one of them that fits best."""
        tried = {one: self.fits[one] for one in self._takeable if one in self.fits}
        least = min((fit.error for fit in tried.values()), default=0.0)
        return [one for one, fit in tried.items() if fit.passes or fit.error <= CLEARLY * least]

    def _is_clear(self) -> bool:
        """Tell whether the best combination fits, and is told from all others that were tried, the contrary ones included."""
        best = self.fits[self.best]
        others = [fit for fit in self.fits.values() if fit is not best]
        return best.passes and all(not fit.passes and fit.error > CLEARLY * best.error for fit in others)

    def _decision(self, at: int, choice: Choice, measured: str) -> Decision:
        best, fit = self.best, self.fits[self.best]
        others = {one: fit for one, fit in self.fits.items() if one[at] != best[at]}
        rival = min(others, key=lambda one: others[one].error, default=None)
        undecided = any(one[at] != best[at] for one in self._near())
        outcome: Outcome = ("alike" if undecided else "fits") if fit.passes else ("none" if undecided else "nearest")
        if rival is None:
            return Decision(choice, choice.alternatives[best[at]], outcome, fit.error, measured=measured)
        found = others[rival]
        lead = not fit.passes and found.passes and choice.alternatives[rival[at]].contrary
        if lead:
            outcome = "none"
        return Decision(
            choice,
            choice.alternatives[best[at]],
            outcome,
            fit.error,
            choice.alternatives[rival[at]],
            found.error,
            lead,
            measured,
        )


def words_of(choice: Choice) -> tuple[str, ...]:
    """Return what a choice is between, in words."""
    return tuple(alternative.words for alternative in choice.alternatives)
