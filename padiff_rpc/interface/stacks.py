"""Where in the user's own code a layer was called: the text that PaDiff puts under "stack" in a report."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_NOT_USERS = (_OURS + os.sep, *(sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "purelib", "platlib")))
_DEPTH = 8
"""Innermost frames that are told: a deep model's stack would outgrow its tensors."""


def user_stack() -> str:
    """Describe the frames of the user's own files, the outermost first: file, line, function, and the code there."""
    found: list[str] = []
    frame = sys._getframe(1)
    while frame is not None and len(found) < _DEPTH:
        name = frame.f_code.co_filename
        if not name.startswith(_NOT_USERS) and not name.startswith("<"):
            line = linecache.getline(name, frame.f_lineno).strip()
            found.append(f"File {os.path.basename(name)}: {frame.f_lineno}    {frame.f_code.co_name}\n    {line}")
        frame = frame.f_back
    return "\n".join(reversed(found))
