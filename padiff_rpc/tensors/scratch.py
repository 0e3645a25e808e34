"""Memory for temporaries that every thread keeps: touching fresh pages costs more than the computation in them."""

from __future__ import annotations

import threading

import numpy as np

_kept = threading.local()


def scratch(name: str, items: int, dtype: type[np.generic] = np.float64) -> np.ndarray:
    """Return an array of `items` elements under a name, with arbitrary values.

    The same thread gets the same memory under this name again, unless it must grow. A user of a name must have finished
    with the array before the same thread asks for the name again.
    """
    arrays: dict[str, np.ndarray] = _kept.__dict__
    array = arrays.get(name)
    if array is None or array.size < items:
        array = arrays[name] = np.empty(items, dtype)
    return array[:items]
