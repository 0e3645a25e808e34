"""Know which layers a user's map ties to each other, so that what is paired automatically follows it."""

from __future__ import annotations

from collections.abc import Iterator

from padiff_rpc.match.tree import LayerNode
from padiff_rpc.per_side import PerSide


class Ties:
    """Which layers a user's map ties to each other, so that no automatic pair contradicts it."""

    def __init__(self) -> None:
        self._related: set[tuple[LayerNode, LayerNode]] = set()
        self._tied: PerSide[set[LayerNode]] = PerSide(set(), set())

    def add(self, base: LayerNode, raw: LayerNode) -> None:
        """Tie two layers, and with them the layers around them."""
        above = PerSide(list(_with_holders(base)), list(_with_holders(raw)))
        self._related.update((mine, theirs) for mine in above.base for theirs in above.raw)
        self._tied.base.update(above.base)
        self._tied.raw.update(above.raw)

    def join(self, base: LayerNode, raw: LayerNode) -> bool:
        """Return True if the map ties something in one of two layers to something in the other."""
        return (base, raw) in self._related

    def forbid(self, base: LayerNode, raw: LayerNode) -> bool:
        """Return True if the map ties something in one of two layers to other layers, and nothing to the other one of the two."""
        return (base in self._tied.base or raw in self._tied.raw) and (base, raw) not in self._related


def _with_holders(node: LayerNode) -> Iterator[LayerNode]:
    at: LayerNode | None = node
    while at is not None:
        yield at
        at = at.holder
