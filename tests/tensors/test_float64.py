"""Element types to float64."""

from __future__ import annotations

import numpy as np
import pytest

from padiff_rpc.tensors.float64 import to_float64
from padiff_rpc.tensors.tensor import DType

# Bit patterns whose values are known from the formats' definitions.
KNOWN = {
    DType.BF16: {0x3F80: 1.0, 0xC000: -2.0, 0x0001: 2.0**-133, 0x7F80: np.inf, 0x7FC0: np.nan, 0x4049: 3.140625},
    DType.F8_E4M3: {0x38: 1.0, 0xB8: -1.0, 0x7E: 448.0, 0x7F: np.nan, 0xFF: np.nan, 0x01: 2.0**-9, 0x08: 2.0**-6},
    DType.F8_E5M2: {0x3C: 1.0, 0x7B: 57344.0, 0x7C: np.inf, 0xFC: -np.inf, 0x7D: np.nan, 0x01: 2.0**-16},
}


@pytest.mark.parametrize("dtype", KNOWN)
@pytest.mark.parametrize("given_out", [False, True])
def test_bits_decode_to_their_values(dtype: DType, given_out: bool) -> None:
    block = np.array(list(KNOWN[dtype]), dtype=dtype.storage)
    out = np.full(20, -7.0) if given_out else None
    found = to_float64(block, dtype, out)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, list(KNOWN[dtype].values()))
    if out is not None:
        assert np.shares_memory(found, out)
        assert (out[block.size :] == -7.0).all()


@pytest.mark.parametrize("dtype", [DType.BOOL, DType.U8, DType.I64, DType.F16, DType.F32, DType.F64])
def test_numpys_own_types_are_widened(dtype: DType) -> None:
    found = to_float64(np.array([0, 1, 1], dtype=dtype.storage), dtype, np.empty(3))
    assert found.tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("dtype", [DType.C64, DType.C128])
def test_complex_yields_real_and_imaginary_parts(dtype: DType) -> None:
    found = to_float64(np.array([1 + 2j, -3 - 4j], dtype=dtype.storage), dtype, np.empty(4))
    assert found.tolist() == [1.0, 2.0, -3.0, -4.0]
