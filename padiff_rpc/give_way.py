"""Threads that let others have the cores first."""

from __future__ import annotations

import os
import sys
import threading

NICENESS = 10
"""About a tenth of a core beside a thread that wants all of it; all of a core that nobody else wants."""


def give_way() -> None:
    """Lower the priority of the calling thread for good, where the system has one for each thread."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
