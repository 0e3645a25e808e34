"""Write a result, any plain data as JSON, or a text to a file: all of it, or nothing."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.result import Result
from padiff_rpc.system.atomic_file import replacing


def write_result(path: Path, result: Result) -> None:
    """Write a result as docs/result.schema.json has it; raise as `write_json` does."""
    write_json(path, result.to_json())


def write_json(path: Path, value: Any) -> None:
    """Write plain data to a JSON file, so that a reader finds the old file or the whole new one.

    Raises:
        PadiffError: BAD_CONFIG if the file cannot be written.
        ValueError: the data holds NaN or an infinity, which JSON lacks.
    """
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, so that a reader finds the old file or the whole new one; BAD_CONFIG if it cannot be written."""
    try:
        with replacing(path) as file:
            file.write(text)
    except OSError as err:
        raise _unwritable(path, err) from err


def check_writable(path: Path) -> None:
    """Raise BAD_CONFIG if a file cannot be written at `path`, to say so before a long run."""
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{str(path)!r} is a directory")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as err:
        raise _unwritable(path, err) from err


def _unwritable(path: Path, err: OSError) -> PadiffError:
    return PadiffError(
        f"cannot write {str(path)!r}: {err.strerror or err}",
        reason=Reason.BAD_CONFIG,
        hint="name a file in a directory that exists and that you may write to",
    )
