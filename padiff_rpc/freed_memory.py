"""What malloc does with memory that is freed."""

from __future__ import annotations

from functools import cache

_LARGEST_BYTES = (32 << 20) - (64 << 10)


@cache
def keep_freed_memory() -> None:
    """Have glibc's malloc keep freed blocks of MiB for the next ones, in place of giving them back to the system each time.

    Fresh pages cost more than what is done with them: receiving messages of 1 MiB takes 1.5 times as long. glibc learns from the
    largest block that was freed so far (mallopt(3), "dynamic mmap threshold"); this is one, of the largest size that counts.
    None of its pages is touched, the first time. Other allocators are left as they are.
    """
    bytes(_LARGEST_BYTES)
