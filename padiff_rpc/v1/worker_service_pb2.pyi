from padiff_rpc.v1 import model_pb2 as _model_pb2
from padiff_rpc.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Any as _Any, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class What(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WHAT_UNSPECIFIED: _ClassVar[What]
    WHAT_VALUE: _ClassVar[What]
    WHAT_GRADIENT: _ClassVar[What]
    WHAT_MOMENT1: _ClassVar[What]
    WHAT_MOMENT2: _ClassVar[What]
    WHAT_MOMENTUM: _ClassVar[What]
WHAT_UNSPECIFIED: What
WHAT_VALUE: What
WHAT_GRADIENT: What
WHAT_MOMENT1: What
WHAT_MOMENT2: What
WHAT_MOMENTUM: What

class ErrorDetail(_message.Message):
    __slots__ = ("reason", "message", "hint", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    hint: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ("protocol_versions", "info")
    PROTOCOL_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    protocol_versions: _containers.RepeatedScalarFieldContainer[int]
    info: _model_pb2.ModelInfo
    def __init__(self, protocol_versions: _Optional[_Iterable[int]] = ..., info: _Optional[_Union[_model_pb2.ModelInfo, _Mapping[str, _Any]]] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("protocol_version", "client", "lease_s", "shared_memory")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    client: str
    lease_s: float
    shared_memory: bool
    def __init__(self, protocol_version: _Optional[int] = ..., client: _Optional[str] = ..., lease_s: _Optional[float] = ..., shared_memory: bool = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("session_id", "lease_s", "ring")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    lease_s: float
    ring: RingOffer
    def __init__(self, session_id: _Optional[str] = ..., lease_s: _Optional[float] = ..., ring: _Optional[_Union[RingOffer, _Mapping[str, _Any]]] = ...) -> None: ...

class RingOffer(_message.Message):
    __slots__ = ("pid", "descriptor", "nonce")
    PID_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    pid: int
    descriptor: int
    nonce: bytes
    def __init__(self, pid: _Optional[int] = ..., descriptor: _Optional[int] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class ShareMemoryRequest(_message.Message):
    __slots__ = ("session_id", "nonce")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    nonce: bytes
    def __init__(self, session_id: _Optional[str] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class ShareMemoryResponse(_message.Message):
    __slots__ = ("layout", "store")
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    layout: RingLayout
    store: StoreOffer
    def __init__(self, layout: _Optional[_Union[RingLayout, _Mapping[str, _Any]]] = ..., store: _Optional[_Union[StoreOffer, _Mapping[str, _Any]]] = ...) -> None: ...

class StoreOffer(_message.Message):
    __slots__ = ("pid", "descriptor", "size_bytes", "nonce")
    PID_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTOR_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    pid: int
    descriptor: int
    size_bytes: int
    nonce: bytes
    def __init__(self, pid: _Optional[int] = ..., descriptor: _Optional[int] = ..., size_bytes: _Optional[int] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class ReachStoreRequest(_message.Message):
    __slots__ = ("session_id", "store")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    store: StoreOffer
    def __init__(self, session_id: _Optional[str] = ..., store: _Optional[_Union[StoreOffer, _Mapping[str, _Any]]] = ...) -> None: ...

class ReachStoreResponse(_message.Message):
    __slots__ = ("reached",)
    REACHED_FIELD_NUMBER: _ClassVar[int]
    reached: bool
    def __init__(self, reached: bool = ...) -> None: ...

class RingLayout(_message.Message):
    __slots__ = ("size_bytes", "first_slot_offset", "slot_bytes", "to_coordinator", "to_worker")
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FIRST_SLOT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SLOT_BYTES_FIELD_NUMBER: _ClassVar[int]
    TO_COORDINATOR_FIELD_NUMBER: _ClassVar[int]
    TO_WORKER_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    first_slot_offset: int
    slot_bytes: int
    to_coordinator: int
    to_worker: int
    def __init__(self, size_bytes: _Optional[int] = ..., first_slot_offset: _Optional[int] = ..., slot_bytes: _Optional[int] = ..., to_coordinator: _Optional[int] = ..., to_worker: _Optional[int] = ...) -> None: ...

class KeepAliveRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class KeepAliveResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeModelRequest(_message.Message):
    __slots__ = ("session_id", "statements")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    statements: bool
    def __init__(self, session_id: _Optional[str] = ..., statements: bool = ...) -> None: ...

class DescribeModelResponse(_message.Message):
    __slots__ = ("part", "statements")
    PART_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    part: _model_pb2.ModelDescription
    statements: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, part: _Optional[_Union[_model_pb2.ModelDescription, _Mapping[str, _Any]]] = ..., statements: _Optional[_Iterable[str]] = ...) -> None: ...

class RingUse(_message.Message):
    __slots__ = ("stream", "returned_tickets", "ended_streams")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    RETURNED_TICKETS_FIELD_NUMBER: _ClassVar[int]
    ENDED_STREAMS_FIELD_NUMBER: _ClassVar[int]
    stream: int
    returned_tickets: _containers.RepeatedScalarFieldContainer[int]
    ended_streams: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, stream: _Optional[int] = ..., returned_tickets: _Optional[_Iterable[int]] = ..., ended_streams: _Optional[_Iterable[int]] = ...) -> None: ...

class ReadParametersRequest(_message.Message):
    __slots__ = ("session_id", "query", "ring")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    query: ParametersQuery
    ring: RingUse
    def __init__(self, session_id: _Optional[str] = ..., query: _Optional[_Union[ParametersQuery, _Mapping[str, _Any]]] = ..., ring: _Optional[_Union[RingUse, _Mapping[str, _Any]]] = ...) -> None: ...

class ParametersQuery(_message.Message):
    __slots__ = ("names", "what", "transposed", "offset")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    TRANSPOSED_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    what: What
    transposed: _containers.RepeatedScalarFieldContainer[str]
    offset: int
    def __init__(self, names: _Optional[_Iterable[str]] = ..., what: _Optional[_Union[What, str]] = ..., transposed: _Optional[_Iterable[str]] = ..., offset: _Optional[int] = ...) -> None: ...

class ReadParametersResponse(_message.Message):
    __slots__ = ("last", "batch")
    LAST_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    last: bool
    batch: _tensor_pb2.TensorBatch
    def __init__(self, last: bool = ..., batch: _Optional[_Union[_tensor_pb2.TensorBatch, _Mapping[str, _Any]]] = ...) -> None: ...

class DigestParametersRequest(_message.Message):
    __slots__ = ("session_id", "names", "what", "transposed", "statistics")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    TRANSPOSED_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    names: _containers.RepeatedScalarFieldContainer[str]
    what: What
    transposed: _containers.RepeatedScalarFieldContainer[str]
    statistics: _tensor_pb2.Statistics
    def __init__(self, session_id: _Optional[str] = ..., names: _Optional[_Iterable[str]] = ..., what: _Optional[_Union[What, str]] = ..., transposed: _Optional[_Iterable[str]] = ..., statistics: _Optional[_Union[_tensor_pb2.Statistics, str]] = ...) -> None: ...

class DigestParametersResponse(_message.Message):
    __slots__ = ("name", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: _tensor_pb2.Digest
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[_Union[_tensor_pb2.Digest, _Mapping[str, _Any]]] = ...) -> None: ...

class WriteParametersRequest(_message.Message):
    __slots__ = ("session_id", "batch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    batch: _tensor_pb2.TensorBatch
    def __init__(self, session_id: _Optional[str] = ..., batch: _Optional[_Union[_tensor_pb2.TensorBatch, _Mapping[str, _Any]]] = ...) -> None: ...

class WriteParametersResponse(_message.Message):
    __slots__ = ("returned_tickets", "written")
    RETURNED_TICKETS_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    returned_tickets: _containers.RepeatedScalarFieldContainer[int]
    written: int
    def __init__(self, returned_tickets: _Optional[_Iterable[int]] = ..., written: _Optional[int] = ...) -> None: ...

class WriteGradientsRequest(_message.Message):
    __slots__ = ("session_id", "batch")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    batch: _tensor_pb2.TensorBatch
    def __init__(self, session_id: _Optional[str] = ..., batch: _Optional[_Union[_tensor_pb2.TensorBatch, _Mapping[str, _Any]]] = ...) -> None: ...

class WriteGradientsResponse(_message.Message):
    __slots__ = ("returned_tickets", "written")
    RETURNED_TICKETS_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    returned_tickets: _containers.RepeatedScalarFieldContainer[int]
    written: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, returned_tickets: _Optional[_Iterable[int]] = ..., written: _Optional[_Iterable[str]] = ...) -> None: ...

class ForwardHeader(_message.Message):
    __slots__ = ("session_id", "inputs_json", "training", "seed", "gradients", "record", "tensor_count", "observed")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    INPUTS_JSON_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    TENSOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    inputs_json: str
    training: bool
    seed: int
    gradients: bool
    record: _model_pb2.RecordOptions
    tensor_count: int
    observed: bool
    def __init__(self, session_id: _Optional[str] = ..., inputs_json: _Optional[str] = ..., training: bool = ..., seed: _Optional[int] = ..., gradients: bool = ..., record: _Optional[_Union[_model_pb2.RecordOptions, _Mapping[str, _Any]]] = ..., tensor_count: _Optional[int] = ..., observed: bool = ...) -> None: ...

class Substitution(_message.Message):
    __slots__ = ("seq", "tensor_count", "placed")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TENSOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    PLACED_FIELD_NUMBER: _ClassVar[int]
    seq: int
    tensor_count: int
    placed: _containers.RepeatedCompositeFieldContainer[PlacedTensor]
    def __init__(self, seq: _Optional[int] = ..., tensor_count: _Optional[int] = ..., placed: _Optional[_Iterable[_Union[PlacedTensor, _Mapping[str, _Any]]]] = ...) -> None: ...

class PlacedTensor(_message.Message):
    __slots__ = ("name", "spec", "place")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    name: str
    spec: _tensor_pb2.TensorSpec
    place: _model_pb2.Place
    def __init__(self, name: _Optional[str] = ..., spec: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping[str, _Any]]] = ..., place: _Optional[_Union[_model_pb2.Place, _Mapping[str, _Any]]] = ...) -> None: ...

class ReturnedSlots(_message.Message):
    __slots__ = ("tickets",)
    TICKETS_FIELD_NUMBER: _ClassVar[int]
    tickets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, tickets: _Optional[_Iterable[int]] = ...) -> None: ...

class ForwardRequest(_message.Message):
    __slots__ = ("header", "substitution", "batch")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SUBSTITUTION_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    header: ForwardHeader
    substitution: Substitution
    batch: _tensor_pb2.TensorBatch
    def __init__(self, header: _Optional[_Union[ForwardHeader, _Mapping[str, _Any]]] = ..., substitution: _Optional[_Union[Substitution, _Mapping[str, _Any]]] = ..., batch: _Optional[_Union[_tensor_pb2.TensorBatch, _Mapping[str, _Any]]] = ...) -> None: ...

class Waiting(_message.Message):
    __slots__ = ("releases",)
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    releases: int
    def __init__(self, releases: _Optional[int] = ...) -> None: ...

class Boundaries(_message.Message):
    __slots__ = ("boundaries",)
    BOUNDARIES_FIELD_NUMBER: _ClassVar[int]
    boundaries: _containers.RepeatedCompositeFieldContainer[_model_pb2.Boundary]
    def __init__(self, boundaries: _Optional[_Iterable[_Union[_model_pb2.Boundary, _Mapping[str, _Any]]]] = ...) -> None: ...

class ForwardResponse(_message.Message):
    __slots__ = ("boundaries", "result", "returned", "waiting")
    BOUNDARIES_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    boundaries: Boundaries
    result: ForwardResult
    returned: ReturnedSlots
    waiting: Waiting
    def __init__(self, boundaries: _Optional[_Union[Boundaries, _Mapping[str, _Any]]] = ..., result: _Optional[_Union[ForwardResult, _Mapping[str, _Any]]] = ..., returned: _Optional[_Union[ReturnedSlots, _Mapping[str, _Any]]] = ..., waiting: _Optional[_Union[Waiting, _Mapping[str, _Any]]] = ...) -> None: ...

class ForwardResult(_message.Message):
    __slots__ = ("outputs", "wall_s")
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    WALL_S_FIELD_NUMBER: _ClassVar[int]
    outputs: _containers.RepeatedCompositeFieldContainer[_model_pb2.Record]
    wall_s: float
    def __init__(self, outputs: _Optional[_Iterable[_Union[_model_pb2.Record, _Mapping[str, _Any]]]] = ..., wall_s: _Optional[float] = ...) -> None: ...

class BackwardHeader(_message.Message):
    __slots__ = ("session_id", "loss", "tensor_count", "observed")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TENSOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    loss: _model_pb2.LossSpec
    tensor_count: int
    observed: bool
    def __init__(self, session_id: _Optional[str] = ..., loss: _Optional[_Union[_model_pb2.LossSpec, _Mapping[str, _Any]]] = ..., tensor_count: _Optional[int] = ..., observed: bool = ...) -> None: ...

class BackwardRequest(_message.Message):
    __slots__ = ("header", "substitution", "batch")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    SUBSTITUTION_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    header: BackwardHeader
    substitution: Substitution
    batch: _tensor_pb2.TensorBatch
    def __init__(self, header: _Optional[_Union[BackwardHeader, _Mapping[str, _Any]]] = ..., substitution: _Optional[_Union[Substitution, _Mapping[str, _Any]]] = ..., batch: _Optional[_Union[_tensor_pb2.TensorBatch, _Mapping[str, _Any]]] = ...) -> None: ...

class BackwardResponse(_message.Message):
    __slots__ = ("boundaries", "result", "returned", "waiting")
    BOUNDARIES_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    boundaries: Boundaries
    result: BackwardResult
    returned: ReturnedSlots
    waiting: Waiting
    def __init__(self, boundaries: _Optional[_Union[Boundaries, _Mapping[str, _Any]]] = ..., result: _Optional[_Union[BackwardResult, _Mapping[str, _Any]]] = ..., returned: _Optional[_Union[ReturnedSlots, _Mapping[str, _Any]]] = ..., waiting: _Optional[_Union[Waiting, _Mapping[str, _Any]]] = ...) -> None: ...

class BackwardResult(_message.Message):
    __slots__ = ("loss", "without_gradient", "wall_s", "recomputed")
    LOSS_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_GRADIENT_FIELD_NUMBER: _ClassVar[int]
    WALL_S_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTED_FIELD_NUMBER: _ClassVar[int]
    loss: float
    without_gradient: _containers.RepeatedCompositeFieldContainer[_model_pb2.BoundaryTensor]
    wall_s: float
    recomputed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, loss: _Optional[float] = ..., without_gradient: _Optional[_Iterable[_Union[_model_pb2.BoundaryTensor, _Mapping[str, _Any]]]] = ..., wall_s: _Optional[float] = ..., recomputed: _Optional[_Iterable[str]] = ...) -> None: ...

class MeasureFloorHeader(_message.Message):
    __slots__ = ("forward", "loss")
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    forward: ForwardHeader
    loss: _model_pb2.LossSpec
    def __init__(self, forward: _Optional[_Union[ForwardHeader, _Mapping[str, _Any]]] = ..., loss: _Optional[_Union[_model_pb2.LossSpec, _Mapping[str, _Any]]] = ...) -> None: ...

class MeasureFloorRequest(_message.Message):
    __slots__ = ("header", "batch")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    header: MeasureFloorHeader
    batch: _tensor_pb2.TensorBatch
    def __init__(self, header: _Optional[_Union[MeasureFloorHeader, _Mapping[str, _Any]]] = ..., batch: _Optional[_Union[_tensor_pb2.TensorBatch, _Mapping[str, _Any]]] = ...) -> None: ...

class MeasureFloorResponse(_message.Message):
    __slots__ = ("result", "returned")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    result: MeasureFloorResult
    returned: ReturnedSlots
    def __init__(self, result: _Optional[_Union[MeasureFloorResult, _Mapping[str, _Any]]] = ..., returned: _Optional[_Union[ReturnedSlots, _Mapping[str, _Any]]] = ...) -> None: ...

class MeasureFloorResult(_message.Message):
    __slots__ = ("wall_s",)
    WALL_S_FIELD_NUMBER: _ClassVar[int]
    wall_s: float
    def __init__(self, wall_s: _Optional[float] = ...) -> None: ...

class ReplayLayerHeader(_message.Message):
    __slots__ = ("session_id", "forward", "route", "call", "dtype", "seed", "outputs", "inner", "forward_only", "tensor_count")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    INNER_FIELD_NUMBER: _ClassVar[int]
    FORWARD_ONLY_FIELD_NUMBER: _ClassVar[int]
    TENSOR_COUNT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    forward: ForwardHeader
    route: str
    call: int
    dtype: str
    seed: int
    outputs: _containers.RepeatedScalarFieldContainer[str]
    inner: _containers.RepeatedScalarFieldContainer[str]
    forward_only: bool
    tensor_count: int
    def __init__(self, session_id: _Optional[str] = ..., forward: _Optional[_Union[ForwardHeader, _Mapping[str, _Any]]] = ..., route: _Optional[str] = ..., call: _Optional[int] = ..., dtype: _Optional[str] = ..., seed: _Optional[int] = ..., outputs: _Optional[_Iterable[str]] = ..., inner: _Optional[_Iterable[str]] = ..., forward_only: bool = ..., tensor_count: _Optional[int] = ...) -> None: ...

class ReplayLayerRequest(_message.Message):
    __slots__ = ("header", "batch")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    header: ReplayLayerHeader
    batch: _tensor_pb2.TensorBatch
    def __init__(self, header: _Optional[_Union[ReplayLayerHeader, _Mapping[str, _Any]]] = ..., batch: _Optional[_Union[_tensor_pb2.TensorBatch, _Mapping[str, _Any]]] = ...) -> None: ...

class ReplayLayerResponse(_message.Message):
    __slots__ = ("boundaries", "result", "returned")
    BOUNDARIES_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    RETURNED_FIELD_NUMBER: _ClassVar[int]
    boundaries: Boundaries
    result: ReplayLayerResult
    returned: ReturnedSlots
    def __init__(self, boundaries: _Optional[_Union[Boundaries, _Mapping[str, _Any]]] = ..., result: _Optional[_Union[ReplayLayerResult, _Mapping[str, _Any]]] = ..., returned: _Optional[_Union[ReturnedSlots, _Mapping[str, _Any]]] = ...) -> None: ...

class ReplayLayerResult(_message.Message):
    __slots__ = ("parameters", "wall_s")
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    WALL_S_FIELD_NUMBER: _ClassVar[int]
    parameters: _containers.RepeatedCompositeFieldContainer[_model_pb2.Record]
    wall_s: float
    def __init__(self, parameters: _Optional[_Iterable[_Union[_model_pb2.Record, _Mapping[str, _Any]]]] = ..., wall_s: _Optional[float] = ...) -> None: ...

class WorkOnCopiesRequest(_message.Message):
    __slots__ = ("session_id", "copies")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    copies: str
    def __init__(self, session_id: _Optional[str] = ..., copies: _Optional[str] = ...) -> None: ...

class WorkOnCopiesResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadActivationsRequest(_message.Message):
    __slots__ = ("session_id", "query", "ring")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    query: RecordsQuery
    ring: RingUse
    def __init__(self, session_id: _Optional[str] = ..., query: _Optional[_Union[RecordsQuery, _Mapping[str, _Any]]] = ..., ring: _Optional[_Union[RingUse, _Mapping[str, _Any]]] = ...) -> None: ...

class RecordsQuery(_message.Message):
    __slots__ = ("ids", "offset")
    IDS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    offset: int
    def __init__(self, ids: _Optional[_Iterable[int]] = ..., offset: _Optional[int] = ...) -> None: ...

class ReadActivationsResponse(_message.Message):
    __slots__ = ("last", "batch")
    LAST_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    last: bool
    batch: _tensor_pb2.TensorBatch
    def __init__(self, last: bool = ..., batch: _Optional[_Union[_tensor_pb2.TensorBatch, _Mapping[str, _Any]]] = ...) -> None: ...

class ReleaseActivationsRequest(_message.Message):
    __slots__ = ("session_id", "ids")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session_id: _Optional[str] = ..., ids: _Optional[_Iterable[int]] = ...) -> None: ...

class ReleaseActivationsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStoreFiguresRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetStoreFiguresResponse(_message.Message):
    __slots__ = ("memory_bytes", "disk_bytes", "peak_memory_bytes", "peak_disk_bytes", "spilled_bytes")
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PEAK_DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    SPILLED_BYTES_FIELD_NUMBER: _ClassVar[int]
    memory_bytes: int
    disk_bytes: int
    peak_memory_bytes: int
    peak_disk_bytes: int
    spilled_bytes: int
    def __init__(self, memory_bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., peak_memory_bytes: _Optional[int] = ..., peak_disk_bytes: _Optional[int] = ..., spilled_bytes: _Optional[int] = ...) -> None: ...

class OptimizerStepRequest(_message.Message):
    __slots__ = ("session_id", "optimizer")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    optimizer: _model_pb2.OptimizerSpec
    def __init__(self, session_id: _Optional[str] = ..., optimizer: _Optional[_Union[_model_pb2.OptimizerSpec, _Mapping[str, _Any]]] = ...) -> None: ...

class OptimizerStepResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeOptimizerRequest(_message.Message):
    __slots__ = ("session_id", "optimizer")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    optimizer: _model_pb2.OptimizerSpec
    def __init__(self, session_id: _Optional[str] = ..., optimizer: _Optional[_Union[_model_pb2.OptimizerSpec, _Mapping[str, _Any]]] = ...) -> None: ...

class DescribeOptimizerResponse(_message.Message):
    __slots__ = ("group",)
    GROUP_FIELD_NUMBER: _ClassVar[int]
    group: OptimizerGroup
    def __init__(self, group: _Optional[_Union[OptimizerGroup, _Mapping[str, _Any]]] = ...) -> None: ...

class OptimizerGroup(_message.Message):
    __slots__ = ("algorithm", "options_json", "parameters")
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    algorithm: str
    options_json: str
    parameters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, algorithm: _Optional[str] = ..., options_json: _Optional[str] = ..., parameters: _Optional[_Iterable[str]] = ...) -> None: ...

class ResetModelRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class ResetModelResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
