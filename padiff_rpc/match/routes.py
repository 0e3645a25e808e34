"""Routes of layers (dotted names such as `encoder.layers.0`): whether one encloses another, and how a list is shown."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 3


def is_inside(route: str, outer: str) -> bool:
    """Return True if `route` is the layer `outer` or lies below it; every route lies inside the root, ""."""
    return not outer or route == outer or route.startswith(f"{outer}.")


def listed(routes: Sequence[str]) -> str:
    """Return the first three routes as a text, followed by the number of the others ("a, b, c and 2 more")."""
    more = f" and {len(routes) - _SHOWN} more" if len(routes) > _SHOWN else ""
    return ", ".join(routes[:_SHOWN]) + more
