"""Write out the placeholders of AOA statements: numbers of layers and experts, and stars."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.aoa.grammar import NOTHING, TRANSPOSED, Statement, unreadable
from padiff_rpc.per_side import PerSide

_OFFSET = "$LAYER_ID_OFFSET"
"""A number on the left, and one less on the right."""
_PLACEHOLDERS = ("$LAYER_ID", "$EXPERT_ID")


def written_out(statement: Statement, names: PerSide[Collection[str]]) -> list[Statement]:
    """Return one statement for each combination of numbers that base's names have where the placeholders stand.

    A star becomes all names that have a number there, in the order of the numbers.

    Args:
        statement: the statement to write out.
        names: all names of base's and of raw's tensors.

    Raises:
        PadiffError: BAD_CONFIG for a statement whose names do not all have the same placeholders; UNKNOWN_NAME where no name
            has a number in the place of one.
    """
    numbered = list(_numbered(statement, names.base))
    if not numbered:
        raise PadiffError(f"no tensor of base has a name like {statement.left[0]!r}", reason=Reason.UNKNOWN_NAME)
    return [_without_stars(one, names) for one in numbered]


def _numbered(statement: Statement, base_names: Collection[str]) -> Iterator[Statement]:
    every = [name for name in (*statement.left, *statement.right) if name != NOTHING]
    unknown = [name for name in every if "$" in _replaced(name, dict.fromkeys((_OFFSET, *_PLACEHOLDERS), 0))]
    if unknown:
        raise unreadable(statement.text, f"{unknown[0]!r} has a placeholder that is not known")
    offset = any(_OFFSET in name for name in every)
    keys = (_OFFSET,) if offset else tuple(key for key in _PLACEHOLDERS if any(key in name for name in every))
    if not keys:
        yield statement
        return
    lacking = [name for name in every if not all(key in name for key in keys)]
    if lacking:
        raise unreadable(statement.text, f"{lacking[0]!r} lacks {' or '.join(keys)}, which its other names have")
    for found in _numbers(every[0].removesuffix(TRANSPOSED), keys, base_names):
        left = tuple(_replaced(name, found) for name in statement.left)
        shift = {key: number - offset for key, number in found.items()}
        yield replace(statement, left=left, right=tuple(_replaced(name, shift) for name in statement.right))


def _numbers(pattern: str, keys: tuple[str, ...], names: Collection[str]) -> list[dict[str, int]]:
    """Return the numbers that stand for the placeholders in the names that fit a pattern."""
    form, seen = "", set[str]()
    for part in re.split("(" + "|".join(re.escape(key) for key in keys) + ")", pattern):
        group = part.lstrip("$")
        form += re.escape(part) if part not in keys else f"(?P={group})" if part in seen else rf"(?P<{group}>\d+)"
        seen.add(part)
    matches = [match for match in (re.fullmatch(form, name) for name in names) if match]
    found = {tuple(int(match[key.lstrip("$")]) for key in keys) for match in matches}
    return [dict(zip(keys, numbers, strict=True)) for numbers in sorted(found)]


def _replaced(name: str, numbers: dict[str, int]) -> str:
    for key, number in numbers.items():
        name = name.replace(key, str(number))
    return name


def _without_stars(statement: Statement, names: PerSide[Collection[str]]) -> Statement:
    left = tuple(name for star in statement.left for name in _starred(star, names.base))
    right = tuple(name for star in statement.right for name in _starred(star, names.raw))
    if not left or not right:
        side, lost = ("base", statement.left) if not left else ("raw", statement.right)
        raise PadiffError(f"no tensor of {side} has a name like {lost[0]!r}", reason=Reason.UNKNOWN_NAME)
    return replace(statement, left=left, right=right)


def _starred(name: str, names: Collection[str]) -> list[str]:
    if "*" not in name:
        return [name]
    turned = TRANSPOSED if name.endswith(TRANSPOSED) else ""
    before, _, after = name.removesuffix(TRANSPOSED).partition("*")
    form = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
    found = sorted((int(match[1]), one) for one in names if (match := form.fullmatch(one)))
    return [one + turned for _, one in found]
