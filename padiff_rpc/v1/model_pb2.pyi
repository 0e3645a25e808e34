from padiff_rpc.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Any as _Any, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ParameterKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PARAMETER_KIND_UNSPECIFIED: _ClassVar[ParameterKind]
    PARAMETER_KIND_PARAMETER: _ClassVar[ParameterKind]
    PARAMETER_KIND_BUFFER: _ClassVar[ParameterKind]

class Passing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PASSING_UNSPECIFIED: _ClassVar[Passing]
    PASSING_POSITIONAL_ONLY: _ClassVar[Passing]
    PASSING_EITHER: _ClassVar[Passing]
    PASSING_REST: _ClassVar[Passing]
    PASSING_KEYWORD_ONLY: _ClassVar[Passing]
    PASSING_KEYWORDS: _ClassVar[Passing]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    PHASE_FORWARD: _ClassVar[Phase]
    PHASE_BACKWARD: _ClassVar[Phase]

class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIDE_UNSPECIFIED: _ClassVar[Side]
    SIDE_INPUT: _ClassVar[Side]
    SIDE_OUTPUT: _ClassVar[Side]
PARAMETER_KIND_UNSPECIFIED: ParameterKind
PARAMETER_KIND_PARAMETER: ParameterKind
PARAMETER_KIND_BUFFER: ParameterKind
PASSING_UNSPECIFIED: Passing
PASSING_POSITIONAL_ONLY: Passing
PASSING_EITHER: Passing
PASSING_REST: Passing
PASSING_KEYWORD_ONLY: Passing
PASSING_KEYWORDS: Passing
PHASE_UNSPECIFIED: Phase
PHASE_FORWARD: Phase
PHASE_BACKWARD: Phase
SIDE_UNSPECIFIED: Side
SIDE_INPUT: Side
SIDE_OUTPUT: Side

class ParameterInfo(_message.Message):
    __slots__ = ("name", "kind", "spec", "trainable", "aliases", "transient")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    TRAINABLE_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    TRANSIENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: ParameterKind
    spec: _tensor_pb2.TensorSpec
    trainable: bool
    aliases: _containers.RepeatedScalarFieldContainer[str]
    transient: bool
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[ParameterKind, str]] = ..., spec: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping[str, _Any]]] = ..., trainable: bool = ..., aliases: _Optional[_Iterable[str]] = ..., transient: bool = ...) -> None: ...

class Hyperparameter(_message.Message):
    __slots__ = ("name", "json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    json: str
    def __init__(self, name: _Optional[str] = ..., json: _Optional[str] = ...) -> None: ...

class LayerInfo(_message.Message):
    __slots__ = ("route", "class_name", "class_path", "children", "parameters", "hyperparameters", "training", "aliases")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    CLASS_PATH_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    HYPERPARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    route: str
    class_name: str
    class_path: str
    children: _containers.RepeatedScalarFieldContainer[str]
    parameters: _containers.RepeatedScalarFieldContainer[str]
    hyperparameters: _containers.RepeatedCompositeFieldContainer[Hyperparameter]
    training: bool
    aliases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, route: _Optional[str] = ..., class_name: _Optional[str] = ..., class_path: _Optional[str] = ..., children: _Optional[_Iterable[str]] = ..., parameters: _Optional[_Iterable[str]] = ..., hyperparameters: _Optional[_Iterable[_Union[Hyperparameter, _Mapping[str, _Any]]]] = ..., training: bool = ..., aliases: _Optional[_Iterable[str]] = ...) -> None: ...

class ForwardParameter(_message.Message):
    __slots__ = ("name", "passing", "required", "shown")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSING_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    SHOWN_FIELD_NUMBER: _ClassVar[int]
    name: str
    passing: Passing
    required: bool
    shown: str
    def __init__(self, name: _Optional[str] = ..., passing: _Optional[_Union[Passing, str]] = ..., required: bool = ..., shown: _Optional[str] = ...) -> None: ...

class ForwardSignature(_message.Message):
    __slots__ = ("parameters",)
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    parameters: _containers.RepeatedCompositeFieldContainer[ForwardParameter]
    def __init__(self, parameters: _Optional[_Iterable[_Union[ForwardParameter, _Mapping[str, _Any]]]] = ...) -> None: ...

class ModelDescription(_message.Message):
    __slots__ = ("framework", "class_name", "layers", "parameters", "forward")
    FRAMEWORK_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FIELD_NUMBER: _ClassVar[int]
    framework: str
    class_name: str
    layers: _containers.RepeatedCompositeFieldContainer[LayerInfo]
    parameters: _containers.RepeatedCompositeFieldContainer[ParameterInfo]
    forward: ForwardSignature
    def __init__(self, framework: _Optional[str] = ..., class_name: _Optional[str] = ..., layers: _Optional[_Iterable[_Union[LayerInfo, _Mapping[str, _Any]]]] = ..., parameters: _Optional[_Iterable[_Union[ParameterInfo, _Mapping[str, _Any]]]] = ..., forward: _Optional[_Union[ForwardSignature, _Mapping[str, _Any]]] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("framework", "framework_version", "device", "python_version", "packages", "padiff_version", "host", "pid", "losses", "optimizers", "store_memory_bytes", "store_disk_bytes")
    class PackagesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FRAMEWORK_FIELD_NUMBER: _ClassVar[int]
    FRAMEWORK_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PYTHON_VERSION_FIELD_NUMBER: _ClassVar[int]
    PACKAGES_FIELD_NUMBER: _ClassVar[int]
    PADIFF_VERSION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZERS_FIELD_NUMBER: _ClassVar[int]
    STORE_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORE_DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    framework: str
    framework_version: str
    device: str
    python_version: str
    packages: _containers.ScalarMap[str, str]
    padiff_version: str
    host: str
    pid: int
    losses: _containers.RepeatedScalarFieldContainer[str]
    optimizers: _containers.RepeatedScalarFieldContainer[str]
    store_memory_bytes: int
    store_disk_bytes: int
    def __init__(self, framework: _Optional[str] = ..., framework_version: _Optional[str] = ..., device: _Optional[str] = ..., python_version: _Optional[str] = ..., packages: _Optional[_Mapping[str, str]] = ..., padiff_version: _Optional[str] = ..., host: _Optional[str] = ..., pid: _Optional[int] = ..., losses: _Optional[_Iterable[str]] = ..., optimizers: _Optional[_Iterable[str]] = ..., store_memory_bytes: _Optional[int] = ..., store_disk_bytes: _Optional[int] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("id", "name", "spec", "digest", "place")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    id: int
    name: str
    spec: _tensor_pb2.TensorSpec
    digest: _tensor_pb2.Digest
    place: Place
    def __init__(self, id: _Optional[int] = ..., name: _Optional[str] = ..., spec: _Optional[_Union[_tensor_pb2.TensorSpec, _Mapping[str, _Any]]] = ..., digest: _Optional[_Union[_tensor_pb2.Digest, _Mapping[str, _Any]]] = ..., place: _Optional[_Union[Place, _Mapping[str, _Any]]] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("offset", "generation")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    offset: int
    generation: int
    def __init__(self, offset: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class LayerCall(_message.Message):
    __slots__ = ("route", "call")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    route: str
    call: int
    def __init__(self, route: _Optional[str] = ..., call: _Optional[int] = ...) -> None: ...

class Boundary(_message.Message):
    __slots__ = ("seq", "phase", "route", "call", "side", "caller", "records", "api", "draw")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    API_FIELD_NUMBER: _ClassVar[int]
    DRAW_FIELD_NUMBER: _ClassVar[int]
    seq: int
    phase: Phase
    route: str
    call: int
    side: Side
    caller: LayerCall
    records: _containers.RepeatedCompositeFieldContainer[Record]
    api: bool
    draw: bool
    def __init__(self, seq: _Optional[int] = ..., phase: _Optional[_Union[Phase, str]] = ..., route: _Optional[str] = ..., call: _Optional[int] = ..., side: _Optional[_Union[Side, str]] = ..., caller: _Optional[_Union[LayerCall, _Mapping[str, _Any]]] = ..., records: _Optional[_Iterable[_Union[Record, _Mapping[str, _Any]]]] = ..., api: bool = ..., draw: bool = ...) -> None: ...

class BoundaryTensor(_message.Message):
    __slots__ = ("route", "call", "side", "name")
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    route: str
    call: int
    side: Side
    name: str
    def __init__(self, route: _Optional[str] = ..., call: _Optional[int] = ..., side: _Optional[_Union[Side, str]] = ..., name: _Optional[str] = ...) -> None: ...

class RecordOptions(_message.Message):
    __slots__ = ("all_routes", "routes", "inputs", "gradients", "sync", "api_calls", "statistics", "draws", "share_draws")
    ALL_ROUTES_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    GRADIENTS_FIELD_NUMBER: _ClassVar[int]
    SYNC_FIELD_NUMBER: _ClassVar[int]
    API_CALLS_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_FIELD_NUMBER: _ClassVar[int]
    DRAWS_FIELD_NUMBER: _ClassVar[int]
    SHARE_DRAWS_FIELD_NUMBER: _ClassVar[int]
    all_routes: bool
    routes: _containers.RepeatedScalarFieldContainer[str]
    inputs: bool
    gradients: bool
    sync: bool
    api_calls: bool
    statistics: _tensor_pb2.Statistics
    draws: _containers.RepeatedScalarFieldContainer[str]
    share_draws: bool
    def __init__(self, all_routes: bool = ..., routes: _Optional[_Iterable[str]] = ..., inputs: bool = ..., gradients: bool = ..., sync: bool = ..., api_calls: bool = ..., statistics: _Optional[_Union[_tensor_pb2.Statistics, str]] = ..., draws: _Optional[_Iterable[str]] = ..., share_draws: bool = ...) -> None: ...

class LossSpec(_message.Message):
    __slots__ = ("name", "options", "outputs")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    options: _containers.ScalarMap[str, float]
    outputs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., options: _Optional[_Mapping[str, float]] = ..., outputs: _Optional[_Iterable[str]] = ...) -> None: ...

class OptimizerSpec(_message.Message):
    __slots__ = ("name", "options")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    options: _containers.ScalarMap[str, float]
    def __init__(self, name: _Optional[str] = ..., options: _Optional[_Mapping[str, float]] = ...) -> None: ...
