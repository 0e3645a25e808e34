"""What malloc does with memory that is freed: glibc's; others are left as they are."""

from __future__ import annotations

import ctypes
import logging
import os

log = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # mallopt(3)
_MOST_BLOCK_BYTES = 32 << 20
_MOST_KEPT_BYTES = (1 << 31) - 1
"""glibc takes no more than these."""


def keep_freed_memory(block_bytes: int = 32 << 20, kept_bytes: int = 64 << 20) -> None:
    """Have this process keep freed blocks of up to `block_bytes` for the next ones, in place of giving them back to the system.

    `kept_bytes`: how much may lie free at the end of the heap; what lies free between blocks in use stays anyway. The defaults
    are the most that glibc comes to by itself. Where the environment sets one of these (mallopt(3)) that holds.

    Fresh pages cost more than what is done with them: receiving messages of 1 MiB takes 1.5 times as long, a model's step up to a
    tenth more. All threads share one heap, since each that has its own keeps as much again. For a program that has the process
    to itself, at its start.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError) as err:  # no glibc; TypeError on Windows
        log.debug("this malloc keeps what it likes: %s", err)
        return
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    for variable, tunable, option, value in (
        ("MALLOC_ARENA_MAX", "glibc.malloc.arena_max", _M_ARENA_MAX, 1),
        (
            "MALLOC_MMAP_THRESHOLD_",
            "glibc.malloc.mmap_threshold",
            _M_MMAP_THRESHOLD,
            min(block_bytes, _MOST_BLOCK_BYTES),
        ),
        ("MALLOC_TRIM_THRESHOLD_", "glibc.malloc.trim_threshold", _M_TRIM_THRESHOLD, min(kept_bytes, _MOST_KEPT_BYTES)),
    ):
        if variable not in os.environ and tunable not in tunables:
            mallopt(option, value)


def give_back_freed_memory() -> None:
    """Give the system all that lies free in this process now."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError) as err:  # no glibc, as above
        log.debug("this malloc gives back what it likes: %s", err)
