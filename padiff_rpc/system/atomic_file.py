"""Write a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file that takes the place of `path` when the block ends.

    A reader finds the old file or the whole new one. When the block raises, the old file stays, and nothing beside it.

    Raises:
        OSError: the file cannot be written, or cannot take its place.
    """
    # Beside it, since a rename is atomic only within one file system; opened rather than made by mkstemp, whose files
    # nobody else may read.
    partial = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    file = partial.open("x", encoding="utf-8")
    try:
        with file:
            yield file
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
