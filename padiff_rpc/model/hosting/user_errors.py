"""Report errors in user code: the trace cut to the user's own frames, and the layer that raised."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from padiff_rpc.errors import PadiffError, Reason

TRACE_LIMIT = 2000
"""The most characters of a trace that travel with an error, whose detail must stay under 4 KiB on the wire."""
_TEXT_LIMIT = 800
_OURS = str(Path(__file__).resolve().parents[2])


def user_error(
    what: str,
    err: BaseException,
    framework: str,
    reason: Reason,
    *,
    hint: str = "",
    metadata: Mapping[str, str] | None = None,
) -> PadiffError:
    """Return a PadiffError for an exception that user code raised.

    The message gives `what`, the exception, and the innermost line of the user's own code. The trace, cut to the user's
    frames where there are any, goes into metadata["traceback"].

    Args:
        what: The operation that raised, as the beginning of the message.
        err: The exception.
        framework: The framework whose frames are cut from the trace.
        reason: The error's reason.
        hint: The advice to the user.
        metadata: Further facts for the error's metadata.
    """
    users, others = _frames(err, framework)
    where = f" ({users[-1].filename}:{users[-1].lineno})" if users else ""
    text = "".join(traceback.format_exception_only(type(err), err)).strip()
    if len(text) > _TEXT_LIMIT:
        text = text[:_TEXT_LIMIT] + " ..."
    trace = "".join(traceback.format_list(users or others)) + text
    if len(trace) > TRACE_LIMIT:
        trace = "... " + trace[-TRACE_LIMIT:]
    return PadiffError(
        f"{what}: {text}{where}", reason=reason, hint=hint, metadata={**(metadata or {}), "traceback": trace}
    )


def raising_layer(err: BaseException, routes: Mapping[int, str]) -> str | None:
    """Return the route of the innermost layer whose method was running when `err` was raised, or None.

    The layer is read off the trace, so that layers without hooks are found, too, and a failure that the model itself
    caught leaves nothing behind. `routes` maps id(layer) to the layer's route.
    """
    route = None
    trace = err.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_argcount:
            first: Any = trace.tb_frame.f_locals.get(code.co_varnames[0])
            route = routes.get(id(first), route)
        trace = trace.tb_next
    return route


def _frames(err: BaseException, framework: str) -> tuple[list[traceback.FrameSummary], list[traceback.FrameSummary]]:
    """Return the frames outside this library and the framework, and all frames outside this library."""
    trace: TracebackType | None = err.__traceback__
    frames = [frame for frame in traceback.extract_tb(trace) if not _is_below(frame.filename, _OURS)]
    frames = [frame for frame in frames if not frame.filename.startswith("<frozen importlib")]
    package = sys.modules.get(framework)
    folders = list(getattr(package, "__path__", ()))
    users = [frame for frame in frames if not any(_is_below(frame.filename, folder) for folder in folders)]
    if isinstance(err, SyntaxError) and err.filename and err.lineno:
        # The file that does not parse has no frame.
        users.append(traceback.FrameSummary(err.filename, err.lineno, "<module>", lookup_line=False, line=err.text))
    return users, frames


def _is_below(filename: str, folder: str) -> bool:
    return filename.startswith(folder.rstrip("/\\") + "/") or filename.startswith(folder.rstrip("/\\") + "\\")
