"""Write a matching as a map, as a user edits it and gives it back."""

from __future__ import annotations

from collections.abc import Iterable

from padiff_rpc.match.layer_map import LayerPair, Matching
from padiff_rpc.match.map_lines import layer_lines, map_lines
from padiff_rpc.match.special_init import find_special_init
from padiff_rpc.match.user_map import MappedParameters
from padiff_rpc.model.model import ModelDescription
from padiff_rpc.result import Unmatched

_HEAD = """\
# {base} = {raw}: base's names stand before the "=", raw's behind it; * stands for a number.
# What is written here stands above the automatic match. Lines may be changed, and left out.
"""

_UNDECIDED = (
    "# Undecided: a run tries what is possible, and takes what fits. To settle one, edit it and take its # away."
)


def map_as_toml(base: ModelDescription, raw: ModelDescription, matching: Matching) -> str:
    """Return a map file that says all that a matching says, with stars where all numbers go the same way.

    What has no partner and needs one stands there as a comment. So do links that names and shapes leave in doubt, which a run
    decides by trying, and a pair of layers for which there is a special
    initialiser that the matching does not use, since naming it would demand that.
    """
    pairs = [pair for pair in matching.layers if pair.base and pair.raw]
    special = [pair for pair in pairs if pair.how != "explicit" and _has_special_init(base, raw, pair)]
    routes = [name for layer in base.layers for name in (layer.route, *layer.aliases)]
    names = [name for info in base.parameters for name in (info.name, *info.aliases)]
    lines = [_HEAD.format(base=base.class_name, raw=raw.class_name), "[layers]"]
    for title, certain in (
        ("tied by their parameters, or by a map", True),
        ("by structure, order or name alone", False),
    ):
        found = [pair for pair in pairs if pair.certain == certain and pair not in special]
        if found:
            lines += [f"# {title}", *layer_lines([(pair.base, pair.raw) for pair in found], routes)]
    lines += [f"# {line}" for line in layer_lines([(pair.base, pair.raw) for pair in special], routes)]
    open_links = matching.undecided
    linked = [link for link in matching.links if link.special is None]
    decided = [MappedParameters(link.base, link.raw, link.rule) for link in linked if link not in open_links]
    undecided = [MappedParameters(link.base, link.raw, link.rule) for link in linked if link in open_links]
    lines += ["", "[parameters]", *map_lines(decided, names)]
    if undecided:
        lines += [_UNDECIDED, *(f"# {line}" for line in map_lines(undecided, names))]
    lines += [*_missing("base", matching.unmatched_base), *_missing("raw", matching.unmatched_raw)]
    return "\n".join(lines) + "\n"


def _has_special_init(base: ModelDescription, raw: ModelDescription, pair: LayerPair) -> bool:
    classes = [
        f"{model.framework}::{model.layer(route).class_name}" for model, route in ((base, pair.base), (raw, pair.raw))
    ]
    return find_special_init(*classes) is not None


def _missing(side: str, entries: Iterable[Unmatched]) -> list[str]:
    return [f"# without partner in {side}: {entry.what} {entry.name}: {entry.why}" for entry in entries if entry.fails]
