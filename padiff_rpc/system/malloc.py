"""What malloc does with memory that is freed: glibc's; others are left as they are."""

from __future__ import annotations

import ctypes
import logging
import os

log: logging.Logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # mallopt(3)
_BLOCK_BYTES = 32 << 20
_MOST_KEPT_BYTES = (1 << 31) - 1
"""glibc takes no more than these."""


def keep_freed_memory(kept_bytes: int = 64 << 20) -> None:
    """Have this process keep freed blocks of up to 32 MiB for the next ones, in place of giving them back to the system.

    `kept_bytes`: how much may lie free at the end of the heap; what lies free between blocks in use stays anyway. By default as
    much as glibc comes to by itself. Where the environment sets what is set here (mallopt(3)) that holds.

    Fresh pages cost more than what is done with them: receiving messages of 1 MiB takes 1.5 times as long, a model's step up to a
    tenth more. All threads share one heap, since each that has its own keeps as much again. For a program that has the process
    to itself, at its start.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    for variable, option, value in (
        ("MALLOC_ARENA_MAX", _M_ARENA_MAX, 1),
        ("MALLOC_MMAP_THRESHOLD_", _M_MMAP_THRESHOLD, _BLOCK_BYTES),
        ("MALLOC_TRIM_THRESHOLD_", _M_TRIM_THRESHOLD, min(kept_bytes, _MOST_KEPT_BYTES)),
    ):
        tunable = variable.removeprefix("MALLOC_").rstrip("_").lower()
        if variable not in os.environ and f"glibc.malloc.{tunable}" not in tunables:
            _call_glibc("mallopt", option, value)


def give_back_freed_memory() -> None:
    """Give the system all that lies free in this process now."""
    _call_glibc("malloc_trim", 0)


def _call_glibc(name: str, *arguments: int) -> None:
    """Call a function of glibc's malloc, where that is the one here."""
    try:
        getattr(ctypes.CDLL(None), name)(*arguments)
    except (AttributeError, OSError, TypeError) as err:  # no glibc; TypeError on Windows
        log.debug("this malloc does what it likes: %s", err)
