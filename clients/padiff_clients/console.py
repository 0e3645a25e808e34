"""The two consoles: results on stdout, log and progress on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from rich.console import Console

PIPED_WIDTH = 120  # where there is no terminal to ask and no COLUMNS


def result_console() -> Console:
    """Return the console of results: coloured on a terminal, plain text when piped."""
    return _console(stderr=False)


def log_console() -> Console:
    """Return the console of log and progress."""
    return _console(stderr=True)


def show(print_on: Callable[[Console], None]) -> None:
    """Print on stdout, and ignore that the reader of a pipe went away (`| head`).

    rich would answer a broken pipe with exit status 1, which here means that the models differ.

    Args:
        print_on: prints the result on the console that it is given.
    """
    console = result_console()
    with console.capture() as capture:
        print_on(console)
    try:
        sys.stdout.write(capture.get())
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    piped = not stream.isatty() and "COLUMNS" not in os.environ
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=PIPED_WIDTH if piped else None)
