"""Write names that are alike once, with a star for each number that goes the same way in all of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from padiff_rpc.match.user_map import STAR

_NUMBER = re.compile(r"\d+")

_Column = tuple[int, int]
"""A number's place: which name of a row, and which number of that name."""


@dataclass(frozen=True)
class Alike:
    """Rows of names that become one, with stars.

    Attributes:
        names: the names of the one row.
        rows: where the rows that it stands for lie among those given.
    """

    names: tuple[str, ...]
    rows: tuple[int, ...]


def alike(rows: Sequence[tuple[str, ...]], apart: Sequence[Hashable]) -> list[Alike]:
    """Return one row for those that differ in numbers only, and in the same numbers in each of their names.

    Args:
        rows: names that belong together, such as a layer of base and its partner.
        apart: for each row, what must be equal in rows that become one.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for at, (names, key) in enumerate(zip(rows, apart, strict=True)):
        groups[tuple(_NUMBER.sub(STAR, name) for name in names), key].append(at)
    found = [one for group in groups.values() for one in _merged(rows, group)]
    return sorted(found, key=lambda one: one.rows[0])


def numberless(text: str) -> str:
    """Return a text with a star for each number that is a part of a dotted name in it."""
    return re.sub(r"(?<=\.)\d+\b|(?<![\w.])\d+(?=\.[A-Za-z_])", STAR, text)


def _merged(rows: Sequence[tuple[str, ...]], group: Sequence[int]) -> Iterator[Alike]:
    """Yield one row for a group that differs in numbers only, or several, where the numbers do not all go the same way."""
    numbers = [[_NUMBER.findall(name) for name in rows[at]] for at in group]
    values = {
        (name, place): tuple(row[name][place] for row in numbers)
        for name, found in enumerate(numbers[0])
        for place in range(len(found))
    }
    varying = [column for column, found in values.items() if len(set(found)) > 1]
    stars = _shared(varying, values, len(numbers[0]))
    alone = next((column for column in varying if column not in stars), None)
    if alone is None:
        yield Alike(tuple(_with_stars(name, at, stars) for at, name in enumerate(rows[group[0]])), tuple(group))
        return
    parts: dict[str, list[int]] = defaultdict(list)
    for at, value in zip(group, values[alone], strict=True):
        parts[value].append(at)
    for part in parts.values():
        yield from _merged(rows, part)


def _shared(varying: Sequence[_Column], values: dict[_Column, tuple[str, ...]], names: int) -> set[_Column]:
    """Return the places of the numbers that vary in the first name, and in each other name with it, in the same order."""
    shared: set[_Column] = set()
    after = dict.fromkeys(range(names), -1)
    for column in varying:
        if column[0]:
            continue
        partners = [
            next(
                (
                    other
                    for other in varying
                    if other[0] == name and other[1] > after[name] and values[other] == values[column]
                ),
                None,
            )
            for name in range(names)
        ]
        if None not in partners:
            shared.update(partner for partner in partners if partner is not None)
            after.update({partner[0]: partner[1] for partner in partners if partner is not None})
    return shared


def _with_stars(name: str, at: int, stars: set[_Column]) -> str:
    places = iter(range(len(_NUMBER.findall(name))))
    return _NUMBER.sub(lambda found: STAR if (at, next(places)) in stars else found[0], name)
