"""Take the relative paths in a run file's values from the folder of that file."""

from __future__ import annotations

import os


def anchored_path(path: str, folder: str) -> str:
    """Take a relative path from `folder`."""
    # No realpath: a virtual environment's python is a link that must stay one.
    return os.path.normpath(os.path.join(folder, path))


def anchored_place(place: str, folder: str) -> str:
    """Take the path in FILE.py:FUNCTION, or a path alone, from `folder`; leave PACKAGE.MODULE:FUNCTION as it is."""
    target, colon, function = place.rpartition(":")
    if colon and target.endswith(".py"):
        return f"{anchored_path(target, folder)}:{function}"
    return anchored_path(place, folder) if not colon else place


def anchored_spec(spec: str, folder: str) -> str:
    """Take a SPEC's relative path (FILE.py, unix:PATH, tape:DIR) from `folder`."""
    for prefix in ("unix:", "tape:"):
        if spec.startswith(prefix) and len(spec) > len(prefix):
            return prefix + anchored_path(spec.removeprefix(prefix), folder)
    framework, at, place = spec.partition("@")
    return f"{framework}@{anchored_place(place, folder)}" if at else spec


def anchored_program(program: str, folder: str) -> str:
    """Take a program's relative path from `folder`; a name without a slash is looked up in PATH, and stays."""
    return anchored_path(program, folder) if os.sep in program else program
