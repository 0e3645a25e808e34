"""What routes tell of each other."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 3


def is_inside(route: str, outer: str) -> bool:
    """True when a route is `outer` or lies below it."""
    return not outer or route == outer or route.startswith(f"{outer}.")


def listed(routes: Sequence[str]) -> str:
    """Name a few, and count the rest."""
    more = f" and {len(routes) - _SHOWN} more" if len(routes) > _SHOWN else ""
    return ", ".join(routes[:_SHOWN]) + more
