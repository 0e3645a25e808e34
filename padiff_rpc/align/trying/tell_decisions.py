"""Tell what trying has decided: in sentences for people, and as plain data."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from typing import Any

from padiff_rpc.align.trying.decide import Decision


def notes_on_choices(decisions: Sequence[Decision], guessed: Collection[tuple[str, str]]) -> list[str]:
    """Return a sentence for all decisions that are alike, those first that go against names and shapes.

    Args:
        decisions: are those on all choices. Of layers whose order trying leaves open nothing is told unless they are guessed.
        guessed: are the routes, in base and raw, of the pairs of layers that are a guess still.
    """
    told = [
        one
        for one in decisions
        if one.outcome != "alike"
        or not one.taken.layers
        or any((pair.base, pair.raw) in guessed for pair in one.taken.layers)
    ]
    alike: dict[tuple[str, ...], list[Decision]] = {}
    for one in sorted(told, key=lambda one: one.taken is one.suggested):
        where = re.sub(r"\d+", "N", one.measured)
        alike.setdefault((where, one.taken.words, one.suggested.words, one.outcome, one.why), []).append(one)
    return [_sentence(group) for group in alike.values()]


def told(decision: Decision) -> dict[str, Any]:
    """Return a decision as JSON values."""
    return {
        "what": decision.choice.what,
        "base_route": decision.choice.base_route,
        "raw_route": decision.choice.raw_route,
        "outcome": decision.outcome,
        "taken": decision.taken.words,
        "suggested": decision.suggested.words,
        "error": _finite(decision.error),
        "next": None if decision.next is None else decision.next.words,
        "next_error": _finite(decision.next_error),
        "rules": {", ".join(link.raw): link.rule for link in decision.taken.links},
    }


def _sentence(group: Sequence[Decision]) -> str:
    """Return the sentence on decisions that are alike: the first one's, with the least favourable figures of all."""
    first = group[0]
    more = f" (and {len(group) - 1} alike)" if len(group) > 1 else ""
    if first.error is None or first.next is None:
        return f"{first.choice.guess}; {first.why}{more}"
    error = max(one.error or 0.0 for one in group)
    nearest = min(group, key=lambda one: math.inf if one.next_error is None else one.next_error)
    rival = nearest.next.words if nearest.next is not None else ""
    how = f"as expected ({first.taken.words})"
    if first.taken is not first.suggested:
        how = f"NOT as expected ({first.suggested.words}), but otherwise: {first.taken.words}"
    found = {
        "fits": "this fits",
        "nearest": "this is nearest, though beyond tolerance",
        "alike": "this fits, and so do others, so that trying does not decide",
        "none": "nothing fits, so that trying does not decide",
    }[first.outcome]
    if first.lead:
        found = (
            "it differs, and another layout would fit, which is not taken, since it goes against the name or the shape: either "
            "raw's code takes the parts in a wrong way, or the name tells a wrong one"
        )
    return (
        f"{first.choice.what} is taken {how}. Tried at {first.measured}, {found}: {error:.0e} apart, and "
        f"{nearest.next_error or 0.0:.0e} with the next best that was tried ({rival}){more}"
    )


def _finite(error: float | None) -> float | None:
    return None if error is None or not math.isfinite(error) else error
