"""Memory of processes and of the machine, from /proc."""

from __future__ import annotations

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


def _status(pid: int | None, name: str) -> int:
    return _field(Path(f"/proc/{os.getpid() if pid is None else pid}/status"), name)


def _field(path: Path, name: str) -> int:
    """Read a line such as `VmHWM:   1234 kB`."""
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise KeyError(f"{path} has no {name}")
