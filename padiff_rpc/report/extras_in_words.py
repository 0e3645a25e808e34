"""Put what one side alone has into words, and say with which option it is accepted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from padiff_rpc.per_side import SIDES
from padiff_rpc.result import Extra, ExtraStatus

_NAMED = 3
"""Names for each side before the rest is only counted."""


def in_words(extras: Iterable[Extra], *status: ExtraStatus) -> str:
    """Return, for example, `only raw has pooler.dense (2 parameters) and output.1`; "" where nothing has such a status."""
    chosen = [extra for extra in extras if extra.status in status]
    texts: list[str] = []
    for side in SIDES:
        names = [_group_in_words(group) for group in _groups(extra for extra in chosen if extra.side == side)]
        if names:
            texts.append(f"only {side} has {_listed(names)}")
    return "; ".join(texts)


def accepting(extras: Iterable[Extra]) -> str:
    """Return the options that accept what fails among the extras, such as `--allow-extra 'pooler*'`; "" where nothing does."""
    failing = [extra for extra in extras if extra.status == "fails"]
    alone = {extra.layer for extra in failing if extra.what == "output" and extra.layer}
    globs = list(dict.fromkeys(_glob(group, alone) for group in _groups(failing)))
    return " ".join(f"--allow-extra '{glob}'" for glob in globs[:_NAMED]) + (" ..." if len(globs) > _NAMED else "")


def extras_held(extras: Iterable[Extra], routes: dict[str, str]) -> str:
    """Say which extras the layers at these routes, by side, hold themselves; "" where there are none."""
    held = [extra for extra in extras if extra.what != "output" and extra.name.rpartition(".")[0] == routes[extra.side]]
    return in_words(held, "fails", "allowed", "neutral")


def _groups(extras: Iterable[Extra]) -> list[list[Extra]]:
    """Put the parameters and buffers of one layer together."""
    groups: dict[str, list[Extra]] = {}
    for extra in extras:
        key = extra.name if extra.what == "output" or not extra.layer else f"{extra.layer} "
        groups.setdefault(key, []).append(extra)
    return list(groups.values())


def _glob(group: Sequence[Extra], alone: Collection[str]) -> str:
    """Return a glob for a group: its layer, or the layer around it whose output is extra as well; else its one name."""
    layer = group[0].layer
    around = next((route for route in alone if f"{layer}.".startswith(f"{route}.")), "")
    if around or len(group) > 1:
        return f"{around or layer}*"
    return group[0].name


def _group_in_words(group: Sequence[Extra]) -> str:
    if len(group) == 1:
        return group[0].name
    counts = Counter(extra.what for extra in group)
    inside = ", ".join(f"{count} {what}{'s' if count > 1 else ''}" for what, count in counts.items())
    return f"{group[0].layer} ({inside})"


def _listed(names: Sequence[str]) -> str:
    if len(names) > _NAMED:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
