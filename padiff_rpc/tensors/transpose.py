"""Read a matrix as its transpose, block by block, in memory of one chunk."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tensors.tensor import CHUNK_BYTES, TensorSpec

_TILE_ROWS = 256
"""The number of the matrix's rows that are read together: their part of a block stays in a core's cache."""


def transposed_spec(name: str, spec: TensorSpec) -> TensorSpec:
    """Return the header of a matrix's transpose.

    Args:
        name: The matrix's name, for the error.
        spec: The matrix's dtype and shape.

    Raises:
        PadiffError: BAD_TENSOR for a tensor that does not have two dimensions.
    """
    if len(spec.shape) != 2:
        raise PadiffError(
            f"{name!r} is {spec}: only a matrix has a transpose", reason=Reason.BAD_TENSOR, metadata={"parameter": name}
        )
    return TensorSpec(spec.dtype, spec.shape[::-1])


def transposed_chunks(matrix: np.ndarray) -> Iterator[memoryview]:
    """Yield the bytes of a matrix's transpose, row-major, in pieces of CHUNK_BYTES, each valid until the next."""
    items = CHUNK_BYTES // matrix.itemsize
    buffer = np.empty(min(items, matrix.size), matrix.dtype)
    for start in range(0, matrix.size, items):
        out = buffer[: min(items, matrix.size - start)]
        _fill(out, matrix, start)
        yield out.view(np.uint8).data.toreadonly()


def _fill(out: np.ndarray, matrix: np.ndarray, start: int) -> None:
    """Fill `out` with the transpose's elements, beginning at the transpose's flat index `start`."""
    rows = matrix.shape[0]
    at = 0
    while at < out.size:
        column, row = divmod(start + at, rows)
        if row or out.size - at < rows:  # a part of one column
            count = min(rows - row, out.size - at)
            out[at : at + count] = matrix[row : row + count, column]
        else:
            columns = (out.size - at) // rows
            count = columns * rows
            block = out[at : at + count].reshape(columns, rows)
            for top in range(0, rows, _TILE_ROWS):
                tile = slice(top, top + _TILE_ROWS)
                block[:, tile] = matrix[tile, column : column + columns].T
        at += count
