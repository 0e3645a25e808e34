"""Put two lists of layers abreast: by their numbers where names are numbered, and by order where nothing else helps."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator

from padiff_rpc.match.tree import LayerNode


def stem(name: str) -> str:
    """Return a name without the number at its end."""
    return re.sub(r"\d+$", "", name)


def renumber(name: str, shift: int) -> str:
    """Add to the number at a name's end, where it has one."""
    number = name[len(stem(name)) :]
    return f"{stem(name)}{int(number) + shift}" if number and shift else name


def number_shifts(base: list[str], raw: list[str]) -> dict[str, int]:
    """Return, per stem of numbered names, what to add to base's numbers where raw's are the same ones, shifted."""
    shifts: dict[str, int] = {}
    numbers: list[dict[str, set[int]]] = []
    for names in (base, raw):
        by_stem: dict[str, set[int]] = defaultdict(set)
        for name in names:
            if name != (root := stem(name)):
                by_stem[root].add(int(name[len(root) :]))
        numbers.append(by_stem)
    for root, mine in numbers[0].items():
        theirs = numbers[1].get(root, set())
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
    """Return the order-preserving pairing of the greatest total score; among equals the earliest partners."""
    scores = [[score(b, r) for r in raw] for b in base]
    best = [[0.0] * (len(raw) + 1) for _ in range(len(base) + 1)]
    for i in range(len(base) - 1, -1, -1):
        for j in range(len(raw) - 1, -1, -1):
            paired = best[i + 1][j + 1] + scores[i][j] if scores[i][j] > 0 else 0.0
            best[i][j] = max(paired, best[i + 1][j], best[i][j + 1])
    return list(_walk(base, raw, scores, best))


def _walk(
    base: list[LayerNode], raw: list[LayerNode], scores: list[list[float]], best: list[list[float]]
) -> Iterator[tuple[LayerNode, LayerNode]]:
    i = j = 0
    while i < len(base) and j < len(raw):
        if scores[i][j] > 0 and best[i][j] == best[i + 1][j + 1] + scores[i][j]:
            yield base[i], raw[j]
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
