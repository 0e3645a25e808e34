"""Show figures as a table, and write them as JSON with the machine that they were taken on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.figures import Figure

_STYLES = {"ok": "green", "short": "red", "not taken": "yellow", "": ""}


def show(figures: Sequence[Figure], console: Console) -> None:
    """Print one row per figure, in the order of measuring."""
    table = Table()
    for title in ("group", "case", "figure", "value", "target", "", "how it came about"):
        table.add_column(title, overflow="fold")
    for figure in figures:
        value = "-" if figure.value is None else f"{figure.value:.4g} {figure.unit}"
        verdict = figure.verdict
        style = _STYLES[verdict]
        marked = f"[{style}]{verdict}[/{style}]" if style else ""
        table.add_row(figure.group, figure.case, figure.name, value, figure.target, marked, escape(figure.note))
    console.print(table)


def write(figures: Sequence[Figure], machine: Mapping[str, Any], path: Path) -> None:
    """Write all figures with their samples."""
    content = {
        "schema": "padiff-rpc/benchmark/1",
        "machine": dict(machine),
        "figures": [{**asdict(figure), "verdict": figure.verdict} for figure in figures],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
