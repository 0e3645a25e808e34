"""Draw a model's tree of layers into a log file, with the layer to look at marked, as PaDiff does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from padiff_rpc.interface.places import write_log
from padiff_rpc.interface.switches import path_log
from padiff_rpc.per_side import PerSide

_HERE = "    <---  *** HERE ***"


def log_names(base: str, raw: str) -> PerSide[str]:
    """Return the names of both models for their log files: with the side added if they are equal, so that the files differ."""
    return PerSide(f"{base}(base_model)", f"{raw}(raw_model)") if base == raw else PerSide(base, raw)


def write_tree(
    file_name: str,
    model_name: str,
    layers: Sequence[tuple[str, str]],
    here: Collection[str],
    skipped: Collection[str] = (),
) -> str:
    """Write a tree of layers into a log file in `padiff_log` and return the file's path.

    Args:
        file_name: the name of the log file.
        model_name: the model's name, for the tree's head and for routes.
        layers: route and class name of each layer, in definition order, the root first.
        here: routes to mark as the layer to look at.
        skipped: routes to mark with "(skip)".

    Raises:
        PadiffError: the file cannot be written.
    """
    lines = [model_name, "=" * 40, *_draw(model_name, layers, here, skipped)]
    return str(write_log(file_name, "\n".join(lines) + "\n"))


def _draw(
    model_name: str, layers: Sequence[tuple[str, str]], here: Collection[str], skipped: Collection[str]
) -> Iterator[str]:
    classes = dict(layers)
    children: dict[str, list[str]] = defaultdict(list)
    roots: list[str] = []
    for route, _ in layers:
        parent = _parent(route, classes)
        if parent is None:
            roots.append(route)
        else:
            children[parent].append(route)
    with_routes = path_log()

    def draw(route: str, lead: str, branch: str) -> Iterator[str]:
        text = lead + branch + classes[route]
        text += " (skip)" if route in skipped else ""
        text += f"  ({model_name}{'.' if route else ''}{route})" if with_routes else ""
        yield text + (_HERE if route in here else "")
        below = children[route]
        inside = lead + {"": "", " |--- ": " |    ", " +--- ": "      "}[branch]
        for child in below:
            yield from draw(child, inside, " +--- " if child is below[-1] else " |--- ")

    for root in roots:
        yield from draw(root, " " * 4, "")


def _parent(route: str, classes: Collection[str]) -> str | None:
    """Return the nearest enclosing layer that is listed; None for a root."""
    while route:
        route = route.rpartition(".")[0]
        if route in classes:
            return route
    return None
