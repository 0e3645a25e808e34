"""Set how glibc's malloc treats freed memory. Under another malloc every call here does nothing."""

from __future__ import annotations

import ctypes
import logging
import os

log: logging.Logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # mallopt(3)
_BLOCK_BYTES = 32 << 20
_MOST_KEPT_BYTES = (1 << 31) - 1
"""The largest number of bytes that glibc's mallopt(3) takes."""


def keep_freed_memory(kept_bytes: int = 64 << 20) -> None:
    """Have this process keep freed blocks of up to 32 MiB for reuse, instead of returning them to the system.

    Fresh pages cost more than the work that is done in them: without this, receiving messages of 1 MiB takes 1.5 times as long,
    and a model's step up to a tenth more. All threads then share one heap, since a thread with its own heap keeps as much
    again. A program that has the process to itself calls this at its start. A setting that the environment makes (see
    mallopt(3)) takes precedence.

    Args:
        kept_bytes: The most bytes that may lie free at the end of the heap; free memory between blocks in use stays in any
            case. The default is the value that glibc reaches by itself.
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
    """Return to the system all memory that is free in this process now."""
    _call_glibc("malloc_trim", 0)


def _call_glibc(name: str, *arguments: int) -> None:
    """Call a function of glibc's malloc; do nothing where this process has another malloc."""
    try:
        getattr(ctypes.CDLL(None), name)(*arguments)
    except (AttributeError, OSError, TypeError) as err:  # no glibc; TypeError on Windows
        log.debug("this malloc does what it likes: %s", err)
