"""How far two tensors are apart. A result holds one such per comparison, thousands for a deep model, so numbers are packed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from struct import Struct, unpack_from
from typing import Any

_FIXED = Struct("=8d4q")
"""All numbers but the index, which follows them. Each as an object of its own would take four times as much."""


def _number(at: int) -> Any:
    """Make the attribute of a number by its place."""
    return property(lambda metrics: _FIXED.unpack_from(metrics._numbers)[at])


def _value(at: int, known: int) -> Any:
    """Make the attribute of a number that may be lacking: None unless the word at `known` says so."""
    return property(lambda metrics: _FIXED.unpack_from(metrics._numbers)[at] if metrics._words[known] else None)


def _word(at: int) -> Any:
    return property(lambda metrics: metrics._words[at])


@dataclass(frozen=True, init=False, eq=False)
class Metrics:
    """How far two tensors are apart, in float64; base is the reference.

    max_abs: max |raw - base|. max_rel: max |raw - base| / |base| over elements with base != 0. mean_abs: mean |raw - base|.
    rel_l2: ||raw - base|| / ||base|| (the absolute norm where base is all zero). cosine: of the flattened tensors.
    mismatched: elements out of tolerance, of `total`. nan, inf: non-finite elements, both sides added up. index: where
    max_abs is (or the first non-finite difference). allowed: what the check allowed, in the unit of `measured`
    (its name in `measure`). base_value, raw_value: the elements at `index`, or the two means. base_dtype, raw_dtype: the
    tensors' element types, under safetensors' names.
    """

    __slots__ = ("_allowed", "_numbers", "_words")

    max_abs: float = _number(0)
    max_rel: float = _number(1)
    mean_abs: float = _number(2)
    rel_l2: float = _number(3)
    cosine: float = _number(4)
    mismatched: int = _number(8)
    total: int = _number(9)
    nan: int = _number(10)
    inf: int = _number(11)
    index: tuple[int, ...] = property(lambda metrics: _index(metrics))  # pyright: ignore[reportAssignmentType]
    allowed: float = property(lambda metrics: metrics._allowed)  # pyright: ignore[reportAssignmentType]
    measured: float = _number(5)
    measure: str = _word(0)
    base_value: float | None = _value(6, known=3)
    raw_value: float | None = _value(7, known=4)
    base_dtype: str = _word(1)
    raw_dtype: str = _word(2)

    def __init__(
        self,
        *,
        max_abs: float,
        max_rel: float,
        mean_abs: float,
        rel_l2: float,
        cosine: float,
        mismatched: int,
        total: int,
        nan: int,
        inf: int,
        index: tuple[int, ...],
        allowed: float,
        measured: float,
        measure: str,
        base_value: float | None = None,
        raw_value: float | None = None,
        base_dtype: str = "",
        raw_dtype: str = "",
    ) -> None:
        has_base, has_raw = base_value is not None, raw_value is not None
        floats = max_abs, max_rel, mean_abs, rel_l2, cosine, measured, base_value or 0.0, raw_value or 0.0
        numbers = _FIXED.pack(*floats, mismatched, total, nan, inf) + Struct(f"={len(index)}q").pack(*index)
        object.__setattr__(self, "_numbers", numbers)
        object.__setattr__(self, "_words", _shared(measure, base_dtype, raw_dtype, has_base, has_raw))
        object.__setattr__(self, "_allowed", allowed)  # mostly one object for all of a run

    def __eq__(self, other: object) -> bool:
        """Tell whether all is the same, NaN included."""
        return self._all() == other._all() if isinstance(other, Metrics) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle by the attributes: what is frozen and has slots cannot be filled in otherwise."""
        return partial(Metrics, **asdict(self)), ()

    def _all(self) -> tuple[Any, ...]:
        return self._numbers, self._words, self._allowed  # pyright: ignore[reportAttributeAccessIssue]


def _index(metrics: Any) -> tuple[int, ...]:
    count = (len(metrics._numbers) - _FIXED.size) // 8
    return unpack_from(f"={count}q", metrics._numbers, _FIXED.size)


@lru_cache(256)
def _shared(*words: str | bool) -> tuple[str | bool, ...]:
    return words
