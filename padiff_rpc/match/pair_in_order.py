"""Pair the entries of two lists in order: numbered names whose numbers are shifted, and layers by a score."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from padiff_rpc.match.tree import LayerNode


def stem(name: str) -> str:
    """Return a name without the digits at its end (`conv` for `conv2`)."""
    return re.sub(r"\d+$", "", name)


def renumber(name: str, shift: int) -> str:
    """Add `shift` to the number at the end of a name, and return a name without a number unchanged."""
    number = name[len(stem(name)) :]
    return f"{stem(name)}{int(number) + shift}" if number and shift else name


def number_shifts(base: list[str], raw: list[str]) -> dict[str, int]:
    """Find the stems whose names are numbered alike on both sides, except for the first number.

    Base's `conv1, conv2` and raw's `conv0, conv1` give {"conv": -1}: add the shift to base's number to have raw's.

    A stem counts only where base has at least two numbers under it. An index alone (`3`, `layers.3`) does not count.
    """
    shifts: dict[str, int] = {}
    raw_numbers = _numbers_by_stem(raw)
    for root, mine in _numbers_by_stem(base).items():
        theirs = raw_numbers.get(root, set())
        shift = min(theirs, default=0) - min(mine)
        # A mere index (`3`, `layers.3`) says where a layer stands, which _pair_by_order sees for itself.
        if (
            len(mine) > 1
            and root
            and not root.endswith(".")
            and mine != theirs
            and {number + shift for number in mine} == theirs
        ):
            shifts[root] = shift
    return shifts


def align_in_order(
    base: list[LayerNode], raw: list[LayerNode], score: Callable[[LayerNode, LayerNode], float]
) -> list[tuple[LayerNode, LayerNode]]:
    """Pair layers of two lists so that pairs do not cross and the sum of their scores is greatest.

    This is the alignment of two sequences by dynamic programming (Needleman and Wunsch, 1970) with free gaps; its time and
    memory grow with len(base) x len(raw). Of several best pairings the one with the earliest partners is returned.

    Args:
        base: base's layers, in definition order.
        raw: raw's layers, in definition order.
        score: tells how well two layers go together; layers whose score is 0 or less are never paired.
    """
    scores = [[score(b, r) for r in raw] for b in base]
    best = [[0.0] * (len(raw) + 1) for _ in range(len(base) + 1)]
    for i in range(len(base) - 1, -1, -1):
        for j in range(len(raw) - 1, -1, -1):
            paired = best[i + 1][j + 1] + scores[i][j] if scores[i][j] > 0 else 0.0
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    return list(_walk(base, raw, scores, best))


def gaps_of(
    layers: Iterable[Sequence[LayerNode]], pair_number: Mapping[LayerNode, int]
) -> dict[LayerNode, tuple[int, int]]:
    """Return for each layer the numbers of the pairs right before and right after it; -1 where there is none.

    Args:
        layers: the layers of each side, in definition order.
        pair_number: the number of the pair that a layer is in, for those that are in one.
    """
    gaps: dict[LayerNode, tuple[int, int]] = {}
    for nodes in layers:
        before = []
        last = -1
        for node in nodes:
            before.append(last)
            last = pair_number.get(node, last)
        following = -1
        for node, previous in zip(reversed(nodes), reversed(before), strict=True):
            gaps[node] = (previous, following)
            following = pair_number.get(node, following)
    return gaps


def _numbers_by_stem(names: Iterable[str]) -> dict[str, set[int]]:
    by_stem: dict[str, set[int]] = defaultdict(set)
    for name in names:
        if name != (root := stem(name)):
            by_stem[root].add(int(name[len(root) :]))
    return by_stem


def _walk(
    base: list[LayerNode], raw: list[LayerNode], scores: list[list[float]], best: list[list[float]]
) -> Iterator[tuple[LayerNode, LayerNode]]:
    """Follow the best scores from the start of both lists. best[i][j]: the greatest sum for base[i:] and raw[j:]."""
    i = j = 0
    while i < len(base) and j < len(raw):
        if scores[i][j] > 0 and best[i][j] == best[i + 1][j + 1] + scores[i][j]:
            yield base[i], raw[j]
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
