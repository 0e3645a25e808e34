"""Tensors as the library sees them: a spec and raw bytes, whatever framework they came from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from padiff_rpc.errors import PadiffError, Reason

CHUNK_BYTES = 1 << 20
"""Size of the pieces in which tensors travel and are compared; gRPC streams peak at 1 MiB."""


class DType(str, Enum):
    """Element types, under the names that safetensors gives them."""

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
        """NumPy dtype that holds the bytes: the type itself, or unsigned integers for bfloat16 and float8."""
        return _STORAGE[self]

    @property
    def item_bytes(self) -> int:
        return _STORAGE[self].itemsize

    @property
    def is_floating(self) -> bool:
        """True for real floating-point types, float8 and bfloat16 included."""
        return self in _FLOATING

    @property
    def is_complex(self) -> bool:
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
    """A tensor's header. Row-major, little-endian, no padding."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements; 1 for a 0-d tensor."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.count * self.dtype.item_bytes

    def __str__(self) -> str:
        return f"{self.dtype.value}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Tensor:
    """A whole tensor: its spec and `spec.size_bytes` bytes.

    Raises PadiffError(BAD_TENSOR) when the bytes do not fill the spec exactly.
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
        """Wrap a NumPy array (copied when it is not contiguous little-endian).

        `dtype` names the element type where NumPy has none: BF16 of a uint16 array, F8_* of a uint8 one.
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
        """View the bytes as an array of `spec.dtype.storage`, in the tensor's shape; no copy."""
        return np.frombuffer(self.data, dtype=self.spec.dtype.storage).reshape(self.spec.shape)

    def stream(self, name: str) -> TensorStream:
        """Cut into chunks of CHUNK_BYTES."""
        view = self.data.cast("B") if self.data.nbytes else memoryview(b"")
        return TensorStream(name, self.spec, chunks_of(view))


@dataclass
class TensorStream:
    """A tensor on its way: its name, its spec, and its bytes piece by piece (read once, in order).

    A chunk is a view of memory that is used again: it holds until the next one is taken. `whole`: the tensor itself, where it
    lies in memory in one piece; it is a record then, and holds until that is released, or its model's next step begins.
    """

    name: str
    spec: TensorSpec
    chunks: Iterator[memoryview]
    whole: Tensor | None = None

    def collect(self, into: memoryview | None = None) -> Tensor:
        """Read the chunks into one tensor; DATA_LOSS when they do not fill the spec exactly.

        `into`: memory of exactly the tensor's size to use, instead of its own.
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
    """Cut bytes into pieces of CHUNK_BYTES, the last one perhaps shorter; no copy."""
    return (view[start : start + CHUNK_BYTES] for start in range(0, view.nbytes, CHUNK_BYTES))


def data_loss(name: str, spec: TensorSpec, got_bytes: int) -> PadiffError:
    """Describe a tensor stream of the wrong length."""
    return PadiffError(
        f"tensor {name!r} of {spec} takes {spec.size_bytes} bytes, its stream brought {got_bytes}",
        reason=Reason.DATA_LOSS,
    )


def collect_all(streams: Iterable[TensorStream]) -> dict[str, Tensor]:
    """Read every stream, in order, into whole tensors by name."""
    return {stream.name: stream.collect() for stream in streams}


class Statistics(Enum):
    """Which statistics a digest is to hold beside extremes, counts and hash; each costs a pass over the tensor.

    ALL: mean, abs_mean and norm. MEAN, ABS_MEAN: that one. SIZES: the norm, of float32 summed in float32 (within 2e-5 of it).
    """

    ALL = "all"
    MEAN = "mean"
    ABS_MEAN = "abs_mean"
    SIZES = "sizes"


@dataclass(frozen=True, slots=True)
class Digest:
    """A tensor's summary over its finite and non-finite elements alike, in float64 but for SIZES; None: not asked for.

    mean, abs_mean, norm (L2), min and max are NaN where an element is NaN, and 0 for an empty tensor; complex tensors are
    summarised over their real and imaginary parts. `hash` is xxh3-128 of the bytes, 16 bytes: equal hashes and
    equal specs mean equal tensors.
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

    @property
    def is_zero(self) -> bool:
        """True where all elements are zero, also of an empty tensor."""
        return self.min == self.max == 0.0

    @property
    def peak(self) -> float:
        """Return max |element|; NaN where an element is NaN."""
        return max(abs(self.min), abs(self.max))


def told(statistic: float | None) -> float:
    """Return a statistic of a digest that was asked for."""
    if statistic is None:
        raise PadiffError("a digest lacks a statistic that its reader needs", reason=Reason.INTERNAL)
    return statistic
