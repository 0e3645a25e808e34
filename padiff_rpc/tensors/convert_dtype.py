"""Convert a tensor's element type on its way from base to raw, rounding to nearest even where the target is narrower."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from padiff_rpc.tensors.blocks import blocks
from padiff_rpc.tensors.float64 import BLOCK_ITEMS, to_float64
from padiff_rpc.tensors.tensor import CHUNK_BYTES, DType, TensorSpec, TensorStream

_HALVES_AND_FLOATS = frozenset({DType.BF16, DType.F16, DType.F32, DType.F64})


def convertible(source: DType, target: DType) -> bool:
    """Return True where convert() takes `source` to `target`.

    It takes equal types, any float to a float of 16 bits or more, and exact widening.
    """
    if source is target:
        return True
    if source.is_floating or target.is_floating:
        return source.is_floating and target in _HALVES_AND_FLOATS
    return bool(np.can_cast(source.storage, target.storage, casting="safe"))


def convert(array: np.ndarray, source: DType, target: DType) -> np.ndarray:
    """Convert an array of `source.storage` to an array of `target.storage`, of the same shape.

    Floats are rounded once, to nearest even. Values beyond the target's range become infinite, and NaN stays NaN.
    The pair of types must be convertible().
    """
    if source is target:
        return array
    if not source.is_floating:
        return array.astype(target.storage)
    flat = np.ascontiguousarray(array).reshape(-1)
    result = np.empty(flat.shape, target.storage)
    for at in range(0, flat.size, BLOCK_ITEMS):
        wide = to_float64(flat[at : at + BLOCK_ITEMS], source)
        # The values that overflow are counted by count_overflow; here they become infinite as IEEE 754 has it.
        with np.errstate(over="ignore", invalid="ignore"):
            result[at : at + BLOCK_ITEMS] = _to_bfloat16(wide) if target is DType.BF16 else wide.astype(target.storage)
    return result.reshape(array.shape)


def convert_stream(stream: TensorStream, target: DType, on_overflow: Callable[[int], None]) -> TensorStream:
    """Return a stream whose elements are converted to `target` piece by piece, as they are read.

    Args:
        stream: The stream to convert; it is returned itself where it has the type `target`.
        target: The new element type. The pair of types must be convertible().
        on_overflow: Receives the number of values in a piece that became infinite, for each piece that has such values.

    Raises:
        PadiffError: DATA_LOSS, while the result is read, where the stream's length is wrong.
    """
    source = stream.spec.dtype
    if source is target:
        return stream

    def chunks() -> Iterator[memoryview]:
        for array in blocks(stream, CHUNK_BYTES // source.item_bytes):
            made = convert(array, source, target)
            if overflow := count_overflow(array, source, made, target):
                on_overflow(overflow)
            yield made.view(np.uint8).data

    return TensorStream(stream.name, TensorSpec(target, stream.spec.shape), chunks())


def count_overflow(before: np.ndarray, source: DType, after: np.ndarray, target: DType) -> int:
    """Count the elements that were finite before a conversion and are infinite after it."""
    if not source.is_floating or source is target:
        return 0
    first, second = np.ascontiguousarray(before).reshape(-1), np.ascontiguousarray(after).reshape(-1)
    count = 0
    for at in range(0, first.size, BLOCK_ITEMS):
        block = slice(at, at + BLOCK_ITEMS)
        wide, narrow = to_float64(first[block], source), to_float64(second[block], target)
        count += int(np.count_nonzero(np.isfinite(wide) & np.isinf(narrow)))
    return count


def _to_bfloat16(wide: np.ndarray) -> np.ndarray:
    """Round float64 to bfloat16 bits (uint16).

    The way leads through float32 rounded to odd, because rounding to nearest twice can miss the nearest (Boldo and
    Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", IEEE Trans. Computers
    2008).
    """
    single = wide.astype(np.float32)
    back = single.astype(np.float64)
    bits = single.view(np.uint32).copy()
    bits -= (np.abs(back) > np.abs(wide)).astype(np.uint32)  # towards zero; from infinity to the greatest finite
    bits |= ((back != wide) & ~np.isnan(wide)).astype(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
    nan = np.isnan(wide)
    # The conversion to float32 has made it a quiet one, whose highest payload bit is among those that are kept.
    rounded[nan] = (bits[nan] >> np.uint32(16)).astype(np.uint16)
    return rounded
