"""Where dumps and logs go."""

from __future__ import annotations

import os
from pathlib import Path

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tape.writing import writing

_LOG_FOLDER = "padiff_log"


class _Root:
    """The folder that the user has set; without one, `padiff_dump` in the current folder, wherever that is by then."""

    path: str | None = None


def set_dump_root_path(path: str | os.PathLike[str]) -> None:
    """Set the folder below which create_model's proxies dump, each in a folder of its name. Made when it is needed."""
    _Root.path = os.fspath(as_path(path))


def get_dump_root_path() -> str:
    """Return the folder below which proxies dump."""
    return _Root.path if _Root.path is not None else os.path.join(os.getcwd(), "padiff_dump")


def as_path(value: object) -> Path:
    """Take what may be a path; BAD_CONFIG for anything else."""
    if not isinstance(value, (str, os.PathLike)):
        raise PadiffError(
            f"a folder is given as text or as a Path, got {value!r}",
            reason=Reason.BAD_CONFIG,
            hint="give the path of the folder",
        )
    return Path(value)


def write_log(name: str, text: str) -> Path:
    """Write a log file into `padiff_log` in the current folder, in the place of an earlier one; return its path."""
    folder = Path.cwd() / _LOG_FOLDER
    path = folder / name.replace(os.sep, "_")
    with writing("a log file", folder, "run in a folder that can be written to and has room"):
        folder.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path
