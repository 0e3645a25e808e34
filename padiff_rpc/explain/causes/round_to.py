"""Round float64 values to what a shorter type holds."""

from __future__ import annotations

import numpy as np


def rounded_to(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return the values as float16, bfloat16 or float32 holds them, to the nearest, ties to even."""
    if dtype == "float16":
        return values.astype(np.float16).astype(np.float64)
    single = np.asarray(values, np.float32)
    if dtype == "float32":
        return single.astype(np.float64)
    bits = single.view(np.uint32).astype(np.uint64)
    near = (bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) & np.uint64(0xFFFF0000)
    return near.astype(np.uint32).view(np.float32).astype(np.float64)
