"""Element types on the wire."""

from __future__ import annotations

import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import DType
from padiff_rpc.v1 import tensor_pb2
from padiff_rpc.wire.dtypes import dtype_from_proto, dtype_to_proto


@pytest.mark.parametrize("dtype", list(DType))
def test_every_dtype_has_its_own_number_and_comes_back(dtype: DType) -> None:
    assert f"D_TYPE_{dtype.value}" == tensor_pb2.DType.Name(dtype_to_proto(dtype))
    assert dtype is dtype_from_proto(dtype_to_proto(dtype))


@pytest.mark.parametrize("number", [0, 99])
def test_an_unknown_number_is_refused(number: int) -> None:
    with pytest.raises(PadiffError, match=str(number)) as caught:
        dtype_from_proto(number)
    assert Reason.BAD_TENSOR is caught.value.reason
