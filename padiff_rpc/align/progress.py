"""How far a running alignment has come, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far one stage of one step has come.

    Attributes:
        step: counts the steps from 0.
        stage: names the stage.
        done: counts what is through: boundaries, or links of parameters.
        total: counts all of these; 0 where their number is not known.
        detail: names the latest; it is empty where none has a name.
    """

    step: int
    stage: str
    done: int
    total: int
    detail: str


OnProgress = Callable[[Progress], None]
"""Is told how far an alignment has come."""


def quiet(progress: Progress) -> None:
    """Show nothing."""
