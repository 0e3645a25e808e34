"""Keep the folder that dumps go to, and write log files."""

from __future__ import annotations

import os
from pathlib import Path

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tape.writing import writing

_LOG_FOLDER = "padiff_log"


class _Root:
    """Holds the folder that the user has set; None if there is none."""

    path: str | None = None


def set_dump_root_path(path: str | os.PathLike[str]) -> None:
    """Set the folder below which the proxies of create_model dump, each in a folder of its own name.

    The folder is made when it is needed. Raises PadiffError (BAD_CONFIG) if `path` is no text and no Path.
    """
    _Root.path = os.fspath(as_path(path))


def get_dump_root_path() -> str:
    """Return the folder below which the proxies of create_model dump.

    It is the folder that was set, or else `padiff_dump` in the folder that is the current one now.
    """
    return _Root.path if _Root.path is not None else os.path.join(os.getcwd(), "padiff_dump")


def as_path(value: object) -> Path:
    """Return a path given as text or as a Path as a Path; raise PadiffError (BAD_CONFIG) for anything else."""
    if not isinstance(value, (str, os.PathLike)):
        raise PadiffError(
            f"a folder is given as text or as a Path, got {value!r}",
            reason=Reason.BAD_CONFIG,
            hint="give the path of the folder",
        )
    return Path(value)


def write_log(name: str, text: str) -> Path:
    """Write a log file into `padiff_log` in the current folder, and return its path.

    An earlier file of that name is replaced. Path separators in the name become "_".

    Raises:
        PadiffError: the file cannot be written.
    """
    folder = Path.cwd() / _LOG_FOLDER
    path = folder / name.replace(os.sep, "_")
    with writing("a log file", folder, "run in a folder that can be written to and has room"):
        folder.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path
