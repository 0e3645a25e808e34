"""Lay out text in lines and columns that fit a width, without trailing blanks."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.text import Text

GAP = 2  # blanks between columns


def fold(text: Text | str, width: int, indent: int) -> Text:
    """Wrap text at words.

    A word that is longer than a line is broken over two lines; nothing is left out. What follows a line break in the text is kept
    as it is, since it is there to be copied.

    Args:
        text: the text.
        width: the columns of a line.
        indent: the blanks before every line but the first.
    """
    rest, *kept = (Text(text) if isinstance(text, str) else text).split("\n")
    lines: list[Text] = []
    while rest.cell_len > width:
        at = rest.plain.rfind(" ", indent + 1, width + 1)
        at = at if at > 0 else width
        lines.append(rest[:at])
        lines[-1].rstrip()
        rest = Text.assemble(" " * indent, rest[at + 1 :] if rest.plain[at] == " " else rest[at:])
    return Text("\n").join([*lines, rest, *(Text.assemble(" " * indent, line) for line in kept)])


def columns(
    rows: Sequence[Sequence[Text | str]], width: int, *, indent: int = 0, right: Collection[int] = ()
) -> list[Text]:
    """Return one text for each row, with the cells of a column below each other. The last column wraps below itself.

    Args:
        rows: the cells of each row; every row has as many.
        width: the columns of a line.
        indent: the blanks before every line.
        right: the indices of the columns that are aligned to the right.
    """
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
