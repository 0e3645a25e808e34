from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Any as _Any, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    D_TYPE_UNSPECIFIED: _ClassVar[DType]
    D_TYPE_BOOL: _ClassVar[DType]
    D_TYPE_U8: _ClassVar[DType]
    D_TYPE_I8: _ClassVar[DType]
    D_TYPE_U16: _ClassVar[DType]
    D_TYPE_I16: _ClassVar[DType]
    D_TYPE_U32: _ClassVar[DType]
    D_TYPE_I32: _ClassVar[DType]
    D_TYPE_U64: _ClassVar[DType]
    D_TYPE_I64: _ClassVar[DType]
    D_TYPE_F8_E4M3: _ClassVar[DType]
    D_TYPE_F8_E5M2: _ClassVar[DType]
    D_TYPE_BF16: _ClassVar[DType]
    D_TYPE_F16: _ClassVar[DType]
    D_TYPE_F32: _ClassVar[DType]
    D_TYPE_F64: _ClassVar[DType]
    D_TYPE_C64: _ClassVar[DType]
    D_TYPE_C128: _ClassVar[DType]

class Statistics(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATISTICS_UNSPECIFIED: _ClassVar[Statistics]
    STATISTICS_ALL: _ClassVar[Statistics]
    STATISTICS_MEAN: _ClassVar[Statistics]
    STATISTICS_ABS_MEAN: _ClassVar[Statistics]
    STATISTICS_SIZES: _ClassVar[Statistics]
D_TYPE_UNSPECIFIED: DType
D_TYPE_BOOL: DType
D_TYPE_U8: DType
D_TYPE_I8: DType
D_TYPE_U16: DType
D_TYPE_I16: DType
D_TYPE_U32: DType
D_TYPE_I32: DType
D_TYPE_U64: DType
D_TYPE_I64: DType
D_TYPE_F8_E4M3: DType
D_TYPE_F8_E5M2: DType
D_TYPE_BF16: DType
D_TYPE_F16: DType
D_TYPE_F32: DType
D_TYPE_F64: DType
D_TYPE_C64: DType
D_TYPE_C128: DType
STATISTICS_UNSPECIFIED: Statistics
STATISTICS_ALL: Statistics
STATISTICS_MEAN: Statistics
STATISTICS_ABS_MEAN: Statistics
STATISTICS_SIZES: Statistics

class TensorSpec(_message.Message):
    __slots__ = ("dtype", "shape", "size_bytes")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    size_bytes: int
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Digest(_message.Message):
    __slots__ = ("count", "mean", "abs_mean", "norm", "min", "max", "nan_count", "inf_count", "hash", "floor")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    ABS_MEAN_FIELD_NUMBER: _ClassVar[int]
    NORM_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    NAN_COUNT_FIELD_NUMBER: _ClassVar[int]
    INF_COUNT_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    FLOOR_FIELD_NUMBER: _ClassVar[int]
    count: int
    mean: float
    abs_mean: float
    norm: float
    min: float
    max: float
    nan_count: int
    inf_count: int
    hash: bytes
    floor: float
    def __init__(self, count: _Optional[int] = ..., mean: _Optional[float] = ..., abs_mean: _Optional[float] = ..., norm: _Optional[float] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., nan_count: _Optional[int] = ..., inf_count: _Optional[int] = ..., hash: _Optional[bytes] = ..., floor: _Optional[float] = ...) -> None: ...

class TensorChunk(_message.Message):
    __slots__ = ("name", "spec", "offset", "slot_offset", "size_bytes", "payload")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SLOT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    name: str
    spec: TensorSpec
    offset: int
    slot_offset: int
    size_bytes: int
    payload: bytes
    def __init__(self, name: _Optional[str] = ..., spec: _Optional[_Union[TensorSpec, _Mapping[str, _Any]]] = ..., offset: _Optional[int] = ..., slot_offset: _Optional[int] = ..., size_bytes: _Optional[int] = ..., payload: _Optional[bytes] = ...) -> None: ...

class TensorBatch(_message.Message):
    __slots__ = ("chunks", "slot")
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    chunks: _containers.RepeatedCompositeFieldContainer[TensorChunk]
    slot: SlotUse
    def __init__(self, chunks: _Optional[_Iterable[_Union[TensorChunk, _Mapping[str, _Any]]]] = ..., slot: _Optional[_Union[SlotUse, _Mapping[str, _Any]]] = ...) -> None: ...

class SlotUse(_message.Message):
    __slots__ = ("slot", "ticket")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    slot: int
    ticket: int
    def __init__(self, slot: _Optional[int] = ..., ticket: _Optional[int] = ...) -> None: ...
