"""Tensors as the library sees them: a header and raw bytes, whatever framework they came from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from padiff_rpc.errors import PadiffError, Reason

CHUNK_BYTES = 1 << 20
"""The size of the pieces in which tensors travel and are compared; gRPC streams are fastest at 1 MiB."""


class DType(str, Enum):
    """The element types, under the names that safetensors gives them."""

    BOOL = "BOOL"
    U8 = "U8"
    I8 = "I8"
    U16 = "U16"
    I16 = "I16"
    U32 = "U32"
    I32 = "I32"
    U64 = "U64"
    I64 = "I64"
    F8_E4M3 = "F8_E4M3"
    F8_E5M2 = "F8_E5M2"
    BF16 = "BF16"
    F16 = "F16"
    F32 = "F32"
    F64 = "F64"
    C64 = "C64"
    C128 = "C128"

    @property
    def storage(self) -> np.dtype:
        """The NumPy dtype that holds the bytes: the type itself, or unsigned integers for bfloat16 and float8."""
        return _STORAGE[self]

    @property
    def item_bytes(self) -> int:
        """The size of one element in bytes."""
        return _STORAGE[self].itemsize

    @property
    def is_floating(self) -> bool:
        """True for real floating-point types, float8 and bfloat16 included."""
        return self in _FLOATING

    @property
    def is_complex(self) -> bool:
        """True for complex64 and complex128."""
        return self in (DType.C64, DType.C128)


_STORAGE = {
    DType.BOOL: np.dtype("?"),
    DType.U8: np.dtype("u1"),
    DType.I8: np.dtype("i1"),
    DType.U16: np.dtype("<u2"),
    DType.I16: np.dtype("<i2"),
    DType.U32: np.dtype("<u4"),
    DType.I32: np.dtype("<i4"),
    DType.U64: np.dtype("<u8"),
    DType.I64: np.dtype("<i8"),
    DType.F8_E4M3: np.dtype("u1"),
    DType.F8_E5M2: np.dtype("u1"),
    DType.BF16: np.dtype("<u2"),
    DType.F16: np.dtype("<f2"),
    DType.F32: np.dtype("<f4"),
    DType.F64: np.dtype("<f8"),
    DType.C64: np.dtype("<c8"),
    DType.C128: np.dtype("<c16"),
}
_FLOATING = frozenset({DType.F8_E4M3, DType.F8_E5M2, DType.BF16, DType.F16, DType.F32, DType.F64})
_FROM_NUMPY = {
    storage: dtype for dtype, storage in _STORAGE.items() if dtype not in (DType.F8_E4M3, DType.F8_E5M2, DType.BF16)
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's header: its dtype and shape. The bytes are row-major and little-endian, without padding."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """The number of elements; 1 for a 0-d tensor."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """The size of the whole tensor in bytes."""
        return self.count * self.dtype.item_bytes

    def __str__(self) -> str:
        return f"{self.dtype.value}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Tensor:
    """A whole tensor: its header and its bytes.

    Attributes:
        spec: The dtype and the shape.
        data: `spec.size_bytes` bytes.

    Raises:
        PadiffError: BAD_TENSOR where the bytes do not fill the spec exactly.
    """

    spec: TensorSpec
    data: memoryview

    def __post_init__(self) -> None:
        if self.data.nbytes != self.spec.size_bytes:
            raise PadiffError(
                f"a tensor of {self.spec} takes {self.spec.size_bytes} bytes, got {self.data.nbytes}",
                reason=Reason.BAD_TENSOR,
            )

    @classmethod
    def from_array(cls, array: np.ndarray, dtype: DType | None = None) -> Tensor:
        """Wrap a NumPy array, which is copied where it is not contiguous and little-endian.

        Args:
            array: The elements; its shape is the tensor's shape.
            dtype: The element type where NumPy has none: BF16 for a uint16 array, F8_* for a uint8 array. None takes
                the array's own.

        Raises:
            PadiffError: BAD_TENSOR for a NumPy dtype that has no DType.
        """
        if dtype is None:
            dtype = _FROM_NUMPY.get(array.dtype.newbyteorder("<") if array.dtype.byteorder == ">" else array.dtype)
        if dtype is None:
            raise PadiffError(
                f"no tensor type corresponds to a NumPy array of dtype {array.dtype}", reason=Reason.BAD_TENSOR
            )
        shape = array.shape
        flat = np.ascontiguousarray(array, dtype=dtype.storage).reshape(-1)
        return cls(TensorSpec(dtype, tuple(shape)), flat.view(np.uint8).data if flat.size else memoryview(b""))

    def to_array(self) -> np.ndarray:
        """Return the bytes as an array of `spec.dtype.storage` in the tensor's shape, without a copy."""
        return np.frombuffer(self.data, dtype=self.spec.dtype.storage).reshape(self.spec.shape)

    def stream(self, name: str) -> TensorStream:
        """Return the tensor as a stream of chunks of CHUNK_BYTES, under a name."""
        view = self.data.cast("B") if self.data.nbytes else memoryview(b"")
        return TensorStream(name, self.spec, chunks_of(view))


@dataclass
class TensorStream:
    """A tensor whose bytes come piece by piece, to be read once and in order.

    A chunk is a view of memory that is used again, and is valid only until the next chunk is taken.

    Attributes:
        name: The tensor's name, such as a parameter's full name or a record's id.
        spec: The dtype and the shape.
        chunks: The bytes, piece by piece.
        whole: The tensor itself, where it lies in memory in one piece. It is a record then, and is valid until the record
            is released or its model's next step begins.
    """

    name: str
    spec: TensorSpec
    chunks: Iterator[memoryview]
    whole: Tensor | None = None

    def collect(self, into: memoryview | None = None) -> Tensor:
        """Read the chunks into one tensor.

        Args:
            into: Memory of exactly the tensor's size, in which the tensor is built; None allocates it.

        Raises:
            PadiffError: DATA_LOSS where the chunks do not fill the spec exactly.
        """
        view = memoryview(bytearray(self.spec.size_bytes)) if into is None else into
        at = 0
        for chunk in self.chunks:
            if chunk.nbytes > view.nbytes - at:
                raise data_loss(self.name, self.spec, at + chunk.nbytes)
            view[at : at + chunk.nbytes] = chunk.cast("B") if chunk.nbytes else chunk
            at += chunk.nbytes
        if at != view.nbytes:
            raise data_loss(self.name, self.spec, at)
        return Tensor(self.spec, view)


def chunks_of(view: memoryview) -> Iterator[memoryview]:
    """Cut bytes into pieces of CHUNK_BYTES, without a copy; the last piece may be shorter."""
    return (view[start : start + CHUNK_BYTES] for start in range(0, view.nbytes, CHUNK_BYTES))


def data_loss(name: str, spec: TensorSpec, got_bytes: int) -> PadiffError:
    """Return a DATA_LOSS error for a tensor stream that brought `got_bytes` bytes instead of the spec's."""
    return PadiffError(
        f"tensor {name!r} of {spec} takes {spec.size_bytes} bytes, its stream brought {got_bytes}",
        reason=Reason.DATA_LOSS,
    )


def collect_all(streams: Iterable[TensorStream]) -> dict[str, Tensor]:
    """Read every stream, in order, and return the whole tensors by name."""
    return {stream.name: stream.collect() for stream in streams}


class Statistics(Enum):
    """Choose the statistics that a digest holds beside extremes, counts and hash; each costs a pass over the tensor.

    ALL: mean, abs_mean and norm. MEAN: the mean alone. ABS_MEAN: the abs_mean alone. SIZES: the norm alone, where float32
    is summed in float32 (within 2e-5 of the norm).
    """

    ALL = "all"
    MEAN = "mean"
    ABS_MEAN = "abs_mean"
    SIZES = "sizes"


@dataclass(frozen=True, slots=True)
class Digest:
    """A tensor's summary over all its elements, finite or not.

    mean, abs_mean, norm, min and max are NaN where an element is NaN, and 0 for an empty tensor. They are computed in
    float64, except for the norm of Statistics.SIZES. Complex tensors are summarised over their real and imaginary parts.

    Attributes:
        count: The number of elements.
        mean: The mean; None where it was not asked for.
        abs_mean: The mean of the magnitudes; None where it was not asked for.
        norm: The L2 norm; None where it was not asked for.
        min: The smallest element.
        max: The largest element.
        nan_count: The number of NaN.
        inf_count: The number of infinite elements.
        hash: xxh3-128 of the bytes, in 16 bytes. Equal hashes and equal specs mean equal tensors.
        floor: How far (L2) the tensor moves when weights and inputs move by their last bit; None where it was not measured.
    """

    count: int
    mean: float | None
    abs_mean: float | None
    norm: float | None
    min: float
    max: float
    nan_count: int
    inf_count: int
    hash: bytes
    floor: float | None = None

    @property
    def is_zero(self) -> bool:
        """True where all elements are zero, and for an empty tensor."""
        return self.min == self.max == 0.0

    @property
    def peak(self) -> float:
        """The largest magnitude, max |element|; NaN where an element is NaN."""
        return max(abs(self.min), abs(self.max))


def told(statistic: float | None) -> float:
    """Return a digest's statistic that was asked for.

    Raises:
        PadiffError: INTERNAL where the digest lacks it.
    """
    if statistic is None:
        raise PadiffError("a digest lacks a statistic that its reader needs", reason=Reason.INTERNAL)
    return statistic
