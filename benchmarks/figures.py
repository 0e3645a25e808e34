"""What was measured: a number, its unit, what it should be, and the samples that it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

Tell = Callable[[str], None]
"""Shows how far the measuring is."""
Verdict = Literal["ok", "short", "not taken", ""]


@dataclass(frozen=True)
class Figure:
    """One row of the table. `value` None: it could not be taken, and `note` says why. Without a target there is no verdict."""

    group: str
    case: str
    name: str
    value: float | None
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""
    samples: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        if self.value is None:
            return "not taken"
        if self.at_most is None and self.at_least is None:
            return ""
        high = self.at_most is not None and not self.value <= self.at_most
        low = self.at_least is not None and not self.value >= self.at_least
        return "short" if high or low else "ok"

    @property
    def target(self) -> str:
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"


def ratio(
    group: str,
    case: str,
    name: str,
    over: Sequence[float],
    under: Sequence[float],
    unit: str,
    at_most: float | None = None,
    at_least: float | None = None,
    note: str = "",
) -> Figure:
    """Make a figure of two series of one run: the ratio of their medians; the note has the median of the ratios too."""
    by_round = median(a / b for a, b in zip(over, under, strict=True))
    told = f"{median(over):.3g} over {median(under):.3g}; {by_round:.3g} by round"
    return Figure(
        group,
        case,
        name,
        median(over) / median(under),
        unit,
        at_most,
        at_least,
        f"{told}; {note}" if note else told,
        {"over": list(over), "under": list(under), "median_of_ratios": by_round},
    )
