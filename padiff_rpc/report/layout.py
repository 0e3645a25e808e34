"""Text in lines and columns that fit a width, without the trailing blanks that a pipe would show."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.text import Text

GAP = 2  # blanks between columns


def fold(text: Text | str, width: int, indent: int) -> Text:
    """Wrap at words, with the lines after the first indented; a word longer than a line is broken, never cut."""
    rest = Text(text) if isinstance(text, str) else text
    lines: list[Text] = []
    while rest.cell_len > width:
        at = rest.plain.rfind(" ", indent + 1, width + 1)
        at = at if at > 0 else width
        lines.append(rest[:at])
        lines[-1].rstrip()
        rest = Text.assemble(" " * indent, rest[at + 1 :] if rest.plain[at] == " " else rest[at:])
    return Text("\n").join([*lines, rest])


def columns(
    rows: Sequence[Sequence[Text | str]], width: int, *, indent: int = 0, right: Collection[int] = ()
) -> list[Text]:
    """Align all but the last column (those in `right` to their right edge); the last one wraps below itself."""
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(*(row[:-1] for row in cells), strict=True)]
    hang = indent + sum(widths) + GAP * len(widths)
    lines = []
    for row in cells:
        line = Text(" " * indent)
        for at, (cell, cell_width) in enumerate(zip(row[:-1], widths, strict=True)):
            pad = " " * (cell_width - cell.cell_len)
            line.append_text(Text.assemble(pad, cell) if at in right else Text.assemble(cell, pad)).append(" " * GAP)
        line.append_text(row[-1])
        line = fold(line, width, hang if hang < width // 2 else indent + GAP)
        line.rstrip()
        lines.append(line)
    return lines
