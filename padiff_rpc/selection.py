"""Which layers of one model are recorded, dumped and compared, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Selection:
    """left_out: route -> why that layer is left out ("on the black list", "inside the mapped layer 'attn'", ...).

    Every other layer is recorded, dumped and compared. The root has the empty route.
    """

    left_out: Mapping[str, str] = field(default_factory=dict)

    def keeps(self, route: str) -> bool:
        return route not in self.left_out


EVERYTHING = Selection()
