"""A value for each of the two sides, base and raw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T", covariant=True)
U = TypeVar("U")

SideName = Literal["base", "raw"]
"""The name of a side."""
SIDES: tuple[SideName, SideName] = ("base", "raw")
OTHER_SIDE: dict[SideName, SideName] = {"base": "raw", "raw": "base"}


@dataclass(frozen=True)  # without slots, with which PerSide[int](1, 2) is a TypeError in Python 3.11
class PerSide(Generic[T]):
    """Hold two values of one type, base's and raw's.

    Iteration yields base's value first, so that `base, raw = pair` unpacks it.
    """

    base: T
    raw: T

    def of(self, side: SideName) -> T:
        """Return the value of the named side."""
        return self.base if side == "base" else self.raw

    def items(self) -> tuple[tuple[SideName, T], tuple[SideName, T]]:
        """Return ("base", base's value) and ("raw", raw's value)."""
        return ("base", self.base), ("raw", self.raw)

    def map(self, change: Callable[[T], U]) -> PerSide[U]:
        """Apply `change` to each side's value, base's first, and return the results as a pair."""
        return PerSide(change(self.base), change(self.raw))

    def __iter__(self) -> Iterator[T]:
        return iter((self.base, self.raw))
