"""Shorten a list of problems for people: problems that are alike become one line with their number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from padiff_rpc.match.map_lines import proposal_in_words
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
        proposal: is a map, in TOML, that settles it, or empty.
    """

    name: str
    text: str
    counterpart: str = ""
    proposal: str = ""


def alike_lines(problems: Iterable[Problem], shown: int) -> list[str]:
    """Return one line for the problems that differ only in their tensor's name and in the numbers of the layers around it.

    Where the first of these has a proposal, the next line shows it.

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
    kept = list(groups.values())[:shown]
    lines = [line for group in kept for line in _lines(group)]
    left_out = len(by_name) - sum(map(len, kept))
    return lines + ([f"and {left_out} more"] if left_out else [])


def _pattern(problem: Problem) -> str:
    """Return the text without the tensor's own name, and without the numbers in the routes of layers."""
    text = problem.text
    for name in filter(None, (problem.name, problem.counterpart)):
        text = re.sub(rf"{re.escape(name)}(?!\w)", name.rpartition(".")[0], text)
    return numberless(text)


def _lines(alike: Sequence[Problem]) -> list[str]:
    first, *others = alike
    text = first.text
    if others:
        names = ", ".join(other.name for other in others[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
        text = f"{text} (and {len(others)} alike: {names})"
    return [text, f"  {proposal_in_words(first.proposal)}"] if first.proposal else [text]
