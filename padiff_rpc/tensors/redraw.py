"""Tell whether a draw made a dropout's output, and make the same draw at another scale."""

from __future__ import annotations

import numpy as np

from padiff_rpc.tensors.float64 import BLOCK_ITEMS, to_float64
from padiff_rpc.tensors.tensor import DType, Tensor


def redraw(drawn: Tensor, scale: float, dtype: DType) -> Tensor:
    """Return `scale` where something was drawn and 0 where it was dropped.

    Args:
        drawn: is what was drawn.
        scale: is what the other side multiplies by what it keeps.
        dtype: is the other side's type. The result is of float64 for float64 and of float32 for any other, which holds its scale.
    """
    wide = DType.F64 if dtype is DType.F64 else DType.F32
    kept = to_float64(np.frombuffer(drawn.data, drawn.spec.dtype.storage), drawn.spec.dtype) != 0
    return Tensor.from_array((kept * scale).astype(wide.storage).reshape(drawn.spec.shape), wide)


def explains(drawn: np.ndarray, taken: np.ndarray, output: np.ndarray, dtype: DType) -> bool:
    """Tell whether an output is what was taken times what was drawn, but for rounding; all as bytes of one type."""
    loose = {2: 2.0**-6, 4: 2.0**-20, 8: 2.0**-48}.get(dtype.item_bytes, 0.0)
    flat = [array.view(dtype.storage) for array in (drawn, taken, output)]
    if len({array.size for array in flat}) != 1:
        return False
    for at in range(0, flat[0].size, BLOCK_ITEMS):
        factors, x, out = (to_float64(array[at : at + BLOCK_ITEMS], dtype) for array in flat)
        with np.errstate(all="ignore"):
            expected = x * factors
            if (np.abs(out - expected) > loose * np.abs(expected)).any():
                return False
    return True
