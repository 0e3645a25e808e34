"""What a store may take where nobody says so: shares of what this machine has."""

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
    """Return a sixteenth of the memory that this process may use, and at least 256 MiB, at most 4 GiB."""
    least, most = MEMORY_RANGE_BYTES
    return min(max(memory_bytes() // MEMORY_SHARE, least), most)


def default_disk_bytes() -> int:
    """Return a quarter of what is free now where the spill file would lie, and at most 64 GiB; 0 where it cannot lie."""
    try:
        free_bytes = shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:  # no folder for temporary files, or none that can be looked at
        return 0
    return min(free_bytes // DISK_SHARE, DISK_MOST_BYTES)


def memory_bytes(system: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> int:
    """Return the machine's memory, or the least limit of the control groups around this process (a container's)."""
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
    """Return a file's text; empty where there is none, or none for us."""
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
