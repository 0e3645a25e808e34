"""Memory files without a name (memfd), which another process of this host and user can map. None outlives its users."""

from __future__ import annotations

import fcntl
import os
import secrets

NONCE_BYTES = 16


def create(name: str) -> int:
    """Create an empty memory file and return its descriptor.

    Raises:
        OSError: This system has no memfd.
    """
    if not hasattr(os, "memfd_create"):
        raise OSError("this system has no memfd")
    return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def fix_size(descriptor: int) -> None:
    """Seal a memory file against changes of its size, so that no peer can make an access to a mapping end in SIGBUS."""
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)


def has_fixed_size(descriptor: int) -> bool:
    """Return True where nobody can shorten the memory file."""
    return bool(fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)


def new_nonce() -> bytes:
    """Return NONCE_BYTES random bytes, by which a peer recognises the right memory."""
    return secrets.token_bytes(NONCE_BYTES)


def holds_nonce(descriptor: int, nonce: bytes, offset: int = 0) -> bool:
    """Return True where the whole nonce stands at this offset of the memory file."""
    return len(nonce) == NONCE_BYTES and secrets.compare_digest(os.pread(descriptor, NONCE_BYTES, offset), nonce)


def open_of(pid: int, descriptor: int, name: str, flags: int) -> int:
    """Open a memory file that another process holds.

    Args:
        pid: The other process's id.
        descriptor: The memory file's descriptor in that process.
        name: The name under which the memory file was created.
        flags: O_RDONLY or O_RDWR.

    Raises:
        OSError: The descriptor is no memfd of that name, or this process may not open it.
    """
    path = f"/proc/{pid}/fd/{descriptor}"
    target = os.readlink(path)
    if not target.startswith(f"/memfd:{name} "):
        raise OSError(f"{path} is {target!r}, not a memfd {name!r}")
    return os.open(path, flags | os.O_CLOEXEC)
