"""Default budgets of a store: shares of this machine's memory and disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath

MEMORY_SHARE = 16
MEMORY_RANGE_BYTES = (256 << 20, 4 << 30)
DISK_SHARE = 4
DISK_MOST_BYTES = 64 << 30


def default_memory_bytes() -> int:
    """Return a sixteenth of the memory that this process may use, but at least 256 MiB and at most 4 GiB."""
    least, most = MEMORY_RANGE_BYTES
    return min(max(memory_bytes() // MEMORY_SHARE, least), most)


def default_disk_bytes() -> int:
    """Return a quarter of the space that is free now in the folder of the spill file, but at most 64 GiB.

    0 where there is no such folder, or where it cannot be examined.
    """
    try:
        free_bytes = shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:  # no folder for temporary files, or none that can be looked at
        return 0
    return min(free_bytes // DISK_SHARE, DISK_MOST_BYTES)


def memory_bytes(system: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> int:
    """Return the machine's memory, or the smallest limit of the control groups around this process (a container's).

    Args:
        system: The folder where the control groups are mounted.
        process: The file that lists the control groups of this process.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for line in _read(process).splitlines():
        _, controllers, group = line.split(":", 2)
        root, name = (system / "memory", "memory.limit_in_bytes") if "memory" in controllers else (system, "memory.max")
        if controllers and "memory" not in controllers:
            continue  # another controller of version 1
        path = PurePosixPath(group.lstrip("/"))
        for folder in (path, *path.parents):
            text = _read(root / folder / name).strip()
            if text.isdecimal():  # "max" where there is none
                limits.append(int(text))
    return min(limits)


def _read(path: Path) -> str:
    """Return a file's text; empty where the file does not exist or cannot be read."""
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
