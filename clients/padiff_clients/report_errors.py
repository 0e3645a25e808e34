"""Errors on the command line: message, hint and the user's own frames on stderr, and the exit status."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

from padiff_rpc.errors import WORKER_REASONS, PadiffError

ALIGNED, DIFFERS, BAD_USAGE, WORKER_FAILED = 0, 1, 2, 3
INTERRUPTED = 130  # as shells have it: 128 + SIGINT

P = ParamSpec("P")
T = TypeVar("T")


def handled(command: Callable[P, T]) -> Callable[P, T]:
    """Make a command write what it raises on stderr, and exit with the status that belongs to it.

    Ctrl-C exits with 130. click would exit with 1, which here means that the models differ.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except PadiffError as err:
            _exit(describe(err), _status_of(err))
        except KeyboardInterrupt:
            _exit("interrupted\n", INTERRUPTED)
        except Exception as err:  # every error that we foresee is a PadiffError, so this one is a bug
            if type(err).__module__.startswith("click."):
                raise
            trace = traceback.format_exc()
            _exit(f"{trace}error: this is a bug in padiff-rpc; please report it with the lines above\n", WORKER_FAILED)

    return run


def describe(err: PadiffError) -> str:
    """Return the lines to print for an error: what happened, the user's own frames if there are any, and the hint."""
    lines = [f"error [{err.reason.value}]: {err.message}"]
    frames = err.metadata.get("traceback", "").strip("\n")
    if frames:
        lines += ["in your code:", *(f"  {line}" for line in frames.split("\n"))]
    if err.hint:
        lines.append(f"hint: {err.hint}")
    return "\n".join(lines) + "\n"


def _status_of(err: PadiffError) -> int:
    # DATA_LOSS of a file (see padiff_rpc.tape) is a dump that was damaged here, not a worker's stream.
    return WORKER_FAILED if err.reason in WORKER_REASONS and "file" not in err.metadata else BAD_USAGE


def _exit(text: str, status: int) -> NoReturn:
    sys.stderr.write(text)
    sys.exit(status)
