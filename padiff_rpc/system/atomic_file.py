"""Write a file whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO, cast


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file that takes the place of `path` when the block ends.

    A reader finds the old file or the whole new one. When the block raises, the old file stays, and nothing beside it.

    Raises:
        OSError: the file cannot be written, or cannot take its place.
    """
    with _replacing(path, "x", encoding="utf-8") as file:
        yield cast(TextIO, file)


@contextmanager
def replacing_binary(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of `path` when the block ends, as `replacing` does."""
    with _replacing(path, "xb", encoding=None) as file:
        yield cast(BinaryIO, file)


@contextmanager
def _replacing(path: Path, mode: str, encoding: str | None) -> Iterator[IO[Any]]:
    # Beside it, since a rename is atomic only within one file system; opened rather than made by mkstemp, whose files
    # nobody else may read.
    partial = path.parent / f".{path.name}.{secrets.token_hex(4)}"
    file = partial.open(mode, encoding=encoding)
    try:
        with file:
            yield file
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
