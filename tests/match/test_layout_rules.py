"""Layout rules: what they do to arrays, and which shapes they refuse. Dtype conversion on the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.match.layout_rules import RULES
from padiff_rpc.tensors.convert_dtype import convert, convert_stream, convertible, count_overflow
from padiff_rpc.tensors.tensor import CHUNK_BYTES, DType, TensorSpec
from tests.compare.streams import cut, tensor


def numbered(*shape: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + int(np.prod(shape)), dtype=np.float32).reshape(shape)


def apply(rule: str, arrays: list[np.ndarray], shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    assert RULES[rule].fits([array.shape for array in arrays], shapes)
    return RULES[rule].transform(arrays, shapes)


def test_identity_keeps_everything() -> None:
    array = numbered(2, 3)
    assert apply("identity", [array], [(2, 3)])[0] is array


def test_transpose_swaps_the_axes_of_a_square_matrix_too() -> None:
    np.testing.assert_array_equal(np.array([[0, 2], [1, 3]]), apply("transpose", [numbered(2, 2)], [(2, 2)])[0])


def test_reshape_adds_and_drops_ones_and_flattens() -> None:
    assert apply("reshape", [numbered(5)], [(1, 5)])[0].shape == (1, 5)
    np.testing.assert_array_equal(np.arange(12), apply("reshape", [numbered(3, 4)], [(12,)])[0])


@pytest.mark.parametrize(("split", "pack"), [("split", "pack"), ("split_transpose", "transpose_pack")])
def test_splitting_and_packing_undo_each_other(split: str, pack: str) -> None:
    packed = numbered(12, 4)
    parts = apply(split, [packed], [(4, 4)] * 3)
    np.testing.assert_array_equal(packed, apply(pack, parts, [(12, 4)])[0])


def test_split_transpose_gives_q_k_and_v_in_this_order_each_transposed() -> None:
    packed = numbered(6, 3)
    q, k, v = apply("split_transpose", [packed], [(3, 2)] * 3)
    np.testing.assert_array_equal(packed[0:2].T, q)
    np.testing.assert_array_equal(packed[2:4].T, k)
    np.testing.assert_array_equal(packed[4:6].T, v)


def test_split_serves_the_packed_bias() -> None:
    parts = apply("split", [numbered(6)], [(2,)] * 3)
    assert [part.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]


def test_storage_of_bfloat16_passes_bit_by_bit() -> None:
    bits = np.array([[0x7FC1, 0xFF80, 0x0001]], np.uint16)
    result = apply("transpose", [bits], [(3, 1)])[0]
    assert (result.dtype, result.reshape(-1).tolist()) == (np.uint16, [0x7FC1, 0xFF80, 0x0001])


@pytest.mark.parametrize(
    ("rule", "base", "raw"),
    [
        ("identity", [(2, 3)], [(3, 2)]),
        ("identity", [(6,)], [(2, 3)]),
        ("transpose", [(2, 3)], [(2, 3)]),
        ("transpose", [(2, 3, 4)], [(4, 3, 2)]),
        ("reshape", [(3, 4)], [(4, 3)]),
        ("reshape", [(3, 4)], [(2, 6)]),
        ("reshape", [(3, 4)], [(13,)]),
        ("reshape", [(4, 3, 2)], [(3, 8)]),
        ("reshape", [(4, 6)], [(8, 3)]),
        ("reshape", [(4, 0, 2)], [(0, 4)]),
        ("split", [(7, 2)], [(2, 2)] * 3),
        ("split", [(6, 2)], [(3, 2)] * 3),
        ("split_transpose", [(6, 3)], [(2, 3)] * 3),
        ("pack", [(2, 3), (2, 4)], [(4, 3)]),
        ("pack", [(2, 3), (2, 3)], [(3, 4)]),
        ("transpose_pack", [(3, 2)] * 3, [(9, 2)]),
    ],
)
def test_a_rule_refuses_shapes_that_it_does_not_make(
    rule: str, base: list[tuple[int, ...]], raw: list[tuple[int, ...]]
) -> None:
    assert RULES[rule].fits(base, raw) is False


def bits(value: int) -> float:
    """A bfloat16 bit pattern as the float that it stands for."""
    return float(np.array([value << 16], np.uint32).view(np.float32)[0])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, 0x3F80),
        (1.0 + 2**-8, 0x3F80),  # half way: to even, down
        (1.0 + 3 * 2**-8, 0x3F82),  # half way: to even, up
        (1.0 + 2**-8 + 2**-40, 0x3F81),  # just above half way: float32 alone would not see it
        (1.0 + 3 * 2**-8 - 2**-40, 0x3F81),
        (-1.0 - 2**-8 - 2**-40, 0xBF81),
        (0.0, 0x0000),
        (-0.0, 0x8000),
        (1e-60, 0x0000),
        (3.3895e38, 0x7F7F),
        (3.4e38, 0x7F80),
        (1e300, 0x7F80),
        (-1e300, 0xFF80),
        (float("inf"), 0x7F80),
        (float("-inf"), 0xFF80),
    ],
)
def test_float64_is_rounded_once_to_bfloat16_nearest_even(value: float, expected: int) -> None:
    result = convert(np.array([value]), DType.F64, DType.BF16)
    assert (result.dtype, int(result[0])) == (np.uint16, expected)


def test_nan_stays_nan_in_bfloat16_whatever_its_payload() -> None:
    payloads = np.array([0x7F800001, 0x7FFFFFFF, 0xFFC00000], np.uint32).view(np.float32)
    result = convert(payloads, DType.F32, DType.BF16)
    assert [(int(value) & 0x7F80, bool(int(value) & 0x7F)) for value in result] == [(0x7F80, True)] * 3


def test_every_bfloat16_survives_the_way_to_float32_and_back() -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    every = every[~((every & 0x7F80 == 0x7F80) & (every & 0x7F != 0))]  # NaNs apart
    wide = convert(every, DType.BF16, DType.F32)
    np.testing.assert_array_equal((every.astype(np.uint32) << 16).view(np.float32), wide)
    np.testing.assert_array_equal(every, convert(wide, DType.F32, DType.BF16))


def test_floats_round_to_nearest_even_in_every_direction() -> None:
    third = np.array([[1 / 3, 2 / 3]])
    assert convert(third, DType.F64, DType.F32).tolist() == third.astype(np.float32).tolist()
    assert convert(third, DType.F64, DType.F16).tolist() == third.astype(np.float16).tolist()
    assert convert(third.astype(np.float32), DType.F32, DType.F64).dtype == np.float64


def test_overflow_is_counted_and_infinities_that_were_there_are_not() -> None:
    values = np.array([1.0, 1e6, -1e6, np.inf, np.nan])
    narrow = convert(values, DType.F64, DType.F16)
    assert count_overflow(values, DType.F64, narrow, DType.F16) == 2


@pytest.mark.parametrize("chunk_bytes", [999, 1 << 15, CHUNK_BYTES, CHUNK_BYTES + 2])
def test_a_stream_is_converted_however_its_chunks_are_cut(chunk_bytes: int) -> None:
    values = np.random.default_rng(3).normal(size=(3, CHUNK_BYTES // 8 + 5)) * 1e5
    heard: list[int] = []
    came = convert_stream(cut(tensor(values), chunk_bytes), DType.F16, heard.append).collect()
    expected = convert(values, DType.F64, DType.F16)
    np.testing.assert_array_equal(expected, came.to_array())
    assert count_overflow(values, DType.F64, expected, DType.F16) == sum(heard) > 0


@pytest.mark.parametrize("count", [1, 1000, CHUNK_BYTES])
@pytest.mark.parametrize("change_bytes", [-4, -1, 1, 4])
def test_a_stream_that_ends_within_an_element_or_has_another_length_is_data_loss(count: int, change_bytes: int) -> None:
    size_bytes = 4 * count
    stream = cut(tensor(np.zeros(size_bytes + change_bytes, np.uint8)), 999, "torn")
    stream = replace(stream, spec=TensorSpec(DType.F32, (count,)))
    expected = f"'torn' of F32\\[{count}\\] takes {size_bytes} bytes, its stream brought {size_bytes + change_bytes}"
    with pytest.raises(PadiffError, match=expected) as error:
        convert_stream(stream, DType.F64, lambda count: None).collect()
    assert Reason.DATA_LOSS is error.value.reason


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (DType.F32, DType.BF16, True),
        (DType.BF16, DType.F64, True),
        (DType.F8_E4M3, DType.F32, True),
        (DType.F32, DType.F8_E4M3, False),
        (DType.I32, DType.I64, True),
        (DType.I64, DType.I32, False),
        (DType.BOOL, DType.U8, True),
        (DType.I64, DType.F32, False),
        (DType.F32, DType.I64, False),
        (DType.C64, DType.F32, False),
        (DType.BF16, DType.U16, False),
    ],
)
def test_what_may_be_converted(source: DType, target: DType, expected: bool) -> None:
    assert convertible(source, target) is expected
