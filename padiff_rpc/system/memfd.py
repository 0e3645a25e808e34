"""Memory in a file without a name, that another process of this host and user can map, too; nothing of it is ever left behind."""

from __future__ import annotations

import fcntl
import os
import secrets

NONCE_BYTES = 16


def create(name: str) -> int:
    """Make one, empty, and return its descriptor. OSError where this system has none."""
    if not hasattr(os, "memfd_create"):
        raise OSError("this system has no memfd")
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def fix_size(descriptor: int) -> None:
    """Have it keep its size: no peer can then make an access to a mapping of it end in SIGBUS."""
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)


def has_fixed_size(descriptor: int) -> bool:
    """Tell whether nobody can make it shorter."""
    return bool(fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)


def new_nonce() -> bytes:
    """Make what a peer is to find in the memory, and nowhere else."""
    return secrets.token_bytes(NONCE_BYTES)


def holds_nonce(descriptor: int, nonce: bytes, offset: int = 0) -> bool:
    """Tell whether this nonce, a whole one, stands there."""
    return len(nonce) == NONCE_BYTES and secrets.compare_digest(os.pread(descriptor, NONCE_BYTES, offset), nonce)


def open_of(pid: int, descriptor: int, name: str, flags: int) -> int:
    """Open what another process has as this descriptor (flags: O_RDONLY, O_RDWR). OSError where that is no memfd of that name, or
    not ours to open."""
    path = f"/proc/{pid}/fd/{descriptor}"
    target = os.readlink(path)
    if not target.startswith(f"/memfd:{name} "):
        raise OSError(f"{path} is {target!r}, not a memfd {name!r}")
    return os.open(path, flags | os.O_CLOEXEC)
