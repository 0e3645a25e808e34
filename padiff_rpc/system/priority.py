"""Lower a thread's priority, so that other threads get the cores first."""

from __future__ import annotations

import logging
import os
import sys
import threading

log: logging.Logger = logging.getLogger(__name__)

NICENESS = 10
"""The added niceness: about a tenth of a core beside a thread that wants all of it, all of a core that nobody else wants."""


def give_way() -> None:
    """Lower the calling thread's priority for good, where the system has a priority for each thread and allows it."""
    if sys.platform != "linux":
        return
    thread = threading.get_native_id()
    try:
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
    except OSError as err:  # a sandbox may refuse it; no more than speed is lost
        log.debug("thread %d keeps its priority: %s", thread, err)
