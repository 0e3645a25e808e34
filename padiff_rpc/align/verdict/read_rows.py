"""Read a tensor as float64, or of a large one so many rows, evenly spread, that they fit a bound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from padiff_rpc.tensors.float64 import to_float64
from padiff_rpc.tensors.tensor import TensorSpec, TensorStream

_MOST_BYTES = 32 << 20
"""What is kept of one tensor, as float64."""


@dataclass(frozen=True)
class Rows:
    """Which rows are kept: every so-and-so-many of the tensors whose first axis is that long.

    Attributes:
        length: is the length of the first axis.
        every: is 1 where all rows are kept.
    """

    length: int
    every: int

    @classmethod
    def of(cls, spec: TensorSpec) -> Rows:
        """Return the rows that keep a tensor of this spec within the bound."""
        if not spec.shape:
            return cls(1, 1)
        return cls(spec.shape[0], max(1, math.ceil(spec.count * 8 / _MOST_BYTES)))

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Return these rows of an array whose first axis is as long."""
        return array[:: self.every] if array.ndim and array.shape[0] == self.length else array


def read_rows(stream: TensorStream, rows: Rows) -> np.ndarray:
    """Read these rows of a stream as float64; of a tensor with another first axis, what keeps it within the bound.

    A complex tensor comes as its parts, with a last axis of two.
    """
    spec = stream.spec
    every = max(rows.every if spec.shape and spec.shape[0] == rows.length else 1, Rows.of(spec).every)
    kept = _kept_bytes(stream, every)
    length = -(-spec.shape[0] // every) if spec.shape else 0
    shape = (length, *spec.shape[1:]) if spec.shape else ()
    values = to_float64(np.frombuffer(kept, dtype=spec.dtype.storage), spec.dtype)
    return np.array(values).reshape((*shape, 2) if spec.dtype.is_complex else shape)


def _kept_bytes(stream: TensorStream, every: int) -> bytearray:
    """Take every so-and-so-many rows out of the chunks as they come."""
    if every == 1:
        return bytearray(stream.collect().data)
    row_bytes = stream.spec.size_bytes // stream.spec.shape[0]
    kept = bytearray()
    at = 0
    for chunk in stream.chunks:
        view = chunk.cast("B")
        start = 0
        while start < view.nbytes:
            row, within = divmod(at + start, row_bytes)
            size = min(row_bytes - within, view.nbytes - start)
            if row % every == 0:
                kept += view[start : start + size]
            start += size
        at += view.nbytes
    return kept
