"""What processes hold in memory and write to disk, and what the machine has, from /proc."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def resident_bytes(pid: int | None = None) -> int:
    """Resident memory of a process, this one by default."""
    return _status(pid, "VmRSS")


def peak_bytes(pid: int | None = None) -> int:
    """The most that has been resident since the process began."""
    return _status(pid, "VmHWM")


def machine_bytes() -> int:
    """All memory of this machine."""
    return _field(Path("/proc/meminfo"), "MemTotal")


def written_bytes(pid: int) -> int:
    """What a process has sent to disks so far; memory file systems do not count."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise KeyError("write_bytes")


def tree_bytes(pid: int) -> int:
    """Memory of a process and all that descend from it, pages that they share counted once (the sum of their PSS)."""
    return sum(map(_proportional_bytes, _descendants(pid)))


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                # The name in brackets may hold anything; the parent is the second field after it.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _proportional_bytes(pid: int) -> int:
    with contextlib.suppress(OSError, KeyError):  # it has ended, or is ending and has no memory any more
        return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss")
    return 0


def _status(pid: int | None, name: str) -> int:
    return _field(Path(f"/proc/{os.getpid() if pid is None else pid}/status"), name)


def _field(path: Path, name: str) -> int:
    """Read a line such as `VmHWM:   1234 kB`."""
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise KeyError(f"{path} has no {name}")
