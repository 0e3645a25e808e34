"""The zoo's pairs, of public libraries, as pairs to mutate."""

from __future__ import annotations

from benchmarks.mutations.pairs import MutatedPair, Side
from tests.zoo.pairs import ENVIRONMENTS, PAIRS, Twin

_MODELS = "tests/zoo/models"


def zoo_pairs() -> tuple[MutatedPair, ...]:
    """Return the pairs of the zoo that are right as they are."""
    return tuple(
        MutatedPair(
            f"zoo_{pair.name}",
            _side("torch", pair.base),
            _side("paddle", pair.raw),
            pair.inputs,
            pair.settings.get("allow_extra", ()),
        )
        for pair in PAIRS.values()
        if not pair.differs_at
    )


def _side(framework: str, twin: Twin) -> Side:
    return Side(framework, f"{_MODELS}/{framework}_zoo.py:build", twin.arguments, ENVIRONMENTS[twin.library])
