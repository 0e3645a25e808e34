"""Memory for temporaries that every thread keeps: touching fresh pages costs more than what is computed in them."""

from __future__ import annotations

import threading

import numpy as np

_kept = threading.local()


def scratch(name: str, items: int, dtype: type[np.generic] = np.float64) -> np.ndarray:
    """Return an array of `items` elements that this thread had under this name before, or a new one; its values are anything.

    Whoever takes a name must be through with it before the same thread takes it again.
    """
    arrays: dict[str, np.ndarray] = _kept.__dict__
    array = arrays.get(name)
    if array is None or array.size < items:
        array = arrays[name] = np.empty(items, dtype)
    return array[:items]
