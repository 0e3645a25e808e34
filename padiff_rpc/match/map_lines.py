"""Write names that belong together as lines of a map, with stars where all numbers go the same way."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from padiff_rpc.match.stars import alike
from padiff_rpc.match.user_map import MappedParameters, parameters_as_text, with_numbers


def map_lines(entries: Sequence[MappedParameters], known: Collection[str]) -> list[str]:
    """Return the lines of a map file, in TOML, that say these entries.

    Args:
        entries: link tensors; or pair two layers, whose routes stand in their place.
        known: base's names, for which a star may stand.
    """
    texts = parameters_as_text(_starred(entries, known))
    return [f"{_quoted(base)} = {_quoted(raw)}" for base, raw in texts.items()]


def layer_lines(pairs: Iterable[tuple[str, str]], known: Collection[str]) -> list[str]:
    """Return the lines of a map file, in TOML, that pair these layers.

    Args:
        pairs: are routes in base and raw.
        known: base's routes.
    """
    return map_lines([MappedParameters((base,), (raw,)) for base, raw in pairs], known)


def to_settle(table: Literal["layers", "parameters"], lines: Sequence[str]) -> list[str]:
    """Return the note that shows a user how to settle guesses by lines of a map; none where there are no lines."""
    if not lines:
        return []
    return [
        "\n    ".join([f"to settle the {table} guessed, put each beside its partner in a map:", f"[{table}]", *lines])
    ]


def proposal_in_words(proposal: str) -> str:
    """Say where a proposed line of a map goes: `put into [layers] of a map: "a" = "b"`, for the TOML of these two lines."""
    table, _, line = proposal.partition("\n")
    return f"put into {table} of a map: {line}"


def _starred(entries: Sequence[MappedParameters], known: Collection[str]) -> list[MappedParameters]:
    """Return the entries with stars; those that stars would not stand for exactly, as they are."""
    rows = alike([entry.names for entry in entries], [(len(entry.base), entry.rule) for entry in entries])
    written: list[MappedParameters] = []
    for row in rows:
        members = [entries[at] for at in row.rows]
        count = len(members[0].base)
        one = MappedParameters(row.names[:count], row.names[count:], members[0].rule)
        exact = {each.names for each in with_numbers(one, known)} == {each.names for each in members}
        written += [one] if exact else members
    return written


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a basic string of TOML has the same escapes
