"""What malloc does with memory that is freed: glibc's; others are left as they are."""

from __future__ import annotations

import ctypes
import logging

log = logging.getLogger(__name__)

_M_ARENA_MAX = -8  # mallopt(3)
_ARENAS = 2
_LARGEST_BYTES = (8 << 20) - (64 << 10)


def keep_freed_memory() -> None:
    """Have this process keep freed blocks of a few MiB for the next ones, in place of giving them back to the system each time.

    Fresh pages cost more than what is done with them: receiving messages of 1 MiB takes 1.5 times as long. glibc learns from the
    largest block that was freed so far (mallopt(3), "dynamic mmap threshold"); this is one, none of whose pages is touched. It
    keeps twice as much in each arena, of which there are to be few, since a thread's own outlives it. For a program that has the
    process to itself, at its start.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)
    except (AttributeError, OSError, TypeError) as err:  # no glibc; TypeError on Windows
        log.debug("this malloc keeps what it likes: %s", err)
    bytes(_LARGEST_BYTES)
