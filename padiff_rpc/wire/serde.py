"""Messages <-> domain: one thing_to_proto / thing_from_proto pair per message.

`into`: write into this message, an empty part of another, instead of a new one. What each boundary consists of is written so.
Made by themselves the parts take twice the time. And each time that 10,000 pieces of messages' memory were freed protobuf has
malloc give all that is free back to the system (malloc_trim), the model's too, which then has to be fetched again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from functools import lru_cache
from sys import intern
from typing import Any, TypeVar

from padiff_rpc.errors import PadiffError, Reason
from padiff_rpc.model import model as domain
from padiff_rpc.model.store.arena import Offer
from padiff_rpc.model.store.store import StoreFigures
from padiff_rpc.tensors.tensor import Digest, DType, Statistics, TensorSpec
from padiff_rpc.v1 import model_pb2, tensor_pb2, worker_service_pb2
from padiff_rpc.wire.dtypes import dtype_from_proto, dtype_to_proto

DESCRIPTION_PART_BYTES = 1 << 13
"""About how large one part of a description may be. A part that is read takes several times that."""

_SHARED_COUNT = 256
"""How many values of one kind are known again when they come in once more. A deep model says the same of each of its layers,
so what arrives equal is kept once: names, specs, hyperparameters, calls. That keeps its description and its boundaries small.
"""

T = TypeVar("T")


# -- tensors ------------------------------------------------------------------------------------------------------
def tensor_spec_to_proto(spec: TensorSpec, into: tensor_pb2.TensorSpec | None = None) -> tensor_pb2.TensorSpec:
    proto = tensor_pb2.TensorSpec() if into is None else into
    proto.dtype, proto.size_bytes = dtype_to_proto(spec.dtype), spec.size_bytes
    proto.shape.extend(spec.shape)
    return proto


def tensor_spec_from_proto(proto: tensor_pb2.TensorSpec) -> TensorSpec:
    """Return the spec; DATA_LOSS when size_bytes is not prod(shape) x item size."""
    dtype, shape = dtype_from_proto(proto.dtype), tuple(proto.shape)
    size_bytes = math.prod(shape) * dtype.item_bytes
    if any(length < 0 for length in shape) or size_bytes != proto.size_bytes:
        raise PadiffError(
            f"a tensor header says {proto.size_bytes} bytes, but {dtype.value}{list(shape)} takes {size_bytes}",
            reason=Reason.DATA_LOSS,
        )
    return _shared_spec(dtype, shape)


@lru_cache(_SHARED_COUNT)
def _shared_spec(dtype: DType, shape: tuple[int, ...]) -> TensorSpec:
    return TensorSpec(dtype, shape)


def digest_to_proto(digest: Digest, into: tensor_pb2.Digest | None = None) -> tensor_pb2.Digest:
    proto = tensor_pb2.Digest() if into is None else into
    proto.count, proto.nan_count, proto.inf_count = digest.count, digest.nan_count, digest.inf_count
    proto.min, proto.max, proto.hash = digest.min, digest.max, digest.hash
    if digest.mean is not None:
        proto.mean = digest.mean
    if digest.abs_mean is not None:
        proto.abs_mean = digest.abs_mean
    if digest.norm is not None:
        proto.norm = digest.norm
    return proto


def digest_from_proto(proto: tensor_pb2.Digest) -> Digest:
    return Digest(
        count=proto.count,
        mean=proto.mean if proto.HasField("mean") else None,
        abs_mean=proto.abs_mean if proto.HasField("abs_mean") else None,
        norm=proto.norm if proto.HasField("norm") else None,
        min=proto.min,
        max=proto.max,
        nan_count=proto.nan_count,
        inf_count=proto.inf_count,
        hash=proto.hash,
    )


def statistics_to_proto(statistics: Statistics) -> tensor_pb2.Statistics:
    return _STATISTICS_TO_PROTO[statistics]


def statistics_from_proto(proto: int) -> Statistics:
    """Return which are asked for: all, where nothing is said."""
    return _known(_STATISTICS_FROM_PROTO, proto, "choice of statistics") if proto else Statistics.ALL


# -- what a model is ----------------------------------------------------------------------------------------------
def parameter_info_to_proto(info: domain.ParameterInfo) -> model_pb2.ParameterInfo:
    return model_pb2.ParameterInfo(
        name=info.name,
        kind=_KIND_TO_PROTO[info.kind],
        spec=tensor_spec_to_proto(info.spec),
        trainable=info.trainable,
        aliases=info.aliases,
    )


def parameter_info_from_proto(proto: model_pb2.ParameterInfo) -> domain.ParameterInfo:
    return domain.ParameterInfo(
        name=intern(proto.name),
        kind=_known(_KIND_FROM_PROTO, proto.kind, "kind of parameter"),
        spec=tensor_spec_from_proto(proto.spec),
        trainable=proto.trainable,
        aliases=tuple(map(intern, proto.aliases)),
    )


def layer_info_to_proto(info: domain.LayerInfo) -> model_pb2.LayerInfo:
    return model_pb2.LayerInfo(
        route=info.route,
        class_name=info.class_name,
        class_path=info.class_path,
        children=info.children,
        parameters=info.parameters,
        hyperparameters=[
            model_pb2.Hyperparameter(name=name, json=json.dumps(value)) for name, value in info.hyperparameters.items()
        ],
        training=info.training,
        aliases=info.aliases,
    )


def layer_info_from_proto(proto: model_pb2.LayerInfo) -> domain.LayerInfo:
    return domain.LayerInfo(
        route=intern(proto.route),
        class_name=intern(proto.class_name),
        class_path=intern(proto.class_path),
        children=tuple(map(intern, proto.children)),
        parameters=tuple(map(intern, proto.parameters)),
        hyperparameters=_shared_hyperparameters(tuple((item.name, item.json) for item in proto.hyperparameters)),
        training=proto.training,
        aliases=tuple(map(intern, proto.aliases)),
    )


@lru_cache(_SHARED_COUNT)
def _shared_hyperparameters(items: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    return {name: json.loads(text) for name, text in items}


def description_to_proto(description: domain.ModelDescription) -> Iterator[model_pb2.ModelDescription]:
    """Cut into parts of about DESCRIPTION_PART_BYTES; at least one."""
    part = model_pb2.ModelDescription(framework=description.framework, class_name=description.class_name)
    size_bytes = 0
    items = [*map(layer_info_to_proto, description.layers), *map(parameter_info_to_proto, description.parameters)]
    for item in items:
        if size_bytes and size_bytes + item.ByteSize() > DESCRIPTION_PART_BYTES:
            yield part
            part, size_bytes = model_pb2.ModelDescription(), 0
        if isinstance(item, model_pb2.LayerInfo):
            part.layers.append(item)
        else:
            part.parameters.append(item)
        size_bytes += item.ByteSize()
    yield part


def description_from_proto(parts: Iterable[model_pb2.ModelDescription]) -> domain.ModelDescription:
    """Join the parts, each as it comes; the first names the model."""
    framework = class_name = ""
    layers: list[domain.LayerInfo] = []
    parameters: list[domain.ParameterInfo] = []
    for part in parts:
        framework, class_name = framework or part.framework, class_name or part.class_name
        layers += map(layer_info_from_proto, part.layers)
        parameters += map(parameter_info_from_proto, part.parameters)
    return domain.ModelDescription(framework, class_name, tuple(layers), tuple(parameters))


def model_info_to_proto(info: domain.ModelInfo) -> model_pb2.ModelInfo:
    return model_pb2.ModelInfo(
        framework=info.framework,
        framework_version=info.framework_version,
        device=info.device,
        python_version=info.python_version,
        packages=dict(info.packages),
        padiff_version=info.padiff_version,
        host=info.host,
        pid=info.pid,
        losses=info.losses,
        optimizers=info.optimizers,
        store_memory_bytes=info.store_memory_bytes,
        store_disk_bytes=info.store_disk_bytes,
    )


def model_info_from_proto(proto: model_pb2.ModelInfo) -> domain.ModelInfo:
    return domain.ModelInfo(
        framework=proto.framework,
        framework_version=proto.framework_version,
        device=proto.device,
        python_version=proto.python_version,
        packages=dict(proto.packages),
        padiff_version=proto.padiff_version,
        host=proto.host,
        pid=proto.pid,
        losses=tuple(proto.losses),
        optimizers=tuple(proto.optimizers),
        store_memory_bytes=proto.store_memory_bytes,
        store_disk_bytes=proto.store_disk_bytes,
    )


# -- what a step records --------------------------------------------------------------------------------------------
def record_to_proto(record: domain.Record, into: model_pb2.Record | None = None) -> model_pb2.Record:
    proto = model_pb2.Record() if into is None else into
    proto.id, proto.name = record.id, record.name
    tensor_spec_to_proto(record.spec, proto.spec)
    digest_to_proto(record.digest, proto.digest)
    if record.place is not None:
        place_to_proto(record.place, proto.place)
    return proto


def record_from_proto(proto: model_pb2.Record) -> domain.Record:
    return domain.Record(
        id=proto.id,
        name=intern(proto.name),
        spec=tensor_spec_from_proto(proto.spec),
        digest=digest_from_proto(proto.digest),
        place=place_from_proto(proto.place) if proto.HasField("place") else None,
    )


def place_to_proto(place: domain.StorePlace, into: model_pb2.Place | None = None) -> model_pb2.Place:
    proto = model_pb2.Place() if into is None else into
    proto.offset, proto.generation = place.offset, place.generation
    return proto


def place_from_proto(proto: model_pb2.Place) -> domain.StorePlace:
    return domain.StorePlace(proto.offset, proto.generation)


def boundary_to_proto(boundary: domain.Boundary, into: model_pb2.Boundary | None = None) -> model_pb2.Boundary:
    proto = model_pb2.Boundary() if into is None else into
    proto.seq, proto.phase = boundary.seq, _PHASE_TO_PROTO[boundary.phase]
    proto.route, proto.call, proto.side = boundary.route, boundary.call, _SIDE_TO_PROTO[boundary.side]
    proto.api = boundary.api
    if boundary.caller is not None:
        proto.caller.route, proto.caller.call = boundary.caller
    for record in boundary.records:
        record_to_proto(record, proto.records.add())
    return proto


def boundary_from_proto(proto: model_pb2.Boundary) -> domain.Boundary:
    return domain.Boundary(
        seq=proto.seq,
        phase=_known(_PHASE_FROM_PROTO, proto.phase, "phase"),
        route=intern(proto.route),
        call=proto.call,
        side=_known(_SIDE_FROM_PROTO, proto.side, "side"),
        caller=_shared_call(intern(proto.caller.route), proto.caller.call) if proto.HasField("caller") else None,
        records=tuple(map(record_from_proto, proto.records)),
        api=proto.api,
    )


@lru_cache(_SHARED_COUNT)
def _shared_call(route: str, call: int) -> tuple[str, int]:
    return route, call


def record_options_to_proto(options: domain.RecordOptions) -> model_pb2.RecordOptions:
    return model_pb2.RecordOptions(
        all_routes=options.routes is None,
        routes=options.routes or (),
        inputs=options.inputs,
        gradients=options.gradients,
        sync=options.sync,
        api_calls=options.api_calls,
        statistics=statistics_to_proto(options.statistics),
    )


def record_options_from_proto(proto: model_pb2.RecordOptions) -> domain.RecordOptions:
    return domain.RecordOptions(
        routes=None if proto.all_routes else tuple(proto.routes),
        inputs=proto.inputs,
        gradients=proto.gradients,
        sync=proto.sync,
        api_calls=proto.api_calls,
        statistics=statistics_from_proto(proto.statistics),
    )


# -- running ----------------------------------------------------------------------------------------------------------
def forward_header_to_proto(
    session_id: str, request: domain.ForwardRequest, inputs_json: str, tensor_count: int, observed: bool
) -> worker_service_pb2.ForwardHeader:
    """`inputs_json` stands for request.inputs (see padiff_rpc/model/inputs_as_json.py)."""
    header = worker_service_pb2.ForwardHeader(
        session_id=session_id,
        inputs_json=inputs_json,
        seed=request.seed,
        gradients=request.gradients,
        record=None if request.record is None else record_options_to_proto(request.record),
        tensor_count=tensor_count,
        observed=observed,
    )
    if request.training is not None:
        header.training = request.training
    return header


def forward_header_from_proto(proto: worker_service_pb2.ForwardHeader, inputs: domain.Inputs) -> domain.ForwardRequest:
    """`inputs` were put together from the header's inputs_json and the tensors that followed it."""
    return domain.ForwardRequest(
        inputs=inputs,
        training=proto.training if proto.HasField("training") else None,
        seed=proto.seed if proto.HasField("seed") else None,
        gradients=proto.gradients,
        record=record_options_from_proto(proto.record) if proto.HasField("record") else None,
    )


def forward_result_to_proto(result: domain.ForwardResult) -> worker_service_pb2.ForwardResult:
    return worker_service_pb2.ForwardResult(outputs=map(record_to_proto, result.outputs), wall_s=result.wall_s)


def forward_result_from_proto(proto: worker_service_pb2.ForwardResult) -> domain.ForwardResult:
    return domain.ForwardResult(outputs=tuple(map(record_from_proto, proto.outputs)), wall_s=proto.wall_s)


def backward_result_to_proto(result: domain.BackwardResult) -> worker_service_pb2.BackwardResult:
    return worker_service_pb2.BackwardResult(
        loss=result.loss,
        without_gradient=[
            model_pb2.BoundaryTensor(route=route, call=call, side=_SIDE_TO_PROTO[side], name=name)
            for route, call, side, name in result.without_gradient
        ],
        wall_s=result.wall_s,
    )


def backward_result_from_proto(proto: worker_service_pb2.BackwardResult) -> domain.BackwardResult:
    return domain.BackwardResult(
        loss=proto.loss,
        without_gradient=tuple(
            (item.route, item.call, _known(_SIDE_FROM_PROTO, item.side, "side"), item.name)
            for item in proto.without_gradient
        ),
        wall_s=proto.wall_s,
    )


def store_offer_to_proto(offer: Offer) -> worker_service_pb2.StoreOffer:
    return worker_service_pb2.StoreOffer(**vars(offer))


def store_offer_from_proto(proto: worker_service_pb2.StoreOffer) -> Offer:
    return Offer(pid=proto.pid, descriptor=proto.descriptor, size_bytes=proto.size_bytes, nonce=proto.nonce)


def store_figures_to_proto(figures: StoreFigures) -> worker_service_pb2.GetStoreFiguresResponse:
    return worker_service_pb2.GetStoreFiguresResponse(**asdict(figures))


def store_figures_from_proto(proto: worker_service_pb2.GetStoreFiguresResponse) -> StoreFigures:
    return StoreFigures(**{field.name: getattr(proto, field.name) for field in fields(StoreFigures)})


def loss_spec_to_proto(loss: domain.LossSpec) -> model_pb2.LossSpec:
    """Without the targets: these follow as tensors."""
    return model_pb2.LossSpec(name=loss.name, options=dict(loss.options), outputs=loss.outputs)


def loss_spec_from_proto(proto: model_pb2.LossSpec) -> domain.LossSpec:
    return domain.LossSpec(proto.name, dict(proto.options), outputs=tuple(proto.outputs))


def optimizer_spec_to_proto(optimizer: domain.OptimizerSpec) -> model_pb2.OptimizerSpec:
    return model_pb2.OptimizerSpec(name=optimizer.name, options=dict(optimizer.options))


def optimizer_spec_from_proto(proto: model_pb2.OptimizerSpec) -> domain.OptimizerSpec:
    return domain.OptimizerSpec(proto.name, dict(proto.options))


def what_to_proto(what: domain.What) -> worker_service_pb2.What:
    return _WHAT_TO_PROTO[what]


def what_from_proto(value: int) -> domain.What:
    return _known(_WHAT_FROM_PROTO, value, "kind of tensor")


def _known(table: dict[int, T], value: int, what: str) -> T:
    if value not in table:
        raise PadiffError(
            f"the peer sent a {what} of number {value!r}, which this side does not know",
            reason=Reason.NOT_SUPPORTED,
            hint="upgrade padiff-rpc on this side",
        )
    return table[value]


_KIND_TO_PROTO: dict[domain.ParameterKind, model_pb2.ParameterKind] = {
    "parameter": model_pb2.PARAMETER_KIND_PARAMETER,
    "buffer": model_pb2.PARAMETER_KIND_BUFFER,
}
_KIND_FROM_PROTO: dict[int, domain.ParameterKind] = {int(value): key for key, value in _KIND_TO_PROTO.items()}
_STATISTICS_TO_PROTO: dict[Statistics, tensor_pb2.Statistics] = {
    Statistics.ALL: tensor_pb2.STATISTICS_ALL,
    Statistics.MEAN: tensor_pb2.STATISTICS_MEAN,
    Statistics.ABS_MEAN: tensor_pb2.STATISTICS_ABS_MEAN,
    Statistics.SIZES: tensor_pb2.STATISTICS_SIZES,
}
_STATISTICS_FROM_PROTO: dict[int, Statistics] = {int(value): key for key, value in _STATISTICS_TO_PROTO.items()}
_PHASE_TO_PROTO: dict[domain.Phase, model_pb2.Phase] = {
    "forward": model_pb2.PHASE_FORWARD,
    "backward": model_pb2.PHASE_BACKWARD,
}
_PHASE_FROM_PROTO: dict[int, domain.Phase] = {int(value): key for key, value in _PHASE_TO_PROTO.items()}
_SIDE_TO_PROTO: dict[domain.BoundarySide, model_pb2.Side] = {
    "input": model_pb2.SIDE_INPUT,
    "output": model_pb2.SIDE_OUTPUT,
}
_SIDE_FROM_PROTO: dict[int, domain.BoundarySide] = {int(value): key for key, value in _SIDE_TO_PROTO.items()}
_WHAT_TO_PROTO: dict[domain.What, worker_service_pb2.What] = {
    "value": worker_service_pb2.WHAT_VALUE,
    "gradient": worker_service_pb2.WHAT_GRADIENT,
}
_WHAT_FROM_PROTO: dict[int, domain.What] = {int(value): key for key, value in _WHAT_TO_PROTO.items()}
