"""Print on the terminal as PaDiff's functions do, with `[AutoDiff]` before a line."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

_PREFIX = "[AutoDiff]"

DEFAULT_TOLERANCES = (
    "NOTE: these are PaDiff's default tolerances, atol 0 and rtol 1e-07, which right models in float32 rarely meet: "
    "give atol and rtol, such as 1e-6 and 1e-5"
)


def log(text: str) -> None:
    """Print one line on stdout, with `[AutoDiff]` before it."""
    show(f"{_PREFIX} {text}")


def show(text: str) -> None:
    """Print text on stdout as it is. PaDiff's users read its findings on the terminal, so they do not go to a logger."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show_options(options: Mapping[str, Any]) -> None:
    """Print the options of a run by name, one a line, as PaDiff does."""
    log("Your options:")
    show("{")
    for name, value in options.items():
        show(f"  {name}: `{value}`")
    show("}")
