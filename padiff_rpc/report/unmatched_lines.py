"""Say what has no partner in few lines: what is alike is one, with its number, and with the line of a map that would pair it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from rich.text import Text

from padiff_rpc.match.map_lines import proposal_in_words
from padiff_rpc.match.stars import alike, numberless
from padiff_rpc.per_side import SideName
from padiff_rpc.result import Unmatched

_NAMED = 3
"""Names in one line before the rest is only hinted at."""


def failing_lines(entries: Sequence[Unmatched]) -> list[Text]:
    """Return a line for all of one side that lacks a partner for one reason; a second line shows how a map pairs it."""
    return [_line(group, "") for group in _groups([entry for entry in entries if entry.fails])]


def harmless_lines(side: SideName, entries: Sequence[Unmatched], told: Collection[str]) -> list[Text]:
    """Return a line for all of one side that needs no partner for one reason.

    Args:
        side: is the side.
        entries: are all that has no partner there.
        told: are sentences that stand elsewhere, so that no line repeats them.
    """
    quiet = [entry for entry in entries if not entry.fails and entry.why not in told]
    return [_line(group, f"{side}'s ") for group in _groups(quiet)]


def _groups(entries: Sequence[Unmatched]) -> Iterator[list[Unmatched]]:
    groups: dict[tuple[str, str], list[Unmatched]] = {}
    for one in entries:
        groups.setdefault((one.what, numberless(one.why)), []).append(one)
    yield from groups.values()


def _line(group: Sequence[Unmatched], lead: str) -> Text:
    first = group[0]
    names = [
        one.names[0] for one in alike([(entry.name or "(the whole model)",) for entry in group], [""] * len(group))
    ]
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    what, why = (
        (first.what, first.why) if len(group) == 1 else (f"{len(group):,} {first.what}s:", numberless(first.why))
    )
    line = Text.assemble(f"{lead}{what} ", (shown, "bold"), f": {why}")
    if first.fails:
        line.append(" [fails]", "red")
    if first.proposal:
        line.append(f"\n{proposal_in_words(first.proposal)}")
    return line
