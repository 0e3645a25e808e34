"""Write two trees side by side in lines that fit a width."""

from __future__ import annotations

from rich.text import Text

from padiff_rpc.report.advice import framework
from padiff_rpc.report.trees import Row, TreeEntry, guides, side_by_side
from padiff_rpc.result import Divergence, Result

_MARKS = {"here": "<--- HERE", "seen": "<--- seen here", "also": "<--- also", "": ""}
_STYLES = {"pass": "green", "fail": "red", "": "dim"}
_WIDEST = 60


def tree_lines(result: Result, divergence: Divergence, width: int, *, ascii_only: bool) -> list[Text]:
    """Return a head and a line for each row of the trees around a divergence; nothing if there is no tree to show.

    Args:
        result: holds both trees.
        divergence: the layer to show the trees around.
        width: the most columns that a line has.
        ascii_only: draws the tree's lines with ASCII characters.
    """
    rows = side_by_side(result, divergence)
    if not rows:
        return []
    base = [
        _label(row.base, lead, ascii_only)
        for row, lead in zip(rows, guides([r.base for r in rows], ascii_only), strict=True)
    ]
    raw = [
        _label(row.raw, lead, ascii_only)
        for row, lead in zip(rows, guides([r.raw for r in rows], ascii_only), strict=True)
    ]
    heads = [f"{side} ({framework(result, side) or 'model'})" for side in ("base", "raw")]
    marks = max(len(_MARKS[row.mark]) for row in rows)
    room = (width - 2 - 5 - 2 - marks) // 2
    left = min(room, _WIDEST, max(len(text.plain) for text in (*base, Text(heads[0]))))
    right = min(width - 2 - left - 5 - 2 - marks, _WIDEST, max(len(text.plain) for text in (*raw, Text(heads[1]))))
    head = Text.assemble("  ", (f"{heads[0]:<{left}}     {heads[1]}", "bold"))
    legend = _legend(rows, ascii_only)
    lines = [Text.assemble(head, (legend, "dim")) if len(head.plain) + len(legend) <= width else head]
    for row, one, other in zip(rows, base, raw, strict=True):
        signs = {"pass": "=", "fail": "!" if ascii_only else "≠", "": "|" if ascii_only else "│"}
        lines.append(
            Text.assemble(
                "  ",
                _fit(one, left, ascii_only, pad=True),
                (f"  {signs[row.state]}  ", _STYLES[row.state]),
                _fit(other, right if row.mark else width - 2 - left - 5, ascii_only, pad=bool(row.mark)),
                (f"  {_MARKS[row.mark]}" if row.mark else "", "bold red" if row.mark == "here" else "red"),
            )
        )
        lines[-1].rstrip()
    return lines


def _label(node: TreeEntry | None, lead: str, ascii_only: bool) -> Text:
    if node is None:
        return Text("")
    if node.hidden:
        return Text(f"{lead}{'...' if ascii_only else '…'} {node.hidden} more", style="dim")
    if not node.label:
        return Text.assemble((lead, "dim"), (node.class_name, "cyan"))
    return Text.assemble((lead, "dim"), node.label, "  ", (node.class_name, "cyan"))


def _fit(text: Text, width: int, ascii_only: bool, *, pad: bool) -> Text:
    """Cut text to the width. Text that is too long loses its end, which is the class name."""
    text = text.copy()
    if len(text.plain) > width:
        dots = "..." if ascii_only else "…"
        text = Text.assemble(text[: width - len(dots)], dots)
    if pad:
        text.pad_right(width - len(text.plain))
    return text


def _legend(rows: list[Row], ascii_only: bool) -> str:
    differs = "!" if ascii_only else "≠"
    return f"     = agrees, {differs} differs" if any(row.state for row in rows) else ""
