"""A warm memcpy, the measure of everything that moves bytes."""

from __future__ import annotations

import time
from functools import cache

import numpy as np


def memcpy_s(size_bytes: int) -> float:
    """Return the seconds for one copy between two arrays of that size, just after another one."""
    source, target = _arrays(size_bytes)
    np.copyto(target, source)
    begun = time.monotonic()
    np.copyto(target, source)
    return time.monotonic() - begun


@cache
def _arrays(size_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Make them once: touching fresh pages takes ten times as long as copying."""
    return np.ones(size_bytes, np.uint8), np.zeros(size_bytes, np.uint8)
