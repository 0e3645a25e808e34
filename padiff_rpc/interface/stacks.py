"""Describe where in the user's own code a layer is called, in the form that PaDiff's reports have under "stack"."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_NOT_USERS = (_OURS + os.sep, *(sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "purelib", "platlib")))
_DEPTH = 8
"""How many of the innermost frames are described: a deep model's stack would outgrow its tensors."""


def user_stack() -> str:
    """Return a text on the innermost eight calls in progress that lie in the user's own files, the outermost first.

    Each takes two lines: the file's name, the line number and the function; and the line of code. Files of the standard library,
    of installed packages and of this library are passed over.
    """
    found: list[str] = []
    frame = sys._getframe(1)
    while frame is not None and len(found) < _DEPTH:
        name = frame.f_code.co_filename
        if not name.startswith(_NOT_USERS) and not name.startswith("<"):
            line = linecache.getline(name, frame.f_lineno).strip()
            found.append(f"File {os.path.basename(name)}: {frame.f_lineno}    {frame.f_code.co_name}\n    {line}")
        frame = frame.f_back
    return "\n".join(reversed(found))
