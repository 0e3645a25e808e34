"""Make of what one side's dropout has drawn the same draw at another side's scale."""

from __future__ import annotations

import numpy as np

from padiff_rpc.tensors.float64 import to_float64
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
