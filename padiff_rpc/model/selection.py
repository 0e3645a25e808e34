"""Choose which layers of a model are recorded, dumped and compared, and say why the others are not."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from padiff_rpc.errors import PadiffError, Reason

NOT_ASKED_FOR = "not asked for"
"""The reason for leaving out a layer that the user's globs, or depth, do not cover."""


@dataclass(frozen=True)
class Selection:
    """The layers of a model that are left out; every other layer is recorded, dumped and compared.

    Attributes:
        left_out: Maps a route to the reason for leaving that layer out ("on the black list", "inside the mapped layer
            'attn'", ...). The root has the empty route.
    """

    left_out: Mapping[str, str] = field(default_factory=dict)

    def keeps(self, route: str) -> bool:
        """Return True where the layer at this route is not left out."""
        return route not in self.left_out


EVERYTHING = Selection()
"""The selection that leaves nothing out."""


def asked_layers(routes: Iterable[str], globs: Sequence[str], depth: int | None) -> set[str]:
    """Return the routes that match one of the globs and lie at most `depth` levels below the root.

    Args:
        routes: The routes to choose from.
        globs: Patterns in which `*` stands for any text, dots included, and "" is the root alone; none match all.
        depth: The number of levels; None sets no limit.
    """
    return {
        route
        for route in routes
        if (not globs or any(fnmatchcase(route, glob) for glob in globs))
        and (depth is None or (route.count(".") + 1 if route else 0) <= depth)
    }


def narrowed(selection: Selection, routes: Iterable[str], kept: Collection[str]) -> Selection:
    """Return a selection that leaves out, beside the layers that `selection` leaves out, all but `kept`, as not asked for."""
    rest = {route: NOT_ASKED_FOR for route in routes if route not in kept}
    return Selection({**rest, **selection.left_out}) if rest else selection


def check_globs(globs: Sequence[str], routes: Collection[str], whose: str) -> None:
    """Refuse a glob that matches no route.

    Args:
        globs: The globs to check.
        routes: The model's routes.
        whose: The model, in the message's words.

    Raises:
        PadiffError: BAD_CONFIG; the hint names the nearest route.
    """
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
