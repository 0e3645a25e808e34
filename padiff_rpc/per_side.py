"""What each of the two sides has: one value for base, one for raw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
U = TypeVar("U")

SideName = Literal["base", "raw"]
SIDES: tuple[SideName, SideName] = ("base", "raw")
OTHER_SIDE: dict[SideName, SideName] = {"base": "raw", "raw": "base"}


@dataclass(frozen=True, slots=True)
class PerSide(Generic[T]):
    """A pair of like things, base's and raw's. Iterating gives base's first, so that `base, raw = pair` unpacks it."""

    base: T
    raw: T

    def of(self, side: SideName) -> T:
        """Return the named side's value."""
        return self.base if side == "base" else self.raw

    def items(self) -> tuple[tuple[SideName, T], tuple[SideName, T]]:
        """Return ("base", base's value) and ("raw", raw's value)."""
        return ("base", self.base), ("raw", self.raw)

    def map(self, change: Callable[[T], U]) -> PerSide[U]:
        """Return what `change` makes of each side's value; it is called for base first."""
        return PerSide(change(self.base), change(self.raw))

    def __iter__(self) -> Iterator[T]:
        return iter((self.base, self.raw))
