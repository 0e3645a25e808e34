"""Let SIGTERM end a command as Ctrl-C does: what lies on disk for a while is removed, and launched workers end."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

TERMINATED = 128 + signal.SIGTERM  # as shells have it


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Exit with status 143 on SIGTERM within the block, so that every `finally` runs.

    In another thread than the main one it does nothing, since only the main thread receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(TERMINATED)
