"""Shorten a list of problems for people: problems that are alike become one line with their number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from padiff_rpc.match.stars import numberless

_NAMED = 2
"""How many of the problems that a line stands for are named beside the first one."""


@dataclass(frozen=True)
class Problem:
    """One problem of a layer or tensor.

    Attributes:
        name: is the route of the layer, or the full name of the tensor.
        text: tells the problem.
        counterpart: is the full name of the tensor that the text names beside the first one, or empty.
    """

    name: str
    text: str
    counterpart: str = ""


def alike_lines(problems: Iterable[Problem], shown: int) -> list[str]:
    """Return one line for the problems that differ only in their tensor's name and in the numbers of the layers around it.

    Args:
        problems: are the problems, in order; of several with one name the first counts.
        shown: limits the lines; a last one counts the problems that are left out.
    """
    by_name: dict[str, Problem] = {}
    for problem in problems:
        by_name.setdefault(problem.name, problem)
    groups: dict[str, list[Problem]] = {}
    for problem in by_name.values():
        groups.setdefault(_pattern(problem), []).append(problem)
    lines = [_line(group) for group in groups.values()]
    left_out = sum(len(group) for group in list(groups.values())[shown:])
    return lines[:shown] + ([f"and {left_out} more"] if left_out else [])


def _pattern(problem: Problem) -> str:
    """Return the text without the tensor's own name, and without the numbers in the routes of layers."""
    text = problem.text
    for name in filter(None, (problem.name, problem.counterpart)):
        text = re.sub(rf"{re.escape(name)}(?!\w)", name.rpartition(".")[0], text)
    return numberless(text)


def _line(alike: Sequence[Problem]) -> str:
    first, *others = alike
    if not others:
        return first.text
    names = ", ".join(other.name for other in others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
    return f"{first.text} (and {len(others)} alike: {names})"
