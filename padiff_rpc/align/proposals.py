"""Propose the map that would settle what was guessed, as text to paste."""

from __future__ import annotations

from collections.abc import Sequence


def proposals(layers: Sequence[tuple[str, str]], parameters: Sequence[tuple[str, str]]) -> list[str]:
    """Return a note for guessed layers and one for guessed parameters, each (base, raw); none where nothing was guessed."""
    notes: list[str] = []
    if layers:
        base, raw = (_quoted([pair[side] for pair in layers]) for side in (0, 1))
        notes.append(
            "to settle the layers guessed, put each beside its partner and paste, in Python:\n"
            f"    base.set_layer_map([{base}])\n    raw.set_layer_map([{raw}])\n"
            f"or in a run file:\n    [map]\n    layers = {{ {_table(layers)} }}"
        )
    if parameters:
        notes.append(
            "to settle the parameters guessed, put each beside its partner and paste in a run file:\n"
            f"    [map]\n    parameters = {{ {_table(parameters)} }}"
        )
    return notes


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _table(pairs: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f'"{base}" = "{raw}"' for base, raw in pairs)
