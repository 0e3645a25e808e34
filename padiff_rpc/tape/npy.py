"""Write tensors to .npy files from streams, and read them back piece by piece, never the whole tensor in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.tape.json_files import damaged_file
from padiff_rpc.tensors.tensor import CHUNK_BYTES, DType, TensorStream, data_loss

_HEADER_LIMIT_BYTES = 1 << 16
_READ_HEADER = {
    1: npy_format.read_array_header_1_0,
    2: npy_format.read_array_header_2_0,
    3: npy_format.read_array_header_2_0,  # 3.0 only allows more letters in the names of fields, which no tensor has
}
_NATURAL = {
    dtype.storage: dtype for dtype in DType if dtype not in (DType.BF16, DType.F8_E4M3, DType.F8_E5M2)
}  # what an array is where nobody says otherwise


@dataclass(frozen=True)
class NpyFile:
    """A .npy file whose header has been read and fits its size.

    Attributes:
        path: the file.
        stored: the element type, of either byte order.
        shape: the shape of the array.
        column_major: True if the elements lie in column-major order.
        offset: the number of bytes before the elements.
    """

    path: Path
    stored: np.dtype
    shape: tuple[int, ...]
    column_major: bool
    offset: int

    @property
    def dtype(self) -> DType:
        """The element type, unless the dump says that these integers are the bits of bfloat16 or float8."""
        return _NATURAL[self.stored.newbyteorder("<")]

    def part(self, at: int) -> NpyFile:
        """Return what lies at a place of the array's first axis.

        Raises:
            PadiffError: NOT_SUPPORTED for an array in column-major order, whose parts are scattered.
        """
        if self.column_major and len(self.shape) > 1:
            raise PadiffError(
                f"{str(self.path)!r} lies in column-major order, and cannot be read in parts",
                reason=Reason.NOT_SUPPORTED,
                hint="save it in row-major order (numpy.ascontiguousarray)",
            )
        shape = self.shape[1:]
        return replace(self, shape=shape, offset=self.offset + at * math.prod(shape) * self.stored.itemsize)

    def chunks(self) -> Iterator[memoryview]:
        """Yield the elements row-major and little-endian, in pieces of CHUNK_BYTES; raise DATA_LOSS if the file ends early."""
        plain = self.stored.newbyteorder("<") == self.stored and not (self.column_major and len(self.shape) > 1)
        return self._plain_chunks() if plain else self._converted_chunks()

    def _plain_chunks(self) -> Iterator[memoryview]:
        rest = math.prod(self.shape) * self.stored.itemsize
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                while rest:
                    data = file.read(min(CHUNK_BYTES, rest))
                    if not data:
                        raise _damaged(self.path, f"ends {rest} bytes early")
                    rest -= len(data)
                    yield memoryview(data)
        except OSError as err:
            raise _damaged(self.path, f"cannot be read: {err}") from err

    def _converted_chunks(self) -> Iterator[memoryview]:
        if not math.prod(self.shape):
            return
        order = "F" if self.column_major else "C"
        array = np.memmap(self.path, self.stored, "r", self.offset, self.shape, order)
        little = self.stored.newbyteorder("<")
        flat = array.reshape(-1) if array.ndim < 2 else None
        rows = array if flat is None else flat
        row_items = math.prod(rows.shape[1:])
        step = max(CHUNK_BYTES // (row_items * little.itemsize), 1)
        held = bytearray()
        for start in range(0, rows.shape[0], step):
            held += np.ascontiguousarray(rows[start : start + step], little).tobytes()
            while len(held) >= CHUNK_BYTES:
                yield memoryview(bytes(held[:CHUNK_BYTES]))
                del held[:CHUNK_BYTES]
        if held:
            yield memoryview(bytes(held))


def write_npy(path: Path, stream: TensorStream) -> None:
    """Write a tensor as an array of its `dtype.storage`; raise DATA_LOSS if the stream does not have the bytes of its spec."""
    spec = stream.spec
    written = 0
    with path.open("wb") as file:
        header = {"descr": spec.dtype.storage.str, "fortran_order": False, "shape": spec.shape}
        npy_format.write_array_header_1_0(file, header)
        for chunk in stream.chunks:
            written += chunk.nbytes
            if written > spec.size_bytes:
                raise data_loss(stream.name, spec, written)
            file.write(chunk)
    if written != spec.size_bytes:
        raise data_loss(stream.name, spec, written)


def open_npy(path: Path) -> NpyFile:
    """Read the header of a file and compare it with the file's size; raise DATA_LOSS, naming the file, if anything is wrong."""
    try:
        with path.open("rb") as file:
            size_bytes = file.seek(0, 2)
            file.seek(0)
            # NumPy reads as many bytes as a damaged header says that it has, so it is given no more than these.
            start = BytesIO(file.read(_HEADER_LIMIT_BYTES))
    except FileNotFoundError as err:
        raise _damaged(path, "is missing") from err
    except OSError as err:
        raise _damaged(path, f"cannot be read: {err}") from err
    stored, shape, column_major = _read_header(path, start)
    offset = start.tell()
    expected = math.prod(shape) * stored.itemsize
    if size_bytes - offset != expected:
        what = "truncated" if size_bytes - offset < expected else "too long"
        raise _damaged(path, f"is {what}: it holds {size_bytes - offset} bytes of elements, {expected} belong there")
    return NpyFile(path, stored, shape, column_major, offset)


def _read_header(path: Path, start: BinaryIO) -> tuple[np.dtype, tuple[int, ...], bool]:
    try:
        read = _READ_HEADER[npy_format.read_magic(start)[0]]
    except (ValueError, KeyError) as err:
        raise _damaged(path, "is no .npy file") from err
    try:
        shape, column_major, stored = read(start, max_header_size=_HEADER_LIMIT_BYTES)
    except Exception as err:  # of whatever kind: NumPy evaluates what stands there as a Python literal
        raise _damaged(path, f"has a broken header: {err!s:.200}") from err
    if stored.hasobject:
        raise _damaged(path, "holds Python objects, which are never unpickled")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise _damaged(path, f"has a broken header: its shape is {shape!r}")
    if stored.newbyteorder("<") not in _NATURAL:
        raise _damaged(path, f"holds elements of dtype {stored}, which no tensor has")
    return stored, shape, column_major


def _damaged(path: Path, what: str) -> PadiffError:
    return damaged_file(f"the tensor file {str(path)!r} {what}", path, "the dump is damaged: write it again")
