"""Which layers of one model are recorded, dumped and compared, and why the others are not."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from padiff_rpc.errors import PadiffError, Reason

NOT_ASKED_FOR = "not asked for"


@dataclass(frozen=True)
class Selection:
    """left_out: route -> why that layer is left out ("on the black list", "inside the mapped layer 'attn'", ...).

    Every other layer is recorded, dumped and compared. The root has the empty route.
    """

    left_out: Mapping[str, str] = field(default_factory=dict)

    def keeps(self, route: str) -> bool:
        return route not in self.left_out


EVERYTHING = Selection()


def asked_layers(routes: Iterable[str], globs: Sequence[str], depth: int | None) -> set[str]:
    """Return the routes that match one of the globs (all where there are none) and lie at most `depth` levels below the root.

    A `*` stands for any text, dots included; "" is the root alone.
    """
    return {
        route
        for route in routes
        if (not globs or any(fnmatchcase(route, glob) for glob in globs))
        and (depth is None or (route.count(".") + 1 if route else 0) <= depth)
    }


def narrowed(selection: Selection, routes: Iterable[str], kept: Collection[str]) -> Selection:
    """Leave out, of what a selection keeps, all but `kept`, as not asked for."""
    rest = {route: NOT_ASKED_FOR for route in routes if route not in kept}
    return Selection({**rest, **selection.left_out}) if rest else selection


def check_globs(globs: Sequence[str], routes: Collection[str], whose: str) -> None:
    """Refuse, with BAD_CONFIG, a glob that matches no route."""
    for glob in globs:
        if any(fnmatchcase(route, glob) for route in routes):
            continue
        near = difflib.get_close_matches(
            glob.rstrip("*").rstrip("."), [route for route in routes if route], n=1, cutoff=0.0
        )
        raise PadiffError(
            f"no layer of {whose} matches {glob!r}",
            reason=Reason.BAD_CONFIG,
            hint=f"did you mean {near[0]!r}? `padiff-rpc inspect` lists the layers"
            if near
            else "the model has no layers",
        )
