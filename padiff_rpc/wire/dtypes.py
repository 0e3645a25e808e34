"""Convert element types between DType and the DType enum of proto/tensor.proto."""

from __future__ import annotations

from typing import Any

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import DType
from padiff_rpc.v1 import tensor_pb2


def dtype_to_proto(dtype: DType) -> tensor_pb2.DType:
    """Return the enum value of an element type."""
    return _TO_PROTO[dtype]


def dtype_from_proto(value: int) -> DType:
    """Return the element type of an enum value.

    Raises:
        PadiffError: BAD_TENSOR if this version does not know the value.
    """
    try:
        return _FROM_PROTO[value]
    except KeyError as err:
        raise PadiffError(
            f"the peer sent a tensor whose element type is number {value!r}, which this side does not know",
            reason=Reason.BAD_TENSOR,
            hint="upgrade padiff-rpc on this side",
        ) from err


_TO_PROTO: dict[DType, Any] = {dtype: tensor_pb2.DType.Value(f"D_TYPE_{dtype.value}") for dtype in DType}
_FROM_PROTO: dict[int, DType] = {int(value): dtype for dtype, value in _TO_PROTO.items()}
